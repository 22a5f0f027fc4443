//! The statements on the table of doorbells: one row for each call that waits, from when it is
//! accepted, or queued again, until it is claimed or over.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use domain::call::LeaseRef;
use domain::call::options::PRIORITIES;
use domain::{CallId, CallState, FnId, Timestamp};
use serde::Serialize;

use super::super::call_store::Doorbell;
use super::super::session::{Arg, Session, Sql};
use super::batch::{self, Text, batch, of_ids};
use super::rows::{CallRow, millis_of};

const SET: Sql = batch!([call_id text, epoch bigint, fn_id text, priority bigint, lane text, due_at bigint,
    expires_at bigint, delayed bigint]
    "INSERT INTO doorbells (call_id, epoch, fn_id, priority, lane, due_at, expires_at, delayed) \
     SELECT call_id, epoch, fn_id, priority, lane, due_at, expires_at, delayed FROM batch WHERE true \
     ON CONFLICT (call_id) DO UPDATE SET epoch = excluded.epoch, due_at = excluded.due_at, \
     delayed = excluded.delayed, rung_at = NULL");
pub(super) const FORGET: Sql = of_ids!("DELETE FROM doorbells", "call_id", "");
/// A row that is locked belongs to somebody who moves its call, and who is not waited for. That it is
/// to be rung is hidden: PostgreSQL would read the whole index of those for it.
macro_rules! confirm {
    ($of:literal, $lock:literal, $of_free:literal) => {
        concat!(
            ", free AS (SELECT d.call_id FROM batch JOIN doorbells d \
             ON d.call_id = batch.call_id AND d.epoch = batch.epoch",
            $of,
            " WHERE COALESCE(d.rung_at, 0) = 0",
            $lock,
            ") UPDATE doorbells SET rung_at = $2 FROM free WHERE doorbells.call_id = free.call_id",
            $of_free
        )
    };
}
pub(super) const CONFIRM: Sql = batch!([call_id text, epoch bigint]
confirm!("", "", ""),
confirm!(
    " AND d.call_id = ANY(ARRAY(SELECT call_id FROM batch))",
    " FOR UPDATE OF d SKIP LOCKED",
    " AND doorbells.call_id = ANY(ARRAY(SELECT call_id FROM free))"
));

/// The lanes in which something has to be rung, by jumps through the index.
macro_rules! lanes {
    ($rest:literal) => {
        concat!(
            "WITH RECURSIVE lanes(lane) AS ( \
             SELECT (SELECT MIN(lane) FROM doorbells WHERE rung_at IS NULL) \
             UNION ALL \
             SELECT (SELECT MIN(d.lane) FROM doorbells d WHERE d.rung_at IS NULL AND d.lane > lanes.lane) \
             FROM lanes WHERE lanes.lane IS NOT NULL) ",
            $rest
        )
    };
}

/// The first ones of each lane but the full ones; of them the first ones of each function; of them the
/// first one of each function, then the second ones, and so on. Steps of priority are whole ones.
macro_rules! due {
    ($from:literal, $not_full:literal) => {
        concat!(
            lanes!(""),
            "SELECT call_id, epoch, fn_id, priority, due_at, delayed FROM ( \
             SELECT ranked.*, ROW_NUMBER() OVER (PARTITION BY fn_id ORDER BY step DESC, due_at, call_id) AS place \
             FROM (SELECT d.*, d.priority + ($1 - d.due_at) / $2 AS step FROM lanes ",
            $from,
            " WHERE lanes.lane IS NOT NULL AND ",
            $not_full,
            ") AS ranked) AS placed \
             WHERE place <= $3 ORDER BY place, step DESC, due_at, call_id LIMIT $4"
        )
    };
}

pub(in super::super) const DUE: Sql = Sql {
    sqlite: due!(
        "JOIN doorbells d ON d.call_id IN (SELECT i.call_id FROM doorbells i \
         WHERE i.rung_at IS NULL AND i.lane = lanes.lane AND i.due_at <= $1 ORDER BY i.due_at LIMIT $3)",
        "lanes.lane NOT IN (SELECT value FROM json_each($5))"
    ),
    postgres: due!(
        "CROSS JOIN LATERAL (SELECT i.* FROM doorbells i \
         WHERE i.rung_at IS NULL AND i.lane = lanes.lane AND i.due_at <= $1 ORDER BY i.due_at LIMIT $3) d",
        "lanes.lane <> ALL(ARRAY(SELECT json_array_elements_text(CAST($5 AS json))))"
    ),
};
pub(in super::super) const NEXT: &str = lanes!(
    "SELECT MIN((SELECT MIN(d.due_at) FROM doorbells d WHERE d.rung_at IS NULL AND d.lane = lanes.lane)) \
     FROM lanes WHERE lanes.lane IS NOT NULL"
);
pub(super) const WAKE: Sql = of_ids!(
    "UPDATE calls SET state = 'queued'",
    "id",
    "AND state = 'delayed'"
);
pub(super) const WOKEN: Sql = of_ids!("UPDATE doorbells SET delayed = 0", "call_id", "");
pub(super) const RUNG: Sql = batch!([id text]
    "SELECT batch.id, (SELECT COUNT(*) FROM doorbells d \
     WHERE d.fn_id = batch.id AND d.rung_at IS NOT NULL) FROM batch");
/// The longer a call has been due when it was last rung for, the longer the silence may be: nobody has
/// room for it, as it seems, and its message is still there.
macro_rules! silent {
    ($these:literal, $least:literal, $end:literal) => {
        concat!(
            "UPDATE doorbells SET rung_at = NULL WHERE call_id ",
            $these,
            "(SELECT call_id FROM doorbells \
             WHERE rung_at IS NOT NULL AND rung_at <= $1 AND rung_at + ",
            $least,
            "(rung_at - due_at, $4) <= $3 ORDER BY rung_at LIMIT $2",
            $end,
            " RETURNING call_id"
        )
    };
}
pub(in super::super) const RING_AGAIN: Sql = Sql {
    sqlite: silent!("IN ", "MIN", ")"),
    postgres: silent!("= ANY(ARRAY", "LEAST", " FOR UPDATE SKIP LOCKED))"),
};
pub(in super::super) const EXPIRED: &str =
    "SELECT call_id FROM doorbells WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2";

#[derive(Serialize)]
struct Row<'a> {
    call_id: Text<'a>,
    epoch: i64,
    fn_id: Text<'a>,
    priority: i32,
    lane: String,
    due_at: i64,
    expires_at: i64,
    delayed: i64,
}

/// What is read of a doorbell that is due.
type DueRow = (String, i64, String, i64, i64, i64);

/// A doorbell that is due, and whether its call has to become queued.
pub(super) struct Due {
    pub(super) doorbell: Doorbell,
    pub(super) delayed: bool,
}

/// Sets the doorbells of calls that wait from now on.
pub(super) async fn set(session: &mut impl Session, calls: &[&CallRow]) -> Result<(), sqlx::Error> {
    if calls.is_empty() {
        return Ok(());
    }
    let rows = batch::rows(calls.iter().map(|call| {
        let record = &call.record;
        Row {
            call_id: Text(record.id.as_str()),
            epoch: call.progress.epoch,
            fn_id: Text(record.fn_id.as_str()),
            priority: record.priority,
            lane: lane(&record.fn_id, record.priority),
            due_at: call.progress.due_at.unix_millis(),
            expires_at: call.progress.expires_at.unix_millis(),
            delayed: (call.progress.state == CallState::Delayed).into(),
        }
    }));
    session.dialect_execute(SET, &[Arg::Text(&rows)]).await
}

fn lane(id: &FnId, priority: i32) -> String {
    batch::without_nul(&format!("{id}/{priority}"))
}

/// These calls do not wait any more.
pub(super) async fn forget(
    session: &mut impl Session,
    ids: impl IntoIterator<Item = &CallId>,
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = ids.into_iter().map(CallId::as_str).collect();
    if ids.is_empty() {
        return Ok(());
    }
    session
        .dialect_execute(FORGET, &[Arg::Text(&batch::ids(ids))])
        .await
}

/// The broker has these; a doorbell that was set anew meanwhile has another epoch.
pub(super) async fn confirm(
    session: &mut impl Session,
    now: Timestamp,
    rung: &[LeaseRef],
) -> Result<(), sqlx::Error> {
    let rung = batch::leases(rung);
    let args = [Arg::Text(&rung), Arg::Int(now.unix_millis())];
    session.dialect_execute(CONFIRM, &args).await
}

pub(super) async fn due(
    session: &mut impl Session,
    now: Timestamp,
    per_fn: u32,
    limit: u32,
    ageing_ms: i64,
    full: &[FnId],
) -> Result<Vec<Due>, sqlx::Error> {
    let full = full
        .iter()
        .flat_map(|id| PRIORITIES.map(move |priority| lane(id, priority)));
    let full = batch::rows(full);
    let args = [
        Arg::Int(now.unix_millis()),
        Arg::Int(ageing_ms.max(1)),
        Arg::Int(per_fn.into()),
        Arg::Int(limit.into()),
        Arg::Text(&full),
    ];
    let rows: Vec<DueRow> = session.dialect_rows(DUE, &args).await?;
    let due = rows
        .into_iter()
        .map(|(call_id, epoch, fn_id, priority, due_at, delayed)| Due {
            doorbell: Doorbell {
                lease: LeaseRef {
                    call_id: CallId::from(call_id),
                    epoch,
                },
                fn_id: FnId::from(fn_id),
                priority: i32::try_from(priority).unwrap_or(i32::MAX),
                due_at: Timestamp::from_unix_millis(due_at),
            },
            delayed: delayed != 0,
        });
    Ok(due.collect())
}

/// Calls whose rows are locked, and that were delayed, are queued from now on.
pub(super) async fn wake(
    session: &mut impl Session,
    ids: impl IntoIterator<Item = &CallId>,
) -> Result<(), sqlx::Error> {
    let ids = batch::ids(ids.into_iter().map(CallId::as_str));
    session.dialect_execute(WAKE, &[Arg::Text(&ids)]).await?;
    session.dialect_execute(WOKEN, &[Arg::Text(&ids)]).await
}

/// How many calls of each of these functions were rung for and wait.
pub(super) async fn rung(
    session: &mut impl Session,
    fns: &[FnId],
) -> Result<BTreeMap<FnId, u64>, sqlx::Error> {
    let mut ids: Vec<&str> = fns.iter().map(FnId::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows: Vec<(String, i64)> = session
        .dialect_rows(RUNG, &[Arg::Text(&batch::ids(ids))])
        .await?;
    let counts = rows
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(id, count)| (FnId::from(id), count.unsigned_abs()));
    Ok(counts.collect())
}

/// When the next one is due.
pub(super) async fn next(session: &mut impl Session) -> Result<Option<i64>, sqlx::Error> {
    let row: Option<(Option<i64>,)> = session.row(NEXT, &[]).await?;
    Ok(row.and_then(|(due_at,)| due_at))
}

/// Those that were confirmed so long ago have to be rung again; answers how many.
pub(super) async fn ring_again(
    session: &mut impl Session,
    silence: RangeInclusive<Duration>,
    limit: u32,
) -> Result<u64, sqlx::Error> {
    let now = session.now().await?;
    let args = [
        Arg::Int(now.saturating_sub(millis_of(*silence.start()))),
        Arg::Int(limit.into()),
        Arg::Int(now),
        Arg::Int(millis_of(*silence.end())),
    ];
    let rows: Vec<(String,)> = session.dialect_rows(RING_AGAIN, &args).await?;
    Ok(rows.len() as u64)
}

/// Calls that wait and have expired.
pub(super) async fn expired(
    session: &mut impl Session,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<CallId>, sqlx::Error> {
    let args = [Arg::Int(now.unix_millis()), Arg::Int(limit.into())];
    let rows: Vec<(String,)> = session.rows(EXPIRED, &args).await?;
    Ok(rows.into_iter().map(|(id,)| CallId::from(id)).collect())
}
