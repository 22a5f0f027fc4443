//! Claims a batch of calls for one runner, and passes them on.

use std::sync::Arc;

use domain::call::{LeasedCall, Refused};
use domain::{ApiError, CallId};
use hybrid_client::Work;
use nodekit::fail_point::{Step, fail_point};

use super::Dispatcher;
use super::book;
use crate::calls::panics::caught;
use crate::queue::Receipt;
use crate::store::Claimed;

/// A call for which there is a slot, with the message that told of it.
pub(super) type Placed = book::Placed<Box<dyn Receipt>>;

/// One of the claims that are under way, until it is dropped.
pub(super) struct Claiming(pub(super) Dispatcher);

impl Drop for Claiming {
    fn drop(&mut self) {
        self.0.desk().claims -= 1;
        self.0.0.changed.notify_one();
    }
}

/// Claims `batch`, all of it for one stream of `runner`.
pub(super) async fn claim(claiming: Claiming, runner: Arc<str>, batch: Vec<Placed>) {
    let dispatcher = &claiming.0;
    // The semaphore is never closed.
    let _permit = dispatcher.0.claims.acquire().await;
    #[cfg(feature = "planted-bugs")]
    let mut batch = batch;
    #[cfg(feature = "planted-bugs")]
    super::planted::acknowledge_too_early(&mut batch).await;
    fail_point(Step::DeliveryBeforeClaim);
    let calls = calls_of(&batch);
    match store_claim(dispatcher, &runner, calls).await {
        Ok(claimed) => {
            fail_point(Step::ClaimBeforeAck);
            dispatcher.desk().resume();
            for (placed, claimed) in batch.into_iter().zip(claimed) {
                settle(dispatcher, placed, claimed);
            }
        }
        // One that cannot be claimed must not stay in the way of the others.
        Err(error) if !error.code().retryable() => {
            tracing::warn!(?error, "calls are claimed one by one");
            for placed in batch {
                claim_alone(dispatcher, &runner, placed).await;
            }
        }
        Err(error) => {
            for placed in batch {
                put_back(dispatcher, placed, &error);
            }
        }
    }
}

async fn claim_alone(dispatcher: &Dispatcher, runner: &str, placed: Placed) {
    let call = placed.waiting.doorbell.lease.call_id.clone();
    let claimed = store_claim(dispatcher, runner, vec![call.clone()]).await;
    match claimed.map(|claimed| claimed.into_iter().next()) {
        Ok(Some(claimed)) => settle(dispatcher, placed, claimed),
        Err(error) if error.code().retryable() => put_back(dispatcher, placed, &error),
        failed => {
            tracing::error!(%call, ?failed, "a call cannot be claimed");
            // It rings again when it was silent for long enough.
            refuse(dispatcher, placed);
        }
    }
}

/// The calls of a batch.
fn calls_of(batch: &[Placed]) -> Vec<CallId> {
    let doorbells = batch.iter().map(|placed| &placed.waiting.doorbell);
    doorbells
        .map(|doorbell| doorbell.lease.call_id.clone())
        .collect()
}

async fn store_claim(
    dispatcher: &Dispatcher,
    runner: &str,
    calls: Vec<CallId>,
) -> Result<Vec<Claimed>, ApiError> {
    let asked = calls.len();
    let store = &dispatcher.0.parts.store;
    // A call that cannot be read is claimed alone after that, and is left to itself.
    let claimed = caught(store.claim(calls, runner, dispatcher.lease())).await?;
    if claimed.len() == asked {
        return Ok(claimed);
    }
    let found = claimed.len();
    Err(ApiError::internal(format!(
        "{found} answers for {asked} claims"
    )))
}

/// What the store says of the call is committed, so that its message is done with.
fn settle(dispatcher: &Dispatcher, placed: Placed, claimed: Claimed) {
    match claimed {
        Claimed::Leased(call) => hand_over(dispatcher, placed, call),
        // The call is over: its place in the window is free.
        Claimed::FunctionDeleted | Claimed::Refused(Refused::Expired | Refused::Over) => {
            let relay = &dispatcher.0.parts.relay;
            relay.answered(&placed.waiting.doorbell);
            refuse(dispatcher, placed);
        }
        // The message was doubled, late or early.
        Claimed::Refused(_) | Claimed::Unknown => refuse(dispatcher, placed),
    }
}

fn hand_over(dispatcher: &Dispatcher, placed: Placed, call: Box<LeasedCall>) {
    let lease = call.lease.clone();
    let now = dispatcher.now();
    let sent = {
        let mut desk = dispatcher.desk();
        desk.book.leased(&placed, lease.clone(), now);
        desk.book.queued(placed.link, call.body.len());
        match desk.links.get(&placed.link) {
            Some(queue) => queue.try_send(Work::Run(call)).is_ok(),
            None => false,
        }
    };
    let relay = &dispatcher.0.parts.relay;
    relay.answered(&placed.waiting.doorbell);
    placed.waiting.token.ack();
    if !sent {
        dispatcher.give_back(placed.runner, lease);
    }
}

fn refuse(dispatcher: &Dispatcher, placed: Placed) {
    dispatcher.desk().book.refused(&placed);
    placed.waiting.token.ack();
}

fn put_back(dispatcher: &Dispatcher, placed: Placed, error: &ApiError) {
    let mut desk = dispatcher.desk();
    desk.pause(error);
    if desk.serving {
        return desk.book.put_back(placed);
    }
    // Nobody would place it here: without its receipt it is delivered again, or published.
    desk.book.refused(&placed);
    drop(desk);
    drop(placed);
}
