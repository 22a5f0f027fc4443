//! Reading calls: one, or pages of them, newest first.
//!
//! Ids sort by time, so that a page is a range of an index. A list is asked for each pair of kind and
//! state that it shows, and merged: see the indexes in the migration. A filter for which there is no
//! index of its own (a tag and a function) is looked for along the index that has the fewest calls
//! there, a bounded number of them: a page may then hold less than it could, and says where it ended.

use std::collections::BTreeMap;

use domain::{CallId, CallRecord, Page, PageRequest, page};

use super::super::call_store::CallFilter;
use super::super::session::{Arg, Session, Sql};
use super::super::sql_store::limit;
use super::batch::{self, batch, of_ids};
use super::query::{self, Plan, Query};
use super::rows::{AttemptRow, CallRow, call_columns};

const BY_ID: &str = concat!("SELECT ", call_columns!(), " FROM calls c WHERE c.id = $1");
pub(super) const BY_IDS: Sql = of_ids!(
    concat!("SELECT ", call_columns!(), " FROM calls c"),
    "c.id",
    ""
);
/// A call that the platform could not run for long has many; the last ones tell why.
const MAX_ATTEMPTS_SHOWN: i64 = 1000;
const COUNT: &str = "SELECT state, COUNT(*) FROM calls \
    WHERE kind = 'async' AND state IN ('delayed', 'queued', 'running', 'dead') GROUP BY state";
const ATTEMPTS: &str = "SELECT * FROM (SELECT epoch, status, runner_id, claimed_at, started_at, ended_at, \
    error, result_status FROM call_attempts WHERE call_id = $1 ORDER BY epoch DESC LIMIT $2) AS last \
    ORDER BY epoch";

/// All calls of a function are of the same app.
const APP_OF: &str = "SELECT app_id FROM calls WHERE fn_id = $1 LIMIT 1";

pub(super) async fn by_id(
    session: &mut impl Session,
    id: &CallId,
) -> Result<Option<CallRow>, sqlx::Error> {
    session.row(BY_ID, &[Arg::Text(id.as_str())]).await
}

pub(super) async fn by_ids(
    session: &mut impl Session,
    ids: impl IntoIterator<Item = &CallId>,
) -> Result<BTreeMap<CallId, CallRecord>, sqlx::Error> {
    let ids = batch::ids(ids.into_iter().map(CallId::as_str));
    let rows: Vec<CallRow> = session.dialect_rows(BY_IDS, &[Arg::Text(&ids)]).await?;
    let calls = rows.into_iter().map(|row| (row.id().clone(), row.record));
    Ok(calls.collect())
}

pub(super) async fn attempts(
    session: &mut impl Session,
    id: &CallId,
) -> Result<Vec<AttemptRow>, sqlx::Error> {
    let args = [Arg::Text(id.as_str()), Arg::Int(MAX_ATTEMPTS_SHOWN)];
    session.rows(ATTEMPTS, &args).await
}

pub(super) async fn counts(session: &mut impl Session) -> Result<Vec<(String, i64)>, sqlx::Error> {
    session.rows(COUNT, &[]).await
}

/// A page of calls, newest first; its cursor is an id.
pub(super) async fn list(
    session: &mut impl Session,
    filter: &CallFilter,
    page: &PageRequest,
) -> Result<Page<CallRecord>, sqlx::Error> {
    let (before, limit) = (page.after.as_deref(), limit(page));
    let mut ended_at = None;
    let items = match query::plan(filter, before, limit) {
        _ if is_of_another_app(session, filter).await? => Vec::new(),
        Plan::Nothing => Vec::new(),
        Plan::Page(query) => found(session, query).await?,
        Plan::Reach(query) => {
            let reaches = session
                .rows_of_built(query.sql.clone(), &query.args())
                .await?;
            match query::found_along(filter, before, limit, &reaches) {
                Some((query, reach)) => {
                    ended_at = reach;
                    found(session, query).await?
                }
                None => Vec::new(),
            }
        }
    };
    let mut page = Page::new(page, items, |call: &CallRecord| call.id.as_str());
    if page.next_cursor.is_none() {
        page.next_cursor = ended_at.as_deref().map(page::cursor);
    }
    Ok(page)
}

/// Whether the filter names an app, and a function of another one.
async fn is_of_another_app(
    session: &mut impl Session,
    filter: &CallFilter,
) -> Result<bool, sqlx::Error> {
    let (Some(app), Some(func)) = (&filter.app_id, &filter.fn_id) else {
        return Ok(false);
    };
    let of: Option<(String,)> = session.row(APP_OF, &[Arg::Text(func.as_str())]).await?;
    Ok(of.is_none_or(|(of,)| of != app.as_str()))
}

async fn found(session: &mut impl Session, query: Query) -> Result<Vec<CallRecord>, sqlx::Error> {
    let rows: Vec<CallRow> = session
        .rows_of_built(query.sql.clone(), &query.args())
        .await?;
    Ok(rows.into_iter().map(|row| row.record).collect())
}

/// The statements of a list, and the values of their parameters as they stand in SQL.
#[cfg(test)]
pub(super) fn explained(
    filter: &CallFilter,
    before: Option<&str>,
    limit: i64,
) -> Vec<(String, Vec<String>)> {
    let shown = |query: Query| (query.sql.clone(), query.in_sql());
    match query::plan(filter, before, limit) {
        Plan::Nothing => Vec::new(),
        Plan::Page(query) => vec![shown(query)],
        Plan::Reach(query) => {
            let mut all = vec![shown(query)];
            // Along each of the indexes.
            for walk in 0..query::walks_of(filter) {
                let others = (0..query::walks_of(filter)).filter(|other| *other != walk);
                let reaches: Vec<_> = others
                    .map(|other| (other as i64, "id109000".to_owned()))
                    .collect();
                let found = query::found_along(filter, before, limit, &reaches);
                all.extend(found.map(|(query, _)| shown(query)));
            }
            all
        }
    }
}
