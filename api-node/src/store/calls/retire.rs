//! Deleting what is older than it is to be kept, and dead calls that somebody purges.
//!
//! Requests, results and logs go before their calls do. How far that has come is one row per kind, so
//! that no call's own row has to be written once more for it.

use domain::{CallId, Timestamp};

use super::super::call_store::{Over, Retention};
use super::super::session::{Arg, Locking, Session, Sql};
use super::batch::{self, batch, of_ids};
use super::moves;
use super::rows::millis_of;

/// A call gets its time of completion before its transaction commits. No transaction takes longer than
/// this, so that none is over looked at too early.
const SETTLED: i64 = 20_000;
/// For so long a call can refer to its snapshot after that was last noted to be in use: a day until it
/// is noted again, at most 14 days of delay and 14 of waiting, and a margin. Its request is read as
/// long as results are kept, and that of a dead call as long as the call is.
const SNAPSHOT_USE: i64 = 31 * 24 * 3600 * 1000;

/// What goes before the calls do, as the table of positions has it.
const RESULTS: &str = "results";
const LOGS: &str = "logs";

macro_rules! position {
    ($lock:literal) => {
        concat!(
            "SELECT completed_at, call_id FROM call_retention WHERE kind = $1",
            $lock
        )
    };
}
const POSITION: Locking = Locking {
    plain: position!(""),
    for_update: position!(" FOR UPDATE SKIP LOCKED"),
};
const REACHED: &str = "SELECT completed_at, call_id FROM call_retention WHERE kind = $1";
/// Another node may have come further.
const MOVE_ON: &str = "UPDATE call_retention SET completed_at = $2, call_id = $3 \
    WHERE kind = $1 AND (completed_at, call_id) < ($2, $3)";
pub(in super::super) const OVER: &str = "SELECT id, completed_at FROM calls \
    WHERE completed_at IS NOT NULL AND (completed_at, id) > ($1, $2) AND completed_at <= $3 \
    ORDER BY completed_at, id LIMIT $4";
pub(in super::super) const OVER_FIRST: &str = "SELECT id FROM calls \
    WHERE completed_at IS NOT NULL AND completed_at <= $1 AND (completed_at, id) <= ($3, $4) \
    ORDER BY completed_at, id LIMIT $2";
/// What somebody else has locked is left to him: whoever answers for a key locks it before its result,
/// and two nodes that delete the same rows would wait for each other in a circle.
macro_rules! old_keys {
    ($lock:literal) => {
        concat!(
            "SELECT call_id FROM call_keys \
             WHERE hold_until IS NOT NULL AND hold_until <= $1 ORDER BY hold_until LIMIT $2",
            $lock
        )
    };
}
pub(in super::super) const OLD_KEYS: Sql = Sql {
    sqlite: old_keys!(""),
    postgres: old_keys!(" FOR UPDATE SKIP LOCKED"),
};
macro_rules! drop_snapshots {
    ($these:literal, $end:literal) => {
        concat!(
            "DELETE FROM call_snapshots WHERE hash ",
            $these,
            "(SELECT hash FROM call_snapshots WHERE used_at <= $1 ORDER BY used_at LIMIT $2",
            $end,
            " RETURNING hash"
        )
    };
}
const DROP_SNAPSHOTS: Sql = Sql {
    sqlite: drop_snapshots!("IN ", ")"),
    postgres: drop_snapshots!("= ANY(ARRAY", " FOR UPDATE SKIP LOCKED))"),
};

/// Requests of calls that are over. That of a dead call is what it is redriven with: it goes with the
/// call, unless that has been redriven. The condition is a value that PostgreSQL looks up row by row.
pub(super) const USED_REQUESTS: Sql = of_ids!(
    "DELETE FROM call_requests",
    "call_id",
    "AND COALESCE((SELECT c.state <> 'dead' OR c.successor_id IS NOT NULL FROM calls c \
     WHERE c.id = call_requests.call_id), TRUE)"
);
/// What is kept for a while only.
pub(super) const PARTS: [Sql; 3] = [
    of_ids!("DELETE FROM call_requests", "call_id", ""),
    of_ids!("DELETE FROM call_results", "call_id", ""),
    of_ids!("DELETE FROM call_keys", "call_id", ""),
];
/// What is kept as long as the call is.
pub(super) const REST: [Sql; 4] = [
    of_ids!("DELETE FROM call_attempts", "call_id", ""),
    of_ids!("DELETE FROM call_tags", "call_id", ""),
    of_ids!("DELETE FROM callbacks", "call_id", ""),
    of_ids!("DELETE FROM calls", "id", ""),
];

/// What is deleted in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests, results and keys of calls.
    Results,
    /// Keys and results of clients that waited.
    Keys,
    /// Whole calls.
    Calls,
    /// Snapshots that no call can refer to any more.
    Snapshots,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Results, Self::Keys, Self::Calls, Self::Snapshots];
}

/// Deletes what is due of one kind; answers how many.
pub(super) async fn retire(
    session: &mut impl Session,
    kind: Kind,
    retention: &Retention,
    limit: u32,
) -> Result<u64, sqlx::Error> {
    let now = session.now().await?;
    let results = millis_of(retention.results);
    match kind {
        Kind::Results => {
            // Another node may be at it.
            let at = session.locked_row(POSITION, &[Arg::Text(RESULTS)]).await?;
            let over = over_since(session, at, now, results, limit).await?;
            if let Some(last) = over.last() {
                move_on(session, RESULTS, last).await?;
            }
            let ids: Vec<CallId> = over.into_iter().map(|over| over.call_id).collect();
            delete(session, &[USED_REQUESTS], &ids).await?;
            delete(session, &PARTS[1..], &ids).await?;
            Ok(ids.len() as u64)
        }
        Kind::Keys => {
            let args = [
                Arg::Int(now.saturating_sub(results)),
                Arg::Int(limit.into()),
            ];
            let ids = ids_of(session.dialect_rows(OLD_KEYS, &args).await?);
            delete(session, &PARTS[1..], &ids).await?;
            Ok(ids.len() as u64)
        }
        Kind::Calls => {
            let before = now.saturating_sub(millis_of(retention.calls));
            // Only as far as logs have gone: who would know of them without the call?
            let reached: Option<(i64, String)> = session.row(REACHED, &[Arg::Text(LOGS)]).await?;
            let Some((at, id)) = reached else {
                return Ok(0);
            };
            let args = [
                Arg::Int(before),
                Arg::Int(limit.into()),
                Arg::Int(at),
                Arg::Text(&id),
            ];
            let ids = ids_of(session.rows(OVER_FIRST, &args).await?);
            // Two nodes that delete the same ones do not wait for each other.
            let rows = moves::locked_if_free(session, &ids).await?;
            let ids: Vec<CallId> = rows.iter().map(|row| row.id().clone()).collect();
            delete(session, &PARTS, &ids).await?;
            delete(session, &REST, &ids).await?;
            Ok(ids.len() as u64)
        }
        Kind::Snapshots => {
            let read = results.max(millis_of(retention.calls));
            let before = now.saturating_sub(read).saturating_sub(SNAPSHOT_USE);
            let args = [Arg::Int(before), Arg::Int(limit.into())];
            let dropped: Vec<(String,)> = session.dialect_rows(DROP_SNAPSHOTS, &args).await?;
            Ok(dropped.len() as u64)
        }
    }
}

/// The next calls whose logs have been kept for long enough, in the order in which they came to an end.
pub(super) async fn old_logs(
    session: &mut impl Session,
    retention: &Retention,
    limit: u32,
) -> Result<Vec<Over>, sqlx::Error> {
    let now = session.now().await?;
    let at = session.row(REACHED, &[Arg::Text(LOGS)]).await?;
    let kept = retention.logs.min(retention.calls);
    over_since(session, at, now, millis_of(kept), limit).await
}

/// The logs up to those of this call are deleted.
pub(super) async fn logs_are_gone(
    session: &mut impl Session,
    last: &Over,
) -> Result<(), sqlx::Error> {
    move_on(session, LOGS, last).await
}

/// The next calls after this position that have been over for so long.
async fn over_since(
    session: &mut impl Session,
    position: Option<(i64, String)>,
    now: i64,
    kept: i64,
    limit: u32,
) -> Result<Vec<Over>, sqlx::Error> {
    let Some((at, id)) = position else {
        return Ok(Vec::new());
    };
    let args = [
        Arg::Int(at),
        Arg::Text(&id),
        Arg::Int(now.saturating_sub(kept.max(SETTLED))),
        Arg::Int(limit.into()),
    ];
    let over: Vec<(String, i64)> = session.rows(OVER, &args).await?;
    let over = over.into_iter().map(|(id, at)| Over {
        completed_at: Timestamp::from_unix_millis(at),
        call_id: CallId::from(id),
    });
    Ok(over.collect())
}

async fn move_on(session: &mut impl Session, kind: &str, to: &Over) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(kind),
        Arg::Int(to.completed_at.unix_millis()),
        Arg::Text(to.call_id.as_str()),
    ];
    session.execute(MOVE_ON, &args).await
}

/// Deletes dead calls with all that belongs to them; answers how many.
pub(super) async fn purge(session: &mut impl Session, ids: &[CallId]) -> Result<u64, sqlx::Error> {
    let rows = moves::locked(session, ids).await?;
    let dead = rows
        .iter()
        .filter(|row| row.record.status == domain::CallState::Dead);
    let dead: Vec<CallId> = dead.map(|row| row.id().clone()).collect();
    delete(session, &PARTS, &dead).await?;
    delete(session, &REST, &dead).await?;
    Ok(dead.len() as u64)
}

async fn delete(
    session: &mut impl Session,
    statements: &[Sql],
    ids: &[CallId],
) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = batch::ids(ids.iter().map(CallId::as_str));
    for sql in statements {
        session.dialect_execute(*sql, &[Arg::Text(&ids)]).await?;
    }
    Ok(())
}

fn ids_of(rows: Vec<(String,)>) -> Vec<CallId> {
    rows.into_iter().map(|(id,)| CallId::from(id)).collect()
}
