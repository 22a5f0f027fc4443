//! Publishing doorbells, and noting in the store which ones the broker has confirmed; both in
//! batches.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ApiError;
use domain::call::LeaseRef;
#[cfg(feature = "planted-bugs")]
use nodekit::fail_point::{Bug, is_planted};
use nodekit::fail_point::{Step, fail_point};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use crate::calls::batcher::{Batcher, Commit};
use crate::calls::outage::Outage;
use crate::calls::panics::caught;
use crate::queue::Queue;
use crate::store::{CallStore, Doorbell};

/// Publishes doorbells; answers whether each was confirmed.
pub(super) struct Publish {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) confirm: Batcher<Confirm>,
    #[cfg(feature = "planted-bugs")]
    pub(super) store: Arc<dyn CallStore>,
}

#[async_trait]
impl Commit for Publish {
    type Item = Doorbell;
    type Answer = bool;
    const KEEPS_ABANDONED: bool = true;

    async fn commit(
        &self,
        doorbells: Vec<Doorbell>,
    ) -> Result<Vec<Result<bool, ApiError>>, ApiError> {
        #[cfg(feature = "planted-bugs")]
        if is_planted(Bug::ForgottenBeforeConfirm) {
            let rung = doorbells.iter().map(|doorbell| doorbell.lease.clone());
            self.store.confirm_doorbells(rung.collect()).await?;
        }
        let published = caught(async { Ok(self.queue.publish(&doorbells).await) }).await;
        // What is under way must not stay so: nobody would ring for it again.
        let confirmed = published.unwrap_or_else(|error| {
            tracing::error!(?error, "doorbells could not be published");
            vec![false; doorbells.len()]
        });
        fail_point(Step::PublishBeforeConfirm);
        #[cfg(feature = "planted-bugs")]
        let confirmed = match is_planted(Bug::RelayWithoutConfirms) {
            true => vec![true; doorbells.len()],
            false => confirmed,
        };
        for (doorbell, confirmed) in doorbells.iter().zip(&confirmed) {
            // What the broker has not confirmed stays in the store, and is published again.
            if !confirmed {
                self.ledger.failed(doorbell);
            } else if self.confirm.hand_in(doorbell.lease.clone()).is_err() {
                // The row stays, and rings once more than it has to.
                self.ledger.settled(std::slice::from_ref(&doorbell.lease));
            }
        }
        if confirmed.contains(&false) {
            self.ledger.hold();
        } else {
            self.ledger.confirms();
        }
        Ok(confirmed.into_iter().map(Ok).collect())
    }
}

/// Notes that doorbells are rung, however long that takes.
pub(super) struct Confirm {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) closing: CancellationToken,
}

#[async_trait]
impl Commit for Confirm {
    type Item = LeaseRef;
    type Answer = ();
    const KEEPS_ABANDONED: bool = true;

    async fn commit(&self, rung: Vec<LeaseRef>) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        fail_point(Step::ConfirmBeforeForget);
        // Of calls that were claimed meanwhile there is nothing to be noted.
        let waiting = self.ledger.under_way(&rung);
        let mut outage = Outage::none("confirmed doorbells");
        loop {
            let error = match self.store.confirm_doorbells(waiting.clone()).await {
                Ok(()) => {
                    outage.over();
                    break;
                }
                Err(error) => error,
            };
            let pause = outage.failed(&error);
            // An error of the data would stay; the doorbells ring again, which does no harm.
            if self.closing.is_cancelled() || !error.code().retryable() {
                break;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.closing.cancelled() => {}
            }
        }
        self.ledger.settled(&waiting);
        Ok(rung.iter().map(|_| Ok(())).collect())
    }
}
