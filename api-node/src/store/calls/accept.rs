//! How calls are accepted: key, call, request and doorbell of each, or why not.

use std::collections::{BTreeMap, HashSet};

use domain::call::new_call::Accepted;
use domain::call::options::DEFAULT_MAX_ATTEMPTS;
use domain::call::{LeaseRef, Progress};
use domain::{ApiError, CallId, CallKind, CallRecord, ErrorCode, Timestamp};
use serde::Serialize;

use super::super::call_store::{Acceptance, Committed, Doorbell};
use super::super::failure::Failure;
use super::super::rows::to_json;
use super::super::session::{Arg, Session, Sql};
use super::batch::{self, Text, batch, of_ids};
use super::created::near_id;
use super::doorbells;
use super::keys::{self, Taken};
use super::results::{self, Request};
use super::rows::{CallRow, millis};
use super::snapshots::Documents;

/// The longest id that fits into every index.
const MAX_ID_BYTES: usize = 128;

macro_rules! insert {
    ($only:literal) => {
        batch!([id text, app_id text, fn_id text, trigger_id text, kind text, state text, reason text,
            path text, method text, url text, image text, priority bigint, tags text, epoch bigint,
            attempts bigint, max_attempts bigint, error text, origin_id text, callback_url text,
            runner_id text, result_status bigint, created_at bigint, due_at bigint, expires_at bigint,
            started_at bigint, completed_at bigint]
            concat!(
                "INSERT INTO calls (id, app_id, fn_id, trigger_id, kind, state, reason, path, method, url, \
                 image, priority, tags, epoch, attempts, max_attempts, crashes, lease_losses, setbacks, backoff_ms, error, \
                 origin_id, callback_url, runner_id, result_status, created_at, due_at, expires_at, \
                 started_at, completed_at) \
                 SELECT id, app_id, fn_id, trigger_id, kind, state, reason, path, method, url, \
                 image, priority, tags, epoch, attempts, max_attempts, 0, 0, 0, 0, error, \
                 origin_id, callback_url, runner_id, result_status, created_at, due_at, expires_at, \
                 started_at, completed_at FROM batch WHERE ",
                $only,
                " ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id"
            ))
    };
}
const INSERT: Sql = insert!("true");
const INSERT_OF_FNS: Sql = insert!("EXISTS (SELECT 1 FROM fns WHERE fns.id = batch.fn_id)");
const TAG: Sql = batch!([name text, label text, call_id text]
    "INSERT INTO call_tags (name, value, call_id) SELECT name, label, call_id FROM batch WHERE true \
     ON CONFLICT DO NOTHING");
pub(super) const KNOWN: Sql = of_ids!("SELECT c.id FROM calls c", "c.id", "");

#[derive(Serialize)]
struct Row<'a> {
    id: Text<'a>,
    app_id: Text<'a>,
    fn_id: Text<'a>,
    trigger_id: Option<Text<'a>>,
    kind: &'static str,
    state: &'static str,
    reason: Option<&'static str>,
    path: Text<'a>,
    method: Text<'a>,
    url: Text<'a>,
    image: Text<'a>,
    priority: i32,
    tags: String,
    epoch: i64,
    attempts: u32,
    max_attempts: u32,
    error: Option<Text<'a>>,
    origin_id: Option<Text<'a>>,
    callback_url: Option<Text<'a>>,
    runner_id: Option<Text<'a>>,
    result_status: Option<u16>,
    created_at: i64,
    due_at: Option<i64>,
    expires_at: Option<i64>,
    started_at: Option<i64>,
    completed_at: Option<i64>,
}

#[derive(Serialize)]
struct TagRow<'a> {
    name: Text<'a>,
    label: Text<'a>,
    call_id: Text<'a>,
}

/// Accepts calls; each has an answer of its own.
pub(super) async fn accept(
    session: &mut impl Session,
    calls: &[Acceptance],
) -> Result<Vec<Result<Committed, ApiError>>, Failure> {
    if calls.is_empty() {
        return Ok(vec![]);
    }
    let mut documents = Documents::of(calls.iter().map(|call| &call.snapshot));
    let now = documents.look(session).await?;
    let checked: Vec<Result<(), ApiError>> =
        calls.iter().map(|call| acceptable(call, now)).collect();
    let acceptable: Vec<&Acceptance> = calls
        .iter()
        .zip(&checked)
        .filter_map(|(call, checked)| checked.is_ok().then_some(call))
        .collect();
    let mut answers = accept_valid(session, &documents, now, &acceptable)
        .await?
        .into_iter();
    let in_order = checked.into_iter().map(|checked| match checked {
        Ok(()) => answers.next().ok_or(Failure::LostRace),
        Err(refused) => Ok(Err(refused)),
    });
    in_order.collect()
}

/// Whether a call can be kept as it is, and for as long as it asks.
fn acceptable(acceptance: &Acceptance, now: Timestamp) -> Result<(), ApiError> {
    if !is_storable(&acceptance.call.id) {
        return Err(ApiError::with_message(
            ErrorCode::InvalidCallOption,
            "id must be 1 to 128 bytes without NUL",
        ));
    }
    acceptance.call.options.validate_at(now)
}

async fn accept_valid(
    session: &mut impl Session,
    documents: &Documents,
    now: Timestamp,
    calls: &[&Acceptance],
) -> Result<Vec<Result<Committed, ApiError>>, Failure> {
    let keys = keys::take(session, now, calls).await?;
    // Of calls that are handed in at once with one id, the first one counts.
    let mut own: BTreeMap<&CallId, usize> = BTreeMap::new();
    for (at, acceptance) in calls.iter().enumerate() {
        if keys[at] == Taken::Own {
            own.entry(&acceptance.call.id).or_insert(at);
        }
    }
    let made: Vec<CallRow> = own.values().map(|at| made(calls[*at], now)).collect();
    let inserted = insert(session, INSERT_OF_FNS, &made).await?;
    let fresh: BTreeMap<usize, &CallRow> = own
        .into_values()
        .zip(&made)
        .filter(|(_, call)| inserted.contains(call.id().as_str()))
        .collect();
    keep_parts(session, documents, now, calls, &fresh).await?;
    let others = calls
        .iter()
        .enumerate()
        .filter(|(at, _)| !fresh.contains_key(at));
    let known = known(session, others.map(|(_, other)| &other.call.id)).await?;
    let answers = calls
        .iter()
        .zip(keys)
        .enumerate()
        .map(|(at, (acceptance, key))| {
            let call = &acceptance.call;
            match key {
                Taken::Reused => return Ok(Err(ErrorCode::IdempotencyKeyReused.into())),
                Taken::InUse => return Ok(Err(ErrorCode::IdempotencyKeyInUse.into())),
                Taken::Other(other) => return Ok(Ok(committed(&other, true, None))),
                Taken::Own | Taken::NoFn => {}
            }
            if let Some(row) = fresh.get(&at) {
                let due = (row.progress.due_at <= now).then(|| doorbell(row));
                Ok(Ok(committed(&call.id, false, due)))
            } else if known.contains(call.id.as_str()) {
                Ok(Ok(committed(&call.id, false, None)))
            } else if key == Taken::Own && call.options.idempotency_key.is_some() {
                // The function went after the key was taken, which must not stay.
                Err(Failure::LostRace)
            } else {
                Ok(Err(ErrorCode::FnNotFound.into()))
            }
        });
    answers.collect()
}

/// Keeps what belongs to calls that were inserted.
async fn keep_parts(
    session: &mut impl Session,
    documents: &Documents,
    now: Timestamp,
    calls: &[&Acceptance],
    fresh: &BTreeMap<usize, &CallRow>,
) -> Result<(), sqlx::Error> {
    if fresh.is_empty() {
        return Ok(());
    }
    let hashes = fresh.keys().map(|at| documents.hash(&calls[*at].snapshot));
    documents.keep(session, now, hashes).await?;
    let requests = fresh.keys().map(|at| Request {
        call_id: &calls[*at].call.id,
        headers: &calls[*at].call.headers,
        body: &calls[*at].call.body,
        snapshot: documents.hash(&calls[*at].snapshot),
    });
    results::insert_requests(session, requests).await?;
    let rows: Vec<&CallRow> = fresh.values().copied().collect();
    doorbells::set(session, &rows).await?;
    tag(session, &rows).await
}

/// Records calls that are over; those that are known stay as they are.
pub(super) async fn record(
    session: &mut impl Session,
    calls: &[CallRecord],
) -> Result<(), sqlx::Error> {
    let now = Timestamp::from_unix_millis(session.now().await?);
    let mut rows: Vec<CallRow> = calls
        .iter()
        .filter(|call| call.status.is_final() && is_storable(&call.id))
        .map(|call| recorded(call, now))
        .collect();
    rows.sort_by(|a, b| a.id().cmp(b.id()));
    let inserted = insert(session, INSERT, &rows).await?;
    let fresh: Vec<&CallRow> = rows
        .iter()
        .filter(|call| inserted.contains(call.id().as_str()))
        .collect();
    tag(session, &fresh).await
}

fn is_storable(id: &CallId) -> bool {
    let id = id.as_str();
    !id.is_empty() && id.len() <= MAX_ID_BYTES && !id.contains('\0')
}

fn committed(id: &CallId, replayed: bool, doorbell: Option<Doorbell>) -> Committed {
    Committed {
        accepted: Accepted {
            id: id.clone(),
            replayed,
        },
        doorbell,
    }
}

fn doorbell(call: &CallRow) -> Doorbell {
    Doorbell {
        lease: LeaseRef {
            call_id: call.id().clone(),
            epoch: call.progress.epoch,
        },
        fn_id: call.record.fn_id.clone(),
        priority: call.record.priority,
        due_at: call.progress.due_at,
    }
}

/// A call as it is when it is accepted at `now`.
fn made(acceptance: &Acceptance, now: Timestamp) -> CallRow {
    let (call, snapshot) = (&acceptance.call, &acceptance.snapshot);
    let (due_at, expires_at) = call.options.times(now);
    let max_attempts = call.options.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS);
    let progress = Progress::accepted(now, due_at, expires_at, max_attempts);
    let record = CallRecord {
        id: call.id.clone(),
        status: progress.state,
        kind: CallKind::Async,
        app_id: snapshot.app.id.clone(),
        fn_id: call.fn_id.clone(),
        trigger_id: call.trigger_id.clone(),
        path: call.path.clone(),
        method: call.method.clone(),
        url: call.url.clone(),
        image: snapshot.func.image.clone(),
        priority: call.options.priority.unwrap_or_default(),
        tags: call.options.tags.clone(),
        attempts: 0,
        max_attempts: progress.max_attempts,
        epoch: 0,
        reason: None,
        error: None,
        origin_id: call.origin_id.clone(),
        callback_url: call.options.callback_url.clone(),
        runner_id: None,
        result_status: None,
        created_at: near_id(&call.id, now),
        due_at,
        expires_at,
        started_at: Timestamp::UNSET,
        completed_at: Timestamp::UNSET,
    };
    CallRow {
        record,
        progress,
        successor: None,
    }
}

/// A call that is recorded at `now`, over.
fn recorded(call: &CallRecord, now: Timestamp) -> CallRow {
    let mut record = call.clone();
    if record.completed_at.is_unset() {
        record.completed_at = now;
    }
    if record.created_at.is_unset() {
        record.created_at = now;
    }
    record.created_at = near_id(&record.id, record.created_at);
    let progress = Progress {
        state: record.status,
        reason: record.reason,
        epoch: record.epoch,
        attempts: record.attempts,
        max_attempts: record.max_attempts,
        crashes: 0,
        lease_losses: 0,
        setbacks: 0,
        backoff_ms: 0,
        due_at: record.due_at,
        expires_at: record.expires_at,
    };
    CallRow {
        record,
        progress,
        successor: None,
    }
}

/// Inserts calls; answers the ids of those that were not known.
async fn insert(
    session: &mut impl Session,
    sql: Sql,
    calls: &[CallRow],
) -> Result<HashSet<String>, sqlx::Error> {
    if calls.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = batch::rows(calls.iter().map(
        |CallRow {
             record, progress, ..
         }| Row {
            id: Text(record.id.as_str()),
            app_id: Text(record.app_id.as_str()),
            fn_id: Text(record.fn_id.as_str()),
            trigger_id: record.trigger_id.as_ref().map(|id| Text(id.as_str())),
            kind: record.kind.as_str(),
            state: progress.state.as_str(),
            reason: progress.reason.map(|reason| reason.as_str()),
            path: Text(&record.path),
            method: Text(&record.method),
            url: Text(&record.url),
            image: Text(&record.image),
            priority: record.priority,
            tags: to_json(&record.tags),
            epoch: progress.epoch,
            attempts: progress.attempts,
            max_attempts: progress.max_attempts,
            error: record.error.as_deref().map(Text),
            origin_id: record.origin_id.as_ref().map(|id| Text(id.as_str())),
            callback_url: record.callback_url.as_deref().map(Text),
            runner_id: record.runner_id.as_deref().map(Text),
            result_status: record.result_status,
            created_at: record.created_at.unix_millis(),
            due_at: millis(progress.due_at),
            expires_at: millis(progress.expires_at),
            started_at: millis(record.started_at),
            completed_at: millis(record.completed_at),
        },
    ));
    let inserted: Vec<(String,)> = session.dialect_rows(sql, &[Arg::Text(&rows)]).await?;
    Ok(inserted.into_iter().map(|(id,)| id).collect())
}

async fn tag(session: &mut impl Session, calls: &[&CallRow]) -> Result<(), sqlx::Error> {
    let tags = calls.iter().flat_map(|call| {
        let tags = call.record.tags.iter();
        tags.map(|(name, value)| TagRow {
            name: Text(name),
            label: Text(value),
            call_id: Text(call.id().as_str()),
        })
    });
    let tags: Vec<_> = tags.collect();
    if tags.is_empty() {
        return Ok(());
    }
    session
        .dialect_execute(TAG, &[Arg::Text(&batch::rows(tags))])
        .await
}

/// Those of the ids that name calls.
async fn known<'a>(
    session: &mut impl Session,
    ids: impl Iterator<Item = &'a CallId>,
) -> Result<HashSet<String>, sqlx::Error> {
    let ids: Vec<&str> = ids.map(CallId::as_str).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let known: Vec<(String,)> = session
        .dialect_rows(KNOWN, &[Arg::Text(&batch::ids(ids))])
        .await?;
    Ok(known.into_iter().map(|(id,)| id).collect())
}
