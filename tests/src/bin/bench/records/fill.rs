//! The records: written by the database itself, by two sessions at once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sql::Sql;
use crate::tell;

/// How far back they go.
pub(super) const DAYS: u64 = 30;
/// Records of one statement.
const AT_ONCE: u64 = 250_000;
/// Functions with calls: the first one has a fifth of them, each later one fewer.
pub(super) const FNS: u64 = 400;
/// A function with a handful of calls.
pub(super) const RARE_FN: u64 = 401;

/// The id of a function; every twentieth one has the same app.
pub(super) fn fn_id(number: u64) -> String {
    format!("{:0>26}", format!("FN{number}"))
}

/// The id of an app; there are 20.
pub(super) fn app_id(number: u64) -> String {
    format!("{:0>26}", format!("APP{number}"))
}

/// Fills the schema that a node has made with so many records; they end now.
pub(super) async fn fill(sql: &Sql<'_>, records: u64) -> anyhow::Result<()> {
    tell(format_args!("writing {records} records"));
    let began = Instant::now();
    sql.run("ALTER SYSTEM SET max_wal_size = '4GB'").await?;
    sql.run("ALTER SYSTEM SET synchronous_commit = off").await?;
    sql.run("SELECT pg_reload_conf()").await?;
    sql.run(include_str!("fill.sql")).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let write = async |first: u64| {
        for start in (first * AT_ONCE..records).step_by(2 * AT_ONCE as usize) {
            let count = AT_ONCE.min(records - start);
            let now = now.as_millis();
            sql.run(&format!(
                "SELECT bench_fill({}, {count}, {records}, {DAYS}, {now})",
                start + 1
            ))
            .await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(write(0), write(1))?;
    tell(format_args!("indexes, after {:.0?}", began.elapsed()));
    sql.run(
        "SET maintenance_work_mem = '512MB'; DO $$ DECLARE one RECORD; \
         BEGIN FOR one IN SELECT * FROM bench_indexes LOOP EXECUTE one.make; END LOOP; END $$",
    )
    .await?;
    sql.run("VACUUM ANALYZE").await?;
    sql.run("ALTER SYSTEM RESET ALL").await?;
    sql.run("SELECT pg_reload_conf()").await?;
    sql.run("CHECKPOINT").await?;
    let took = Duration::from_secs(began.elapsed().as_secs());
    tell(format_args!("they are written, after {took:?}"));
    Ok(())
}
