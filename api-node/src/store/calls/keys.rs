//! The table of idempotency keys: what each key of a function stands for.

use std::collections::{BTreeMap, HashSet};

use domain::call::CallResult;
use domain::{CallId, ErrorCode, FnId, Timestamp};
use hybrid_client::{BeginKeyed, Keyed};
use serde::Serialize;

use super::super::call_store::Acceptance;
use super::super::failure::Failure;
use super::super::fns;
use super::super::session::{Arg, Locking, Session, Sql};
use super::batch::{self, Text, batch};
use super::results;
use super::snapshots::hex;

const TAKE: Sql = batch!([at bigint, fn_id text, word text, fingerprint text, call_id text]
    "INSERT INTO call_keys (fn_id, idempotency_key, fingerprint, call_id, done) \
     SELECT fn_id, word, fingerprint, call_id, 0 FROM batch \
     WHERE EXISTS (SELECT 1 FROM fns WHERE fns.id = batch.fn_id) \
     ORDER BY fn_id, word, at ON CONFLICT (fn_id, idempotency_key) DO NOTHING RETURNING call_id");
/// Each key is looked up: `OFFSET` keeps PostgreSQL from making a join of it, which would read all.
pub(super) const HELD: Sql = batch!([fn_id text, word text]
    "SELECT k.fn_id, k.idempotency_key, k.fingerprint, k.call_id, k.hold_until, k.done \
     FROM batch JOIN call_keys k ON k.fn_id = batch.fn_id AND k.idempotency_key = batch.word",
    "SELECT k.fn_id, k.idempotency_key, k.fingerprint, k.call_id, k.hold_until, k.done \
     FROM batch CROSS JOIN LATERAL (SELECT * FROM call_keys i \
     WHERE i.fn_id = batch.fn_id AND i.idempotency_key = batch.word OFFSET 0) k");
const TAKE_OVER: &str = "UPDATE call_keys SET fingerprint = $4, call_id = $5, hold_until = NULL \
    WHERE fn_id = $1 AND idempotency_key = $2 AND call_id = $3 AND done = 0 AND hold_until IS NOT NULL \
    RETURNING call_id";
const HOLD: &str = "INSERT INTO call_keys (fn_id, idempotency_key, fingerprint, call_id, hold_until, done) \
    VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (fn_id, idempotency_key) DO NOTHING RETURNING call_id";
macro_rules! one {
    ($lock:literal) => {
        concat!(
            "SELECT fn_id, idempotency_key, fingerprint, call_id, hold_until, done FROM call_keys \
             WHERE fn_id = $1 AND idempotency_key = $2",
            $lock
        )
    };
}
const ONE: Locking = Locking {
    plain: one!(""),
    for_update: one!(" FOR UPDATE"),
};
const HOLD_AGAIN: &str = "UPDATE call_keys SET fingerprint = $3, call_id = $4, hold_until = $5 \
    WHERE fn_id = $1 AND idempotency_key = $2";
const ANSWERED: &str = "UPDATE call_keys SET done = 1, hold_until = $4 \
    WHERE fn_id = $1 AND idempotency_key = $2 AND call_id = $3 AND hold_until IS NOT NULL AND done = 0 \
    RETURNING call_id";
const LET_GO: &str = "DELETE FROM call_keys \
    WHERE fn_id = $1 AND idempotency_key = $2 AND call_id = $3 AND hold_until IS NOT NULL AND done = 0";

#[derive(Serialize)]
struct Row<'a> {
    at: usize,
    fn_id: Text<'a>,
    word: Text<'a>,
    fingerprint: String,
    call_id: Text<'a>,
}

/// What is read of a key.
type KeyRow = (String, String, String, String, Option<i64>, i64);

struct Key {
    fingerprint: String,
    call_id: CallId,
    hold_until: Option<i64>,
    done: bool,
}

impl Key {
    /// Whether its client waits, and is not believed to be gone.
    fn is_held(&self, now: Timestamp) -> bool {
        !self.done
            && self
                .hold_until
                .is_some_and(|until| until > now.unix_millis())
    }

    /// Whether its client waited, and is believed to be gone.
    fn was_abandoned(&self, now: Timestamp) -> bool {
        !self.done
            && self
                .hold_until
                .is_some_and(|until| until <= now.unix_millis())
    }
}

/// What the key of a call that is handed in says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// The call has it, or needs none.
    Own,
    /// Another call has it, whose request was the same.
    Other(CallId),
    /// Another request has it.
    Reused,
    /// A client that waits for its call has it.
    InUse,
    /// There is no such function to have keys.
    NoFn,
}

/// Takes the keys of calls, in the order in which every transaction does; answers each call. Of
/// calls that are handed in at once with one key, the first one has it.
pub(super) async fn take(
    session: &mut impl Session,
    now: Timestamp,
    calls: &[&Acceptance],
) -> Result<Vec<Taken>, Failure> {
    let mut wanted: Vec<Row<'_>> = calls
        .iter()
        .enumerate()
        .filter_map(|(at, acceptance)| {
            Some(Row {
                at,
                fn_id: Text(acceptance.call.fn_id.as_str()),
                word: Text(acceptance.call.options.idempotency_key.as_deref()?),
                fingerprint: hex(&acceptance.fingerprint),
                call_id: Text(acceptance.call.id.as_str()),
            })
        })
        .collect();
    let mut answers = vec![Taken::Own; calls.len()];
    if wanted.is_empty() {
        return Ok(answers);
    }
    wanted.sort_by_key(|row| (row.fn_id.0, row.word.0, row.at));
    let rows = batch::rows(&wanted);
    let taken: Vec<(String,)> = session.dialect_rows(TAKE, &[Arg::Text(&rows)]).await?;
    let mut taken: HashSet<String> = taken.into_iter().map(|(id,)| id).collect();
    // Each id takes one key: a call that was handed in twice has it the first time.
    let others: Vec<Row<'_>> = wanted
        .into_iter()
        .filter(|row| !taken.remove(row.call_id.0))
        .collect();
    if others.is_empty() {
        return Ok(answers);
    }
    let rows = batch::rows(&others);
    let held: Vec<KeyRow> = session.dialect_rows(HELD, &[Arg::Text(&rows)]).await?;
    let mut held: BTreeMap<_, _> = held.into_iter().map(named).collect();
    for row in others {
        let name = (row.fn_id.0.to_owned(), row.word.0.to_owned());
        answers[row.at] = match held.get_mut(&name) {
            None if fns::by_id(session, &calls[row.at].call.fn_id)
                .await?
                .is_some() =>
            {
                // Somebody let it go after it was in the way.
                return Err(Failure::LostRace);
            }
            None => Taken::NoFn,
            Some(key) if key.call_id.as_str() == row.call_id.0 => Taken::Own,
            Some(key) if key.was_abandoned(now) => {
                take_over(session, &row, key).await?;
                Taken::Own
            }
            Some(key) if key.fingerprint != row.fingerprint => Taken::Reused,
            Some(key) if key.is_held(now) => Taken::InUse,
            Some(key) => Taken::Other(key.call_id.clone()),
        };
    }
    Ok(answers)
}

/// Takes a key from a client that is believed to be gone.
async fn take_over(
    session: &mut impl Session,
    row: &Row<'_>,
    key: &mut Key,
) -> Result<(), Failure> {
    let args = [
        Arg::Text(row.fn_id.0),
        Arg::Text(row.word.0),
        Arg::Text(key.call_id.as_str()),
        Arg::Text(&row.fingerprint),
        Arg::Text(row.call_id.0),
    ];
    let taken: Option<(String,)> = session.row(TAKE_OVER, &args).await?;
    if taken.is_none() {
        return Err(Failure::LostRace);
    }
    *key = Key {
        fingerprint: row.fingerprint.clone(),
        call_id: CallId::from(row.call_id.0),
        hold_until: None,
        done: false,
    };
    Ok(())
}

/// Holds a key for a client that waits.
pub(super) async fn begin(
    session: &mut impl Session,
    begin: &BeginKeyed,
) -> Result<Keyed, Failure> {
    let (fn_id, word) = (Arg::Text(begin.fn_id.as_str()), Arg::Text(&begin.key));
    let fingerprint = hex(&begin.fingerprint);
    let now = session.now().await?;
    let hold = i64::try_from(begin.hold.as_millis()).unwrap_or(i64::MAX);
    let args = [
        fn_id,
        word,
        Arg::Text(&fingerprint),
        Arg::Text(begin.call_id.as_str()),
        Arg::Int(now.saturating_add(hold)),
    ];
    let fresh: Option<(String,)> = session.row(HOLD, &args).await?;
    if fresh.is_some() {
        return Ok(Keyed::Fresh);
    }
    let row: Option<KeyRow> = session.locked_row(ONE, &[fn_id, word]).await?;
    let (_, key) = row.map(named).ok_or(Failure::LostRace)?;
    let now = Timestamp::from_unix_millis(session.now().await?);
    let repeated = !key.done && key.hold_until.is_some() && key.call_id == begin.call_id;
    if repeated || key.was_abandoned(now) {
        session.execute(HOLD_AGAIN, &args).await?;
        return Ok(Keyed::Fresh);
    }
    if key.fingerprint != fingerprint {
        return Err(ErrorCode::IdempotencyKeyReused.into());
    }
    // A durable call that has no answer yet is being made, too.
    match results::by_id(session, &key.call_id).await? {
        Some(result) => Ok(Keyed::Made {
            call_id: key.call_id,
            result,
        }),
        None => Err(ErrorCode::IdempotencyKeyInUse.into()),
    }
}

/// What came of the call of a client that waited; without a result the key is free. Changes nothing
/// once somebody else has the key.
pub(super) async fn end(
    session: &mut impl Session,
    fn_id: &FnId,
    key: &str,
    call_id: &CallId,
    result: Option<&CallResult>,
) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(fn_id.as_str()),
        Arg::Text(key),
        Arg::Text(call_id.as_str()),
    ];
    let Some(result) = result else {
        return session.execute(LET_GO, &args).await;
    };
    let now = Arg::Int(session.now().await?);
    let [fn_id, key, id] = args;
    let answered: Option<(String,)> = session.row(ANSWERED, &[fn_id, key, id, now]).await?;
    if answered.is_some() {
        results::insert(session, [(call_id, result)]).await?;
    }
    Ok(())
}

fn named((fn_id, word, fingerprint, call_id, hold_until, done): KeyRow) -> ((String, String), Key) {
    let key = Key {
        fingerprint,
        call_id: CallId::from(call_id),
        hold_until,
        done: done != 0,
    };
    ((fn_id, word), key)
}
