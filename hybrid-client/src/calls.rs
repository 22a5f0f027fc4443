//! What load balancers and runners ask of API nodes about calls: the seams `CallPlane` and
//! `WorkSource`. In one process the API node implements them itself; across the network
//! `RemoteCalls` does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::call::new_call::Accepted;
use domain::call::{AttemptEnd, CallResult, LeaseRef, LeasedCall, NewCall};
use domain::{ApiError, CallId, CallRecord, FnId};
use tokio::sync::mpsc;

/// What a front door asks about calls.
#[async_trait]
pub trait CallPlane: Send + Sync + 'static {
    /// Accepts a durable call: when this returns, it is committed. Handing in the same call again
    /// changes nothing.
    ///
    /// # Errors
    /// `FnNotFound`, `InvalidCallOption`, `RequestTooLarge`, `IdempotencyKeyReused`,
    /// `IdempotencyKeyInUse`, `StoreUnavailable` (it may or may not have been accepted).
    async fn enqueue(&self, call: NewCall) -> Result<Accepted, ApiError>;

    /// Records calls whose clients waited for them, and that are over.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError>;

    /// Begins a call with an idempotency key, whose client waits for it.
    ///
    /// # Errors
    /// `IdempotencyKeyReused`, `IdempotencyKeyInUse`, `StoreUnavailable`.
    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError>;

    /// Says what came of a call that [`CallPlane::begin_keyed`] told to make; without a result the
    /// key is free again.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    async fn end_keyed(
        &self,
        fn_id: FnId,
        key: String,
        call_id: CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError>;
}

/// A call with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginKeyed {
    /// The function.
    pub fn_id: FnId,
    /// The key.
    pub key: String,
    /// Tells requests apart that have one key.
    pub fingerprint: Bytes,
    /// The call that will be made.
    pub call_id: CallId,
    /// How long the key is held for it.
    pub hold: Duration,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// Nothing yet: the call is to be made.
    Fresh,
    /// A call that was made.
    Made {
        /// That call.
        call_id: CallId,
        /// What came of it.
        result: CallResult,
    },
}

/// Where a runner gets durable calls from.
#[async_trait]
pub trait WorkSource: Send + Sync + 'static {
    /// Begins to dequeue for the runner `runner_id`, which can run about `capacity` calls at once.
    /// Nothing is sent before credits are granted.
    ///
    /// # Errors
    /// `StoreUnavailable` when no API node can be reached.
    async fn dequeue(&self, runner_id: Arc<str>, capacity: u32) -> Result<Dequeue, ApiError>;

    /// The function is about to see the call.
    ///
    /// # Errors
    /// `CallLeaseLost`: it must not run. `StoreUnavailable`: it is not known.
    async fn start(&self, runner_id: &str, lease: LeaseRef) -> Result<(), ApiError>;

    /// These calls are still being run. Returns those whose leases hold, for so long from now.
    ///
    /// # Errors
    /// `StoreUnavailable`: it is not known.
    async fn renew(
        &self,
        runner_id: &str,
        leases: Vec<LeaseRef>,
    ) -> Result<(Vec<LeaseRef>, Duration), ApiError>;

    /// Says what came of a call. Returns whether the lease held, and the outcome counts; repeating it
    /// changes nothing.
    ///
    /// # Errors
    /// `StoreUnavailable`: it is not known.
    async fn finish(&self, runner_id: &str, end: AttemptEnd) -> Result<bool, ApiError>;

    /// More of what functions printed. What was appended before is not appended again.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    async fn append_logs(&self, runner_id: &str, chunks: Vec<LogChunk>) -> Result<(), ApiError>;
}

/// A part of the log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The attempt.
    pub lease: LeaseRef,
    /// Where it begins in that attempt's log, in bytes.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
}

/// A running dequeue. It ends when this is dropped: whoever cannot send a call any more that it has
/// claimed gives the claim back.
#[derive(Debug)]
pub struct Dequeue {
    /// Grants credits: each allows one more call to be sent. When this is dropped alone, nothing more
    /// is claimed; what was claimed before still comes, and then the work ends.
    pub credits: mpsc::Sender<u32>,
    /// What comes; ends when the connection is lost, and with it all credits.
    pub work: mpsc::Receiver<Work>,
}

/// What a runner is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A call to run; uses up one credit.
    Run(Box<LeasedCall>),
    /// The lease is over: the call was cancelled, and is to be stopped if it runs.
    Cancelled(LeaseRef),
}
