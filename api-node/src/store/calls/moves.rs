//! How a call moves: its row is locked, the machine says what it becomes, and all moves of one
//! transaction are written together with what belongs to them: attempts, results, doorbells and
//! callbacks.

use domain::call::{AttemptState, CallResult, LeaseRef, Move};
use domain::{CallId, CallState, Timestamp};
use serde::Serialize;

use super::super::call_store::Doorbell;
use super::super::session::{Arg, Session, Sql};
use super::batch::{self, Text, batch, of_ids};
use super::rows::{CallRow, call_columns, millis, wide};
use super::{callbacks, doorbells, results};

macro_rules! calls {
    () => {
        concat!("SELECT ", call_columns!(), " FROM calls c")
    };
}

pub(super) const LOCKED: Sql = of_ids!(
    calls!(),
    "c.id",
    "ORDER BY c.id",
    "ORDER BY c.id FOR UPDATE OF c"
);
pub(super) const LOCKED_IF_FREE: Sql = of_ids!(
    calls!(),
    "c.id",
    "ORDER BY c.id",
    "ORDER BY c.id FOR UPDATE OF c SKIP LOCKED"
);

macro_rules! update {
    ($only:literal) => {
        concat!(
            "UPDATE calls SET state = batch.state, reason = batch.reason, epoch = batch.epoch, \
             attempts = batch.attempts, crashes = batch.crashes, lease_losses = batch.lease_losses, setbacks = batch.setbacks, backoff_ms = batch.backoff_ms, \
             due_at = batch.due_at, error = batch.error, runner_id = batch.runner_id, \
             result_status = batch.result_status, started_at = batch.started_at, \
             completed_at = batch.completed_at \
             FROM batch WHERE calls.id = batch.id",
            $only
        )
    };
}
pub(super) const UPDATE: Sql = batch!([id text, state text, reason text, epoch bigint, attempts bigint,
    crashes bigint, lease_losses bigint, setbacks bigint, backoff_ms bigint, due_at bigint, error text, runner_id text,
    result_status bigint, started_at bigint, completed_at bigint]
    update!(""),
    update!(" AND calls.id = ANY(ARRAY(SELECT id FROM batch))"));

/// Whoever renews leases locks the same rows in the same order.
macro_rules! end_attempts {
    ($of:literal, $lock:literal, $of_held:literal) => {
        concat!(
            ", held AS (SELECT batch.* FROM batch JOIN call_attempts a \
             ON a.call_id = batch.call_id AND a.epoch = batch.epoch",
            $of,
            " ORDER BY a.call_id",
            $lock,
            ") UPDATE call_attempts SET status = held.status, ended_at = held.ended_at, \
             error = held.error, result_status = held.result_status \
             FROM held WHERE call_attempts.call_id = held.call_id AND call_attempts.epoch = held.epoch",
            $of_held
        )
    };
}
pub(super) const END_ATTEMPTS: Sql = batch!([call_id text, epoch bigint, status text, ended_at bigint, error text,
result_status bigint]
end_attempts!("", "", ""),
end_attempts!(
    " AND a.call_id = ANY(ARRAY(SELECT call_id FROM batch))",
    " FOR UPDATE OF a",
    " AND call_attempts.call_id = ANY(ARRAY(SELECT call_id FROM held))"
));

#[derive(Serialize)]
struct Row<'a> {
    id: Text<'a>,
    state: &'static str,
    reason: Option<&'static str>,
    epoch: i64,
    attempts: u32,
    crashes: u32,
    lease_losses: u32,
    setbacks: u32,
    backoff_ms: i64,
    due_at: Option<i64>,
    error: Option<Text<'a>>,
    runner_id: Option<Text<'a>>,
    result_status: Option<u16>,
    started_at: Option<i64>,
    completed_at: Option<i64>,
}

#[derive(Serialize)]
struct AttemptRow<'a> {
    call_id: Text<'a>,
    epoch: i64,
    status: &'static str,
    ended_at: i64,
    error: Option<Text<'a>>,
    result_status: Option<u16>,
}

/// The calls with these ids that there are, by id; nobody else moves them until the transaction ends.
pub(super) async fn locked(
    session: &mut impl Session,
    ids: impl IntoIterator<Item = &CallId>,
) -> Result<Vec<CallRow>, sqlx::Error> {
    session
        .dialect_rows(LOCKED, &[Arg::Text(&wanted(ids))])
        .await
}

/// The same without those that somebody moves right now.
pub(super) async fn locked_if_free(
    session: &mut impl Session,
    ids: impl IntoIterator<Item = &CallId>,
) -> Result<Vec<CallRow>, sqlx::Error> {
    session
        .dialect_rows(LOCKED_IF_FREE, &[Arg::Text(&wanted(ids))])
        .await
}

/// The document of these ids, each once.
pub(super) fn wanted<'a>(ids: impl IntoIterator<Item = &'a CallId>) -> String {
    let mut ids: Vec<&str> = ids.into_iter().map(CallId::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    batch::ids(ids)
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq)]
struct EndedAttempt {
    epoch: i64,
    status: AttemptState,
    error: Option<String>,
    result_status: Option<u16>,
}

/// A call whose row is locked, and what has become of it since.
#[derive(Debug, Clone)]
pub(super) struct Moving {
    row: CallRow,
    changed: bool,
    ring: bool,
    attempt: Option<EndedAttempt>,
    /// What its function answered, if it is over with that.
    result: Option<CallResult>,
}

/// What a function answered: its status, and the whole.
pub(super) type Answer = (u16, CallResult);

impl Moving {
    pub(super) fn new(row: CallRow) -> Self {
        Self {
            row,
            changed: false,
            ring: false,
            attempt: None,
            result: None,
        }
    }

    /// A bug for the tests of the tests: whoever says so holds the lease.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn believe(&mut self, epoch: i64, runner: &str) {
        self.row.progress.epoch = epoch;
        self.row.record.runner_id = Some(runner.to_owned());
    }

    pub(super) fn row(&self) -> &CallRow {
        &self.row
    }

    /// Makes a move of the machine, which ended an attempt with `error` and `answer` if it ended one; or
    /// gave the call up with `error`.
    pub(super) fn make(
        &mut self,
        step: Move,
        now: Timestamp,
        error: Option<String>,
        answer: Option<Answer>,
    ) {
        let (result_status, result) = answer.unzip();
        let record = &mut self.row.record;
        if step.attempt.is_some() || error.is_some() {
            record.error.clone_from(&error);
        }
        if let Some(status) = step.attempt {
            record.runner_id = None;
            self.attempt = Some(EndedAttempt {
                epoch: self.row.progress.epoch,
                status,
                error,
                result_status,
            });
        }
        let next = step.next;
        record.status = next.state;
        record.reason = next.reason;
        record.epoch = next.epoch;
        record.attempts = next.attempts;
        record.due_at = next.due_at;
        if next.state.is_final() {
            record.completed_at = now;
            record.due_at = Timestamp::UNSET;
            record.result_status = result_status;
            self.result = result;
        }
        self.row.progress = next;
        self.changed = true;
        self.ring = step.ring;
    }

    /// Makes the move of a claim.
    pub(super) fn lease_to(&mut self, step: Move, now: Timestamp, runner: &str) {
        self.make(step, now, None, None);
        self.row.record.runner_id = Some(runner.to_owned());
    }

    /// The doorbell that the last move set.
    pub(super) fn doorbell(&self) -> Option<Doorbell> {
        self.ring.then(|| Doorbell {
            lease: LeaseRef {
                call_id: self.row.id().clone(),
                epoch: self.row.progress.epoch,
            },
            fn_id: self.row.record.fn_id.clone(),
            priority: self.row.record.priority,
            due_at: self.row.progress.due_at,
        })
    }
}

/// Writes what has become of calls.
pub(super) async fn write(
    session: &mut impl Session,
    now: Timestamp,
    calls: &[Moving],
) -> Result<(), sqlx::Error> {
    let changed: Vec<&Moving> = calls.iter().filter(|call| call.changed).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let rows = batch::rows(changed.iter().map(|call| row(&call.row)));
    session.dialect_execute(UPDATE, &[Arg::Text(&rows)]).await?;
    end_attempts(session, now, &changed).await?;
    let answered = changed.iter().filter_map(|call| {
        let result = call.result.as_ref()?;
        Some((call.row.id(), result))
    });
    results::insert(session, answered).await?;
    let ringing: Vec<&CallRow> = changed
        .iter()
        .filter(|call| call.ring)
        .map(|call| &call.row)
        .collect();
    doorbells::set(session, &ringing).await?;
    let waits_no_more = changed
        .iter()
        .filter(|call| !call.ring && call.attempt.is_none());
    doorbells::forget(session, waits_no_more.map(|call| call.row.id())).await?;
    let over = changed.iter().map(|call| &call.row.record);
    callbacks::insert(session, now, over.filter(|call| call.status.is_final())).await
}

async fn end_attempts(
    session: &mut impl Session,
    now: Timestamp,
    calls: &[&Moving],
) -> Result<(), sqlx::Error> {
    let ended = calls.iter().filter_map(|call| {
        let attempt = call.attempt.as_ref()?;
        Some(AttemptRow {
            call_id: Text(call.row.id().as_str()),
            epoch: attempt.epoch,
            status: attempt.status.as_str(),
            ended_at: now.unix_millis(),
            error: attempt.error.as_deref().map(Text),
            result_status: attempt.result_status,
        })
    });
    let ended: Vec<_> = ended.collect();
    if ended.is_empty() {
        return Ok(());
    }
    let rows = batch::rows(ended);
    session
        .dialect_execute(END_ATTEMPTS, &[Arg::Text(&rows)])
        .await
}

fn row(row: &CallRow) -> Row<'_> {
    let (record, progress) = (&row.record, &row.progress);
    Row {
        id: Text(record.id.as_str()),
        state: progress.state.as_str(),
        reason: progress.reason.map(|reason| reason.as_str()),
        epoch: progress.epoch,
        attempts: progress.attempts,
        crashes: progress.crashes,
        lease_losses: progress.lease_losses,
        setbacks: progress.setbacks,
        backoff_ms: wide(progress.backoff_ms),
        due_at: millis(progress.due_at),
        error: record.error.as_deref().map(Text),
        runner_id: match progress.state {
            CallState::Running => record.runner_id.as_deref().map(Text),
            _ => None,
        },
        result_status: record.result_status,
        started_at: millis(record.started_at),
        completed_at: millis(record.completed_at),
    }
}
