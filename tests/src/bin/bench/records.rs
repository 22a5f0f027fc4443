//! Records of calls in great number: how long each list takes, and whether they are deleted as fast as
//! they come.

mod fill;
mod lists;
mod retention;
mod writer;

use std::path::Path;

use hearth_tests::postgres::Cluster as Postgres;
use hearth_tests::process::Process;

use crate::plan::Plan;
use crate::report::Report;
use crate::sql::Sql;
use crate::targets::SETTINGS;
use crate::tell;

/// Records in SQLite's file, of ten in PostgreSQL: it is for one machine.
const SQLITE_SHARE: u64 = 10;

/// Measures.
pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let postgres = Postgres::start_durable();
    let database = postgres.create_database();
    let sql = Sql {
        postgres: &postgres,
        database: &database,
    };
    let mut node = node(directory.path(), &database, &[])?;
    // It makes the schema.
    node.start().await;
    node.stop_at_once();
    fill::fill(&sql, plan.records).await?;
    let size = sql
        .run("SELECT pg_size_pretty(pg_database_size(current_database()))")
        .await?;
    report.note(format!(
        "{} records are {size} of PostgreSQL.",
        plan.records
    ));
    node.start().await;
    node.ready().await;
    let postgres_lists = lists::measure(plan, &node, fill::DAYS).await?;

    let retention = retention::measure(&sql, &mut node, directory.path()).await?;
    drop((node, postgres));

    let file = directory.path().join("calls.db");
    let url = format!("sqlite3://{}", file.display());
    let mut node = self::node(&directory.path().join("sqlite"), &url, &[])?;
    node.start().await;
    node.ready().await;
    writer::fill(&node, plan.records / SQLITE_SHARE).await?;
    let sqlite_lists = lists::measure(plan, &node, fill::DAYS).await?;

    lists::tell_all(plan, &postgres_lists, &sqlite_lists, report);
    retention.tell(report);
    Ok(())
}

/// An API node that works in `directory`.
fn node(directory: &Path, database: &str, settings: &[(&str, &str)]) -> anyhow::Result<Process> {
    std::fs::create_dir_all(directory)?;
    let database = [("FN_DB_URL", database)];
    let all = SETTINGS.iter().chain(&database).chain(settings);
    let all = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    tell(format_args!("starting an API node {settings:?}"));
    Ok(Process::new("api", directory, all.collect()))
}
