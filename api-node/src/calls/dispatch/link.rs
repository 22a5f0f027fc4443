//! The stream on which one runner gets calls: takes its credits, and passes calls on one by one, so
//! that few are lost when it breaks.

use std::sync::Arc;

use domain::call::{AttemptEnd, AttemptOutcome, LeaseRef};
use hybrid_client::{Dequeue, Work};
use nodekit::fail_point::{Step, fail_point};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Dispatcher;
use super::book::{LinkId, MAX_CREDITS};
use crate::calls::outage::Outage;
use crate::calls::writes::FINISH_LIMIT;

/// Grants that may wait to be counted.
const GRANTS: usize = 64;
/// Calls use up credits, so that there are never more than those. Cancellations that do not fit are
/// dropped: the runner finds out when it renews its leases.
const QUEUE: usize = MAX_CREDITS as usize + 1024;

/// Opens a stream for the runner, and keeps it up until the runner or the node goes.
pub(super) fn open(dispatcher: &Dispatcher, runner: Arc<str>, capacity: u32) -> Dequeue {
    let (credits, granted) = mpsc::channel(GRANTS);
    let (queue, waiting) = mpsc::channel(QUEUE);
    // What is in this channel when the stream breaks is lost until its lease runs out.
    let (out, work) = mpsc::channel(1);
    let number = dispatcher.join(Arc::clone(&runner), capacity, queue);
    let link = Link {
        dispatcher: dispatcher.clone(),
        runner,
        number,
    };
    dispatcher
        .tasks()
        .spawn(async move { link.run(granted, waiting, out).await });
    Dequeue { credits, work }
}

struct Link {
    dispatcher: Dispatcher,
    runner: Arc<str>,
    number: LinkId,
}

impl Link {
    async fn run(
        self,
        mut granted: mpsc::Receiver<u32>,
        mut waiting: mpsc::Receiver<Work>,
        out: mpsc::Sender<Work>,
    ) {
        let stop = self.dispatcher.stopping().clone();
        let mut grants = true;
        let mut next = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = out.closed() => break,
                credits = granted.recv(), if grants => match credits {
                    Some(credits) => self.dispatcher.grant(self.number, credits),
                    // The runner grants no more, and may still take what it granted.
                    None => grants = false,
                },
                work = waiting.recv(), if next.is_none() => next = work,
                room = out.reserve(), if next.is_some() => match (room, next.take()) {
                    (Ok(room), Some(work)) => {
                        fail_point(Step::AckBeforePush);
                        self.dispatcher.read(self.number, &work);
                        room.send(work);
                    }
                    (_, unsent) => {
                        next = unsent;
                        break;
                    }
                },
            }
        }
        // From now on nothing is queued here.
        self.dispatcher.leave(self.number);
        waiting.close();
        while let Some(work) = match next.take() {
            Some(work) => Some(work),
            None => waiting.recv().await,
        } {
            if let Work::Run(call) = work {
                self.dispatcher
                    .give_back(Arc::clone(&self.runner), call.lease);
            }
        }
    }
}

/// Gives a call back that its runner never saw; tries until its lease has run out anyway.
pub(super) async fn give_back(dispatcher: Dispatcher, runner: Arc<str>, lease: LeaseRef) {
    let until = Instant::now() + dispatcher.lease();
    let mut outage = Outage::none("calls that are given back");
    dispatcher.over(&lease);
    loop {
        let end = AttemptEnd {
            lease: lease.clone(),
            outcome: AttemptOutcome::Returned,
        };
        let ended = (end, runner.to_string());
        match dispatcher.ends().submit(ended, FINISH_LIMIT).await {
            Ok(_) => return outage.over(),
            Err(error) if error.code().retryable() && Instant::now() < until => {
                let pause = outage.failed(&error);
                tokio::select! {
                    () = sleep(pause) => {}
                    () = dispatcher.stopping().cancelled() => return,
                }
            }
            Err(error) => {
                tracing::warn!(%lease, ?error, "a call is left to its lease");
                return;
            }
        }
    }
}
