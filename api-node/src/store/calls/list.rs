//! Reading calls: one, or pages of them, newest first.
//!
//! Ids sort by time, so that a page is a range of an index. A list is asked for each pair of kind and
//! state that it shows, and merged: see the indexes in the migration.

use std::collections::BTreeMap;

use domain::{CallId, CallKind, CallRecord, CallState, IdSource, Timestamp};

use super::super::call_store::CallFilter;
use super::super::session::{Arg, Session, Sql};
use super::batch::{self, batch, of_ids};
use super::rows::{AttemptRow, CallRow, call_columns};

/// Ids are made where a call comes in, times of acceptance by the database. No two clocks differ by
/// more than this.
const CLOCK_SLACK: i64 = 3600 * 1000;
/// As much of a path as its index holds.
const PATH_PREFIX: &str = "substr(c.path, 1, 256)";

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

/// At most `limit` calls, newest first, whose ids are smaller than `before`.
pub(super) async fn list(
    session: &mut impl Session,
    filter: &CallFilter,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<CallRecord>, sqlx::Error> {
    let Some(query) = Query::new(filter, before, limit) else {
        return Ok(Vec::new());
    };
    let args: Vec<Arg<'_>> = query.values.iter().map(Value::arg).collect();
    let rows: Vec<CallRow> = session.rows_of_built(query.sql, &args).await?;
    Ok(rows.into_iter().map(|row| row.record).collect())
}

/// A value of a parameter.
enum Value {
    Text(String),
    Int(i64),
}

impl Value {
    fn arg(&self) -> Arg<'_> {
        match self {
            Self::Text(text) => Arg::Text(text),
            Self::Int(number) => Arg::Int(*number),
        }
    }
}

/// A statement that is put together of the conditions of a filter.
struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Query {
    /// None when nothing can be found.
    fn new(filter: &CallFilter, before: Option<&str>, limit: i64) -> Option<Self> {
        let mut values = Vec::new();
        let limit = parameter(&mut values, Value::Int(limit));
        let ids = id_conditions(filter, before, &mut values);
        let others = conditions(filter, &mut values);
        let groups = groups(filter);
        if groups.is_empty() {
            return None;
        }
        let page = if let Some((name, value)) = &filter.tag {
            let name = parameter(&mut values, Value::Text(name.clone()));
            let value = parameter(&mut values, Value::Text(value.clone()));
            format!(
                "SELECT t.call_id AS id FROM call_tags t JOIN calls c ON c.id = t.call_id \
                 WHERE t.name = {name} AND t.value = {value}{}{others}{} ORDER BY t.call_id DESC LIMIT {limit}",
                ids.replace("{id}", "t.call_id"),
                words(filter),
            )
        } else if filter.path.is_some() || is_open(filter) {
            format!(
                "SELECT c.id FROM calls c WHERE true{}{others}{} ORDER BY c.id DESC LIMIT {limit}",
                ids.replace("{id}", "c.id"),
                words(filter),
            )
        } else {
            let ids = ids.replace("{id}", "c.id");
            let parts = groups.iter().map(|(kind, state)| {
                format!(
                    "SELECT * FROM (SELECT c.id FROM calls c WHERE c.kind = '{}' AND c.state = '{}'{ids}{others} \
                     ORDER BY c.id DESC LIMIT {limit}) AS {}_{}",
                    kind.as_str(),
                    state.as_str(),
                    kind.as_str(),
                    state.as_str(),
                )
            });
            let parts: Vec<String> = parts.collect();
            format!(
                "SELECT id FROM ({}) AS parts ORDER BY id DESC LIMIT {limit}",
                parts.join(" UNION ALL ")
            )
        };
        let sql = format!(
            concat!(
                "SELECT ",
                call_columns!(),
                " FROM calls c WHERE c.id IN ({}) ORDER BY c.id DESC"
            ),
            page
        );
        Some(Self { sql, values })
    }
}

/// The statement of a list, and the values of its parameters as they stand in SQL.
#[cfg(test)]
pub(super) fn explained(
    filter: &CallFilter,
    before: Option<&str>,
    limit: i64,
) -> (String, Vec<String>) {
    let query = Query::new(filter, before, limit).expect("something can be found");
    let values = query.values.iter().map(|value| match value {
        Value::Text(text) => format!("'{text}'"),
        Value::Int(number) => number.to_string(),
    });
    let values = values.collect();
    (query.sql, values)
}

/// The name of a new parameter.
fn parameter(values: &mut Vec<Value>, value: Value) -> String {
    values.push(value);
    format!("${}", values.len())
}

/// The range of ids, with `{id}` where the column stands.
fn id_conditions(filter: &CallFilter, before: Option<&str>, values: &mut Vec<Value>) -> String {
    let from = filter.from.map(|from| first_id(from, -CLOCK_SLACK));
    let to = filter.to.map(|to| first_id(to, CLOCK_SLACK));
    let mut sql = String::new();
    if let Some(from) = from {
        let from = parameter(values, Value::Text(from));
        sql += &format!(" AND {{id}} >= {from}");
    }
    let below = match (before, to) {
        (Some(before), Some(to)) => Some(to.min(before.to_owned())),
        (before, to) => to.or_else(|| before.map(str::to_owned)),
    };
    if let Some(below) = below {
        let below = parameter(values, Value::Text(below));
        sql += &format!(" AND {{id}} < {below}");
    }
    sql
}

/// The least id of a time.
fn first_id(time: Timestamp, slack: i64) -> String {
    let millis = time.unix_millis().saturating_add(slack);
    IdSource::new(0)
        .next(u64::try_from(millis).unwrap_or_default())
        .to_string()
}

/// What is asked of the calls besides id, tag, kind and state.
fn conditions(filter: &CallFilter, values: &mut Vec<Value>) -> String {
    let mut sql = String::new();
    let mut ask = |column: &str, value: Value| {
        let value = parameter(values, value);
        sql += &format!(" AND {column} {value}");
    };
    if let Some(app) = &filter.app_id {
        ask("c.app_id =", Value::Text(app.to_string()));
    }
    if let Some(func) = &filter.fn_id {
        ask("c.fn_id =", Value::Text(func.to_string()));
    }
    if let Some(reason) = filter.reason {
        ask("c.reason =", Value::Text(reason.as_str().to_owned()));
    }
    if let Some(from) = filter.from {
        ask("c.created_at >", Value::Int(from.unix_millis()));
    }
    if let Some(to) = filter.to {
        ask("c.created_at <", Value::Int(to.unix_millis()));
    }
    if let Some(path) = &filter.path {
        let prefix = path.chars().take(256).collect();
        ask(&format!("{PATH_PREFIX} ="), Value::Text(prefix));
        ask("c.path =", Value::Text(path.clone()));
    }
    sql
}

/// Whether the order of the ids is all that is needed.
fn is_open(filter: &CallFilter) -> bool {
    filter.app_id.is_none()
        && filter.fn_id.is_none()
        && filter.states.is_empty()
        && filter.reason.is_none()
        && filter.kind.is_none()
}

/// The pairs of kind and state that the list shows.
fn groups(filter: &CallFilter) -> Vec<(CallKind, CallState)> {
    let mut groups = Vec::new();
    for kind in CallKind::ALL {
        for state in CallState::ALL {
            let shown = filter.kind.is_none_or(|wanted| wanted == *kind)
                && (filter.states.is_empty() || filter.states.contains(state))
                && (filter.reason.is_none() || *state == CallState::Dead)
                // A call whose client waits is recorded when it is over.
                && (*kind == CallKind::Async || state.is_final());
            if shown {
                groups.push((*kind, *state));
            }
        }
    }
    groups
}

/// Kind and state as conditions.
fn words(filter: &CallFilter) -> String {
    let mut sql = String::new();
    if let Some(kind) = filter.kind {
        sql += &format!(" AND c.kind = '{}'", kind.as_str());
    }
    if !filter.states.is_empty() {
        let states = filter
            .states
            .iter()
            .map(|state| format!("'{}'", state.as_str()));
        let states: Vec<String> = states.collect();
        sql += &format!(" AND c.state IN ({})", states.join(", "));
    }
    sql
}
