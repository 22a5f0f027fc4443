//! The statements whose plans are tested: those that look for calls among many.

use super::super::call_store::CallFilter;
use super::super::session::Sql;
use super::{
    accept, callbacks, claim, doorbells, keys, leases, list, moves, redrive, results, retire,
};

/// A statement, and values for its parameters as they stand in SQL.
pub(in super::super) struct Statement {
    pub(in super::super) sql: String,
    pub(in super::super) values: Vec<String>,
}

/// Those of the reconcilers.
pub(in super::super) fn reconcilers(postgres: bool) -> Vec<Statement> {
    let words = |sql: Sql| if postgres { sql.postgres } else { sql.sqlite };
    let all: [(&str, &[&str]); 10] = [
        (
            words(doorbells::DUE),
            &["1000", "10", "3", "5", r#"'["fn3/0"]'"#],
        ),
        (doorbells::NEXT, &[]),
        (words(doorbells::RING_AGAIN), &["100", "5", "200", "50"]),
        (doorbells::EXPIRED, &["100", "5"]),
        (leases::RAN_OUT, &["300", "5"]),
        (retire::OVER, &["100", "''", "200", "5"]),
        (retire::OVER_FIRST, &["100", "5", "200", "''"]),
        (words(retire::OLD_KEYS), &["300", "5"]),
        (words(callbacks::TAKE), &["300", "400", "5"]),
        (
            "SELECT fn_id, COUNT(*) FROM doorbells d WHERE d.rung_at IS NOT NULL AND d.fn_id = $1 GROUP BY d.fn_id",
            &["'fn0'"],
        ),
    ];
    let all = all.into_iter().map(|(sql, values)| Statement {
        sql: sql.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    });
    all.collect()
}

/// Those of PostgreSQL on the rows of a batch.
pub(in super::super) fn batches() -> Vec<Statement> {
    let all = [
        accept::KNOWN,
        claim::LOOK,
        doorbells::FORGET,
        doorbells::CONFIRM,
        doorbells::WAKE,
        doorbells::WOKEN,
        doorbells::RUNG,
        doorbells::RING_AGAIN,
        callbacks::TAKE,
        keys::HELD,
        leases::START,
        leases::RENEW,
        leases::STILL_OUT,
        list::BY_IDS,
        moves::LOCKED,
        moves::LOCKED_IF_FREE,
        moves::UPDATE,
        moves::END_ATTEMPTS,
        redrive::SUCCEED,
        results::REQUESTS,
        retire::USED_REQUESTS,
        super::super::call_logs::DELETE,
    ];
    let all = all.iter().chain(&retire::PARTS).chain(&retire::REST);
    let statements = all.map(|sql| Statement {
        sql: sql.postgres.to_owned(),
        values: vec![
            "'[]'".to_owned(),
            String::new(),
            "5".to_owned(),
            "5".to_owned(),
        ],
    });
    statements.map(typed).collect()
}

/// The second parameter is a runner in some statements, and a number in others.
fn typed(mut statement: Statement) -> Statement {
    let runner = statement.sql.contains("runner_id = $2");
    statement.values[1] = if runner { "'r'" } else { "5" }.to_owned();
    if statement.sql.contains("<= $1") {
        statement.values[0] = "5".to_owned();
    }
    statement
}

/// The statements of the list with this filter, in the middle.
pub(in super::super) fn list(filter: &CallFilter) -> Vec<Statement> {
    let statements = list::explained(filter, Some("id110000"), 30);
    let statements = statements.into_iter();
    statements
        .map(|(sql, values)| Statement { sql, values })
        .collect()
}
