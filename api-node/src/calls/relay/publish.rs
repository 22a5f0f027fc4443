//! Publishing doorbells, and forgetting those that the broker has confirmed; both in batches.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ApiError;
use domain::call::LeaseRef;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use crate::calls::batcher::{Batcher, Commit};
use crate::calls::outage::Outage;
use crate::queue::Queue;
use crate::store::{CallStore, Doorbell};

/// Publishes doorbells; answers whether each was confirmed.
pub(super) struct Publish {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) forget: Batcher<Forget>,
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
        let confirmed = self.queue.publish(&doorbells).await;
        for (doorbell, confirmed) in doorbells.iter().zip(&confirmed) {
            // What the broker has not confirmed stays in the store, and is published again.
            if !confirmed {
                self.ledger.failed(doorbell);
            } else if self.forget.hand_in(doorbell.lease.clone()).is_err() {
                // The row stays, and rings once more than it has to.
                self.ledger.forgotten(std::slice::from_ref(&doorbell.lease));
            }
        }
        if confirmed.contains(&false) {
            self.ledger.look.notify_one();
        }
        Ok(confirmed.into_iter().map(Ok).collect())
    }
}

/// Forgets doorbells that were confirmed, however long that takes.
pub(super) struct Forget {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) closing: CancellationToken,
}

#[async_trait]
impl Commit for Forget {
    type Item = LeaseRef;
    type Answer = ();
    const KEEPS_ABANDONED: bool = true;

    async fn commit(&self, rung: Vec<LeaseRef>) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        let mut outage = Outage::none("confirmed doorbells");
        loop {
            let error = match self.store.confirm_doorbells(rung.clone()).await {
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
        self.ledger.forgotten(&rung);
        Ok(rung.iter().map(|_| Ok(())).collect())
    }
}
