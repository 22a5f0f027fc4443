//! The statements of a list of calls, put together of the conditions of a filter.

use domain::{IdSource, Timestamp};

use super::super::call_store::CallFilter;
use super::super::session::Arg;
use super::created::ID_SLACK;
use super::rows::call_columns;
use super::walk::{self, Walk};

/// So many calls are looked at for one page at most, if more than one index has to be believed.
pub(super) const REACH: usize = 250;

/// A value of a parameter.
enum Value {
    Text(String),
    Int(i64),
}

/// The values of a statement's parameters.
#[derive(Default)]
pub(super) struct Values(Vec<Value>);

impl Values {
    /// The name of a new parameter.
    pub(super) fn text(&mut self, text: &str) -> String {
        self.push(Value::Text(text.to_owned()))
    }

    fn int(&mut self, number: i64) -> String {
        self.push(Value::Int(number))
    }

    fn push(&mut self, value: Value) -> String {
        self.0.push(value);
        format!("${}", self.0.len())
    }
}

/// A statement and the values of its parameters.
pub(super) struct Query {
    pub(super) sql: String,
    values: Values,
}

impl Query {
    pub(super) fn args(&self) -> Vec<Arg<'_>> {
        let args = self.values.0.iter().map(|value| match value {
            Value::Text(text) => Arg::Text(text),
            Value::Int(number) => Arg::Int(*number),
        });
        args.collect()
    }

    /// The values as they stand in SQL.
    #[cfg(test)]
    pub(super) fn in_sql(&self) -> Vec<String> {
        let values = self.values.0.iter().map(|value| match value {
            Value::Text(text) => format!("'{text}'"),
            Value::Int(number) => number.to_string(),
        });
        values.collect()
    }
}

/// How a page is read.
pub(super) enum Plan {
    /// Nothing can be found.
    Nothing,
    /// By this one statement.
    Page(Query),
    /// This statement tells how far [`REACH`] calls reach along each index: see [`found_along`].
    Reach(Query),
}

/// How the page of calls whose ids are smaller than `before` is read.
pub(super) fn plan(filter: &CallFilter, before: Option<&str>, limit: i64) -> Plan {
    let mut values = Values::default();
    let walks = walk::walks(filter, &mut values);
    let Some(first) = walks.first() else {
        return Plan::Nothing;
    };
    let ids = id_conditions(filter, before, &mut values);
    if walk::is_exact(filter, &walks) {
        let times = times(filter, &mut values);
        let limit = values.int(limit);
        let sql = page(&first.sql(&ids, &times, &limit, 0), "", &limit);
        return Plan::Page(Query { sql, values });
    }
    let reaches = walks.iter().enumerate().map(|(at, walk)| {
        let sql = walk.sql(&ids, "", "1", REACH - 1);
        format!("SELECT CAST({at} AS BIGINT) AS walk, id FROM ({sql}) AS walk_{at}")
    });
    let reaches: Vec<String> = reaches.collect();
    Plan::Reach(Query {
        sql: reaches.join(" UNION ALL "),
        values,
    })
}

/// The page along the index that `reaches` furthest back, and where that has to end, if there is more.
pub(super) fn found_along(
    filter: &CallFilter,
    before: Option<&str>,
    limit: i64,
    reaches: &[(i64, String)],
) -> Option<(Query, Option<String>)> {
    let mut values = Values::default();
    let walks = walk::walks(filter, &mut values).into_iter().enumerate();
    let reach_of = |at: usize| {
        let reach = reaches
            .iter()
            .find(|(walk, _)| usize::try_from(*walk) == Ok(at));
        reach.map(|(_, id)| id.clone())
    };
    // None is the least: an index that ends sooner is read to its end.
    let (reach, walk): (Option<String>, Walk) = walks
        .map(|(at, walk)| (reach_of(at), walk))
        .min_by(|a, b| a.0.cmp(&b.0))?;
    let mut ids = id_conditions(filter, before, &mut values);
    if let Some(reach) = &reach {
        ids += &format!(" AND {{id}} >= {}", values.text(reach));
    }
    let others = conditions(filter, &mut values);
    let limit = values.int(limit);
    // The range ends it; the number says how far that can be. Calls may have come meanwhile.
    let walk = walk.sql(&ids, "", &(2 * REACH).to_string(), 0);
    let sql = page(&walk, &others, &limit);
    Some((Query { sql, values }, reach))
}

/// How many indexes can be walked for this filter.
#[cfg(test)]
pub(super) fn walks_of(filter: &CallFilter) -> usize {
    walk::walks(filter, &mut Values::default()).len()
}

/// The calls of a walk, each looked up by its id in the order of the walk, whatever the database takes
/// to be better.
fn page(walk: &str, others: &str, limit: &str) -> String {
    format!(
        concat!(
            "SELECT ",
            call_columns!(),
            " FROM ({}) AS walked CROSS JOIN calls c WHERE c.id = walked.id{} ORDER BY walked.id DESC LIMIT {}"
        ),
        walk, others, limit
    )
}

/// The range of ids, with `{id}` where the column stands.
fn id_conditions(filter: &CallFilter, before: Option<&str>, values: &mut Values) -> String {
    let from = filter.from.map(|from| first_id(from, -ID_SLACK));
    let to = filter.to.map(|to| first_id(to, ID_SLACK));
    let mut sql = String::new();
    if let Some(from) = from {
        sql += &format!(" AND {{id}} >= {}", values.text(&from));
    }
    let below = match (before, to) {
        (Some(before), Some(to)) => Some(to.min(before.to_owned())),
        (before, to) => to.or_else(|| before.map(str::to_owned)),
    };
    if let Some(below) = below {
        sql += &format!(" AND {{id}} < {}", values.text(&below));
    }
    sql
}

/// The least id of a time.
fn first_id(time: Timestamp, slack: i64) -> String {
    let millis = time.unix_millis().saturating_add(slack);
    IdSource::first_at(u64::try_from(millis).unwrap_or_default()).to_string()
}

/// What is asked of the times in a call's row.
fn times(filter: &CallFilter, values: &mut Values) -> String {
    let mut sql = String::new();
    if let Some(from) = filter.from {
        sql += &format!(" AND c.created_at > {}", values.int(from.unix_millis()));
    }
    if let Some(to) = filter.to {
        sql += &format!(" AND c.created_at < {}", values.int(to.unix_millis()));
    }
    sql
}

/// All that is asked of a call, but for its id.
fn conditions(filter: &CallFilter, values: &mut Values) -> String {
    let mut sql = times(filter, values);
    // All calls of a function are of its app.
    if let Some(func) = &filter.fn_id {
        sql += &format!(" AND c.fn_id = {}", values.text(func.as_str()));
    } else if let Some(app) = &filter.app_id {
        sql += &format!(" AND c.app_id = {}", values.text(app.as_str()));
    }
    if let Some(path) = &filter.path {
        sql += &format!(" AND c.path = {}", values.text(path));
    }
    if let Some(reason) = filter.reason {
        sql += &format!(" AND c.reason = '{}'", reason.as_str());
    }
    if let Some(kind) = filter.kind {
        sql += &format!(" AND c.kind = '{}'", kind.as_str());
    }
    if !filter.states.is_empty() {
        let states = filter.states.iter();
        let states: Vec<String> = states
            .map(|state| format!("'{}'", state.as_str()))
            .collect();
        sql += &format!(" AND c.state IN ({})", states.join(", "));
    }
    if let Some((name, value)) = &filter.tag {
        // A value, that it is looked up row by row.
        sql += &format!(
            " AND COALESCE((SELECT TRUE FROM call_tags t WHERE t.name = {} AND t.value = {} \
             AND t.call_id = c.id), FALSE)",
            values.text(name),
            values.text(value)
        );
    }
    sql
}
