//! What the use cases of calls need of the store: acceptance, claims, ends, doorbells, and the
//! searches of the reconcilers. Rules are those of [`domain::call::machine`]; a store applies them in
//! transactions, so that of two moves of one call the second sees the first.
//!
//! All times are judged by the database's clock, which all API nodes share. Operations on many
//! calls are one transaction each, and take their rows in the order of the ids, so that two of them
//! never wait for each other in a circle.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::call::lease::Snapshot;
use domain::call::new_call::Accepted;
use domain::call::{
    Attempt, AttemptEnd, CallHeaders, CallResult, LeaseRef, LeasedCall, NewCall, Refused,
};
use domain::{
    ApiError, AppId, CallId, CallKind, CallRecord, CallState, DeadReason, FnId, Page, PageRequest,
    Timestamp,
};
use hybrid_client::{BeginKeyed, Keyed};

/// A call to be accepted.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The call, valid.
    pub call: NewCall,
    /// The function and its app as they are now.
    pub snapshot: Arc<Snapshot>,
    /// Tells requests apart that have one idempotency key.
    pub fingerprint: Bytes,
}

/// What was committed of an acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What the client is told.
    pub accepted: Accepted,
    /// The doorbell to ring at once; none if the call is not due, or nothing new was accepted. It is
    /// in the table of doorbells, too.
    pub doorbell: Option<Doorbell>,
}

/// That a call waits for a runner: to be rung until the broker has confirmed it, and again when nothing
/// comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Doorbell {
    /// The call, and the number of its last claim.
    pub lease: LeaseRef,
    /// The function.
    pub fn_id: FnId,
    /// The call's priority.
    pub priority: i32,
    /// When the call may run.
    pub due_at: Timestamp,
}

/// What became of the wish to claim a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// It is leased to the runner.
    Leased(Box<LeasedCall>),
    /// It is not; its doorbell was late, doubled or early, and can be forgotten.
    Refused(Refused),
    /// There is no such call; or what it needs is lost, and it has been given up.
    Unknown,
    /// Its function is gone; it has been given up.
    FunctionDeleted,
}

/// What became of the end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It counts.
    Accepted {
        /// The call after it.
        call: Box<CallRecord>,
        /// The doorbell to ring at once, if the call is due again already.
        doorbell: Option<Doorbell>,
    },
    /// It is the same end that was reported before, or the lease was lost: nothing was changed.
    Refused(Refused),
    /// There is no such call.
    Unknown,
}

/// A call after it was cancelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Cancelled {
    /// The call.
    pub call: CallRecord,
    /// The lease that a runner held until now, and the runner.
    pub was_running: Option<(LeaseRef, String)>,
    /// Whether this cancelled it; if not, it was cancelled before.
    pub changed: bool,
}

/// Which calls a list shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallFilter {
    /// Of this app.
    pub app_id: Option<AppId>,
    /// Of this function.
    pub fn_id: Option<FnId>,
    /// With one of these states; all when empty.
    pub states: Vec<CallState>,
    /// Given up for this reason.
    pub reason: Option<DeadReason>,
    /// Sync or async ones.
    pub kind: Option<CallKind>,
    /// With exactly this path.
    pub path: Option<String>,
    /// Accepted after this time.
    pub from: Option<Timestamp>,
    /// Accepted before this time.
    pub to: Option<Timestamp>,
    /// With this tag.
    pub tag: Option<(String, String)>,
}

/// The request of a durable call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRequestDoc {
    /// What the function sees of the headers.
    pub headers: CallHeaders,
    /// The input.
    pub body: Bytes,
    /// What it runs with.
    pub snapshot: Arc<Snapshot>,
}

/// A delivery to a callback URL that is due, and leased to the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct CallbackDelivery {
    /// Names it; the same in all tries.
    pub id: String,
    /// The call, over.
    pub call: CallRecord,
    /// Where to.
    pub url: String,
    /// Tries before this one.
    pub tries: u32,
}

/// How long things are kept after their end; requests, results and logs for 20 seconds at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Records of calls.
    pub calls: Duration,
    /// Requests, results and idempotency keys; the request of a dead call that was not redriven is kept as
    /// long as its record.
    pub results: Duration,
    /// Logs.
    pub logs: Duration,
}

/// A call that is over, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// When it came to its end.
    pub completed_at: Timestamp,
    /// The call.
    pub call_id: CallId,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            calls: 30 * day,
            results: day,
            logs: 7 * day,
        }
    }
}

/// Calls and their doorbells. Errors are `StoreUnavailable` and `Internal` where nothing else is
/// said.
#[async_trait]
pub trait CallStore: Send + Sync + 'static {
    /// Commits calls with their doorbells, in one transaction, each with an answer of its own in the
    /// same order. A call whose id is known already is answered as it was the first time.
    ///
    /// The inner errors are `FnNotFound`, `IdempotencyKeyReused` and `IdempotencyKeyInUse` (a call that
    /// keeps its client waiting holds the key), and `InvalidCallOption` for a call whose time is too far
    /// ahead.
    async fn accept(
        &self,
        calls: Vec<Acceptance>,
    ) -> Result<Vec<Result<Committed, ApiError>>, ApiError>;

    /// Claims calls for `runner`, in one transaction, each with an answer of its own in the same
    /// order. A call that has expired is given up as it is looked at; a snapshot is read once however
    /// many calls share it.
    async fn claim(
        &self,
        calls: Vec<CallId>,
        runner: &str,
        lease: Duration,
    ) -> Result<Vec<Claimed>, ApiError>;

    /// Notes that the function is about to see these calls, and sees to it that their leases hold for half
    /// of `lease` at least; returns those whose leases hold for `runner`: not those that have run out,
    /// though nobody may have taken them back yet.
    async fn start(
        &self,
        leases: Vec<LeaseRef>,
        runner: &str,
        lease: Duration,
    ) -> Result<Vec<LeaseRef>, ApiError>;

    /// Renews leases of `runner`; returns those that hold. A lease never gets shorter by it.
    async fn renew(
        &self,
        leases: Vec<LeaseRef>,
        runner: &str,
        lease: Duration,
    ) -> Result<Vec<LeaseRef>, ApiError>;

    /// Ends attempts of calls that `runner` holds, in one transaction, each with an answer of its own in
    /// the same order: state, result, error, attempt, callback and doorbell. `random` is any number,
    /// for the pauses.
    async fn finish(
        &self,
        ends: Vec<(AttemptEnd, String)>,
        random: u64,
    ) -> Result<Vec<Ended>, ApiError>;

    /// Cancels a call. `CallNotFound`; `CallNotCancellable` for one that is over otherwise.
    async fn cancel(&self, id: &CallId) -> Result<Cancelled, ApiError>;

    /// Records sync calls that are over; one that is known is left as it is.
    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError>;

    /// The call. `CallNotFound`.
    async fn call(&self, id: &CallId) -> Result<CallRecord, ApiError>;
    /// Its request, as long as it is kept. `CallNotFound`.
    async fn call_request(&self, id: &CallId) -> Result<CallRequestDoc, ApiError>;
    /// What its function answered. `CallNotFound`, `CallResultNotFound`.
    async fn call_result(&self, id: &CallId) -> Result<CallResult, ApiError>;
    /// Its attempts, the first one first; of more than a thousand the last ones. `CallNotFound`.
    async fn call_attempts(&self, id: &CallId) -> Result<Vec<Attempt>, ApiError>;
    /// Calls, newest first; the cursor of a page is an id.
    async fn calls(
        &self,
        filter: &CallFilter,
        page: &PageRequest,
    ) -> Result<Page<CallRecord>, ApiError>;

    /// Redrives dead calls: for each, a new call with the request of the old one and the function as
    /// it is now, whose id `new_id` makes. A dead call that has been redriven before is answered with
    /// the call that was made then. Per call: `CallNotFound`, `CallNotDead`, `FnNotFound`.
    async fn redrive(
        &self,
        calls: Vec<(CallId, CallId)>,
    ) -> Result<Vec<Result<Committed, ApiError>>, ApiError>;
    /// Deletes dead calls with all that belongs to them; returns how many.
    async fn purge(&self, ids: Vec<CallId>) -> Result<u64, ApiError>;

    /// See [`hybrid_client::CallPlane::begin_keyed`].
    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError>;
    /// See [`hybrid_client::CallPlane::end_keyed`].
    async fn end_keyed(
        &self,
        fn_id: &FnId,
        key: &str,
        call_id: &CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError>;

    /// Doorbells that are due, at most `per_fn` of each function and `limit` in all, none of the functions
    /// in `full`. The first one of each function comes before the second one of any, however many
    /// functions have some; otherwise high priorities are first (a call gains one step of priority for
    /// each `ageing` that it is due), then what has been due for long. Delayed calls among them become
    /// queued.
    async fn due_doorbells(
        &self,
        per_fn: u32,
        limit: u32,
        ageing: Duration,
        full: &[FnId],
    ) -> Result<Vec<Doorbell>, ApiError>;
    /// Notes that doorbells were confirmed; one that was set anew meanwhile (another epoch) is still to be
    /// rung.
    async fn confirm_doorbells(&self, rung: Vec<LeaseRef>) -> Result<(), ApiError>;
    /// How many calls of each function were rung for, as was confirmed, and wait for a runner. Of these
    /// functions only.
    async fn rung_calls(&self, fns: Vec<FnId>) -> Result<BTreeMap<FnId, u64>, ApiError>;
    /// How long until the next doorbell is due; none if there is none.
    async fn next_doorbell(&self) -> Result<Option<Duration>, ApiError>;

    /// Takes back calls whose lease ran out, at most `limit`; returns their doorbells.
    async fn recover_leases(&self, limit: u32) -> Result<Vec<Doorbell>, ApiError>;
    /// Gives up calls that expired without running, at most `limit`; returns how many.
    async fn expire(&self, limit: u32) -> Result<u64, ApiError>;
    /// Has those doorbells rung again that were confirmed, and for whose calls nothing has happened since:
    /// for as long as the call had been due when it was rung for, within the bounds of `silence`. At most
    /// `limit`; returns how many.
    async fn ring_again(
        &self,
        silence: RangeInclusive<Duration>,
        limit: u32,
    ) -> Result<u64, ApiError>;
    /// Deletes what is older than it is to be kept, at most `limit` rows of each kind; returns how
    /// many. A call stays until its log is gone.
    async fn retire(&self, retention: Retention, limit: u32) -> Result<u64, ApiError>;
    /// The next calls whose logs, or which themselves, are older than they are to be kept, at most
    /// `limit`: the same ones until
    /// [`CallStore::logs_are_gone`].
    async fn old_logs(&self, retention: Retention, limit: u32) -> Result<Vec<Over>, ApiError>;
    /// The logs of all calls up to `last` were deleted, in the order of [`CallStore::old_logs`].
    async fn logs_are_gone(&self, last: &Over) -> Result<(), ApiError>;

    /// Takes callbacks that are due, for `lease`, at most `limit`.
    async fn due_callbacks(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<CallbackDelivery>, ApiError>;
    /// A callback was delivered, or is tried again after the pause, or (no pause) never.
    async fn end_callback(
        &self,
        id: &str,
        delivered: bool,
        again: Option<Duration>,
        error: Option<&str>,
    ) -> Result<(), ApiError>;

    /// How many durable calls wait, run and are dead, by state; for metrics. Those that ended otherwise
    /// are too many to be counted again and again.
    async fn count_calls(&self) -> Result<BTreeMap<CallState, u64>, ApiError>;
}
