//! The statements on the table of callbacks: the outcome of each call that asked for it, until it is
//! delivered or given up.

use domain::{CallId, CallRecord, Timestamp};
use serde::Serialize;

use super::super::session::{Arg, Session, Sql};
use super::batch::{self, Text, batch};

const INSERT: Sql = batch!([call_id text, url text, due_at bigint]
    "INSERT INTO callbacks (call_id, url, tries, due_at, delivered) \
     SELECT call_id, url, 0, due_at, 0 FROM batch WHERE true ON CONFLICT (call_id) DO NOTHING");
macro_rules! take {
    ($these:literal, $end:literal) => {
        concat!(
            "UPDATE callbacks SET due_at = $2, tries = tries + 1 WHERE call_id ",
            $these,
            "(SELECT call_id FROM callbacks WHERE ended_at IS NULL AND due_at <= $1 \
             ORDER BY due_at LIMIT $3",
            $end,
            " RETURNING call_id, url, tries"
        )
    };
}
pub(in super::super) const TAKE: Sql = Sql {
    sqlite: take!("IN ", ")"),
    postgres: take!("= ANY(ARRAY", " FOR UPDATE SKIP LOCKED))"),
};
const END: &str = "UPDATE callbacks SET ended_at = $2, delivered = $3, error = $4 \
    WHERE call_id = $1 AND ended_at IS NULL";
const AGAIN: &str =
    "UPDATE callbacks SET due_at = $2, error = $3 WHERE call_id = $1 AND ended_at IS NULL";

#[derive(Serialize)]
struct Row<'a> {
    call_id: Text<'a>,
    url: Text<'a>,
    due_at: i64,
}

/// Those of the calls that asked for it, all of them over, are to be called back.
pub(super) async fn insert(
    session: &mut impl Session,
    now: Timestamp,
    calls: impl IntoIterator<Item = &CallRecord>,
) -> Result<(), sqlx::Error> {
    let rows = calls.into_iter().filter_map(|call| {
        Some(Row {
            call_id: Text(call.id.as_str()),
            url: Text(call.callback_url.as_deref()?),
            due_at: now.unix_millis(),
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let rows = batch::rows(rows);
    session.dialect_execute(INSERT, &[Arg::Text(&rows)]).await
}

/// Call, URL, and tries before this one, of those that are due; nobody else takes them before `until`.
pub(super) async fn take(
    session: &mut impl Session,
    now: Timestamp,
    until: i64,
    limit: u32,
) -> Result<Vec<(CallId, String, u32)>, sqlx::Error> {
    let args = [
        Arg::Int(now.unix_millis()),
        Arg::Int(until),
        Arg::Int(limit.into()),
    ];
    let rows: Vec<(String, String, i64)> = session.dialect_rows(TAKE, &args).await?;
    let taken = rows.into_iter().map(|(id, url, tries)| {
        let before = u32::try_from(tries - 1).unwrap_or_default();
        (CallId::from(id), url, before)
    });
    Ok(taken.collect())
}

pub(super) async fn end(
    session: &mut impl Session,
    id: &str,
    now: Timestamp,
    delivered: bool,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(id),
        Arg::Int(now.unix_millis()),
        Arg::Int(delivered.into()),
        Arg::Nullable(error),
    ];
    session.execute(END, &args).await
}

pub(super) async fn again(
    session: &mut impl Session,
    id: &str,
    due_at: i64,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    let args = [Arg::Text(id), Arg::Int(due_at), Arg::Nullable(error)];
    session.execute(AGAIN, &args).await
}
