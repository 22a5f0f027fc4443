//! The use cases of durable calls: they are accepted, told of through the queue, handed to runners that
//! have room, and brought to one end each. The store is the truth; everything here may be lost at
//! any moment, on any of several API nodes that work on one database side by side.

mod callbacks;
mod metrics;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use domain::call::new_call::Accepted;
use domain::call::{AttemptEnd, CallResult, LeaseRef, NewCall};
use domain::{ApiError, CallId, CallRecord, ErrorCode, FnId, IdSource};
use hybrid_client::{BeginKeyed, CallPlane, Dequeue, Keyed, LogChunk, WorkSource};

use crate::logs::LogStore;
use crate::queue::Queue;
use crate::store::{CallStore, Store};

pub use callbacks::{Network, NoNetwork};
pub use metrics::CallsMetrics;
pub use settings::{CallbackSettings, CallsSettings};

/// A store that keeps calls, too.
pub trait CallsStore: Store + CallStore {}

impl<T: Store + CallStore + ?Sized> CallsStore for T {}

/// What the service is made of.
pub struct CallsParts {
    /// Where everything is kept.
    pub store: Arc<dyn CallsStore>,
    /// How other nodes are told that calls wait.
    pub queue: Arc<dyn Queue>,
    /// Where the logs of calls are kept.
    pub logs: Arc<dyn LogStore>,
    /// Where the ids of calls come from.
    pub ids: Arc<IdSource>,
    /// How it behaves.
    pub settings: CallsSettings,
    /// What it counts.
    pub metrics: CallsMetrics,
}

/// The service of durable calls on this node. Clones share it.
#[derive(Clone)]
pub struct Calls {
    parts: Arc<CallsParts>,
}

impl Calls {
    /// Starts to publish doorbells, to hand calls to runners and to clean up, until
    /// [`Calls::close`].
    pub fn start(parts: CallsParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// Ends everything that was started, within seconds. Runners get no more calls; those that they have
    /// can be ended through another node.
    pub async fn close(&self) {
        self.parts.queue.close().await;
    }

    /// Where everything is kept.
    pub fn store(&self) -> &Arc<dyn CallsStore> {
        &self.parts.store
    }

    /// Where the logs of calls are kept.
    pub fn logs(&self) -> &Arc<dyn LogStore> {
        &self.parts.logs
    }

    /// Cancels a call, and tells the runner that has it. A call that was cancelled before is answered
    /// as it is.
    ///
    /// # Errors
    /// `CallNotFound`, `CallNotCancellable`, `StoreUnavailable`.
    pub async fn cancel(&self, id: &CallId) -> Result<CallRecord, ApiError> {
        Ok(self.parts.store.cancel(id).await?.call)
    }

    /// Makes new calls of dead ones, each with an answer of its own in the same order: `CallNotFound`,
    /// `CallNotDead`, `FnNotFound`.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn redrive(
        &self,
        ids: Vec<CallId>,
    ) -> Result<Vec<Result<Accepted, ApiError>>, ApiError> {
        let calls = ids
            .into_iter()
            .map(|id| (id, self.parts.ids.next(0).into()))
            .collect();
        let made = self.parts.store.redrive(calls).await?;
        Ok(made
            .into_iter()
            .map(|made| made.map(|made| made.accepted))
            .collect())
    }

    /// Deletes dead calls with all that belongs to them, their logs too; returns how many.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn purge(&self, ids: Vec<CallId>) -> Result<u64, ApiError> {
        let purged = self.parts.store.purge(ids.clone()).await?;
        self.parts.logs.delete(&ids).await?;
        Ok(purged)
    }
}

#[async_trait]
impl CallPlane for Calls {
    async fn enqueue(&self, _call: NewCall) -> Result<Accepted, ApiError> {
        Err(ErrorCode::ServerBusy.into())
    }

    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError> {
        self.parts.store.record(calls).await
    }

    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError> {
        self.parts.store.begin_keyed(begin).await
    }

    async fn end_keyed(
        &self,
        fn_id: FnId,
        key: String,
        call_id: CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError> {
        let store = &self.parts.store;
        store.end_keyed(&fn_id, &key, &call_id, result).await
    }
}

#[async_trait]
impl WorkSource for Calls {
    async fn dequeue(&self, _runner_id: Arc<str>, _capacity: u32) -> Result<Dequeue, ApiError> {
        Err(ErrorCode::ServerBusy.into())
    }

    async fn start(&self, _runner_id: &str, _lease: LeaseRef) -> Result<(), ApiError> {
        Err(ErrorCode::ServerBusy.into())
    }

    async fn renew(
        &self,
        runner_id: &str,
        leases: Vec<LeaseRef>,
    ) -> Result<(Vec<LeaseRef>, std::time::Duration), ApiError> {
        let lease = self.parts.settings.lease;
        let held = self.parts.store.renew(leases, runner_id, lease).await?;
        Ok((held, lease))
    }

    async fn finish(&self, _runner_id: &str, _end: AttemptEnd) -> Result<bool, ApiError> {
        Err(ErrorCode::ServerBusy.into())
    }

    async fn append_logs(&self, _runner_id: &str, chunks: Vec<LogChunk>) -> Result<(), ApiError> {
        self.parts.logs.append(chunks).await
    }
}
