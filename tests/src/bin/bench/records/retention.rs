//! Whether records are deleted as fast as they come, and what those who write notice of it.

use std::path::Path;
use std::time::Duration;

use hearth_tests::process::Process;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{node, writer};
use crate::report::{Bar, Report, Row};
use crate::sql::Sql;
use crate::statistics::percentile;
use crate::tell;

/// Calls that come in, and have to go, in a second.
const PER_SECOND: u64 = 2000;
/// Each measurement with many records.
const AMONG_MANY: Duration = Duration::from_secs(40);
/// Of a table of its own, until it has long had to stop growing.
const LEVEL: Duration = Duration::from_secs(100);
/// How long everything is kept there.
const KEPT: &str = "20s";
/// How often that table is counted.
const LOOK: Duration = Duration::from_secs(10);

const DELETED: &str =
    "SELECT coalesce(sum(n_tup_del), 0) FROM pg_stat_user_tables WHERE relname = 'calls'";

/// What was measured.
pub(super) struct Retention {
    /// How long batches took while nothing was deleted, while much was, and while as much was as came.
    alone: Vec<f64>,
    backlog: Vec<f64>,
    level: Vec<f64>,
    /// Calls deleted in a second while half of all were too old.
    deleted_per_second: f64,
    /// Calls in the table of its own, one look after the other.
    counts: Vec<f64>,
}

/// Measures among the records of a node, and on a database of its own.
pub(super) async fn measure(
    sql: &Sql<'_>,
    among_many: &mut Process,
    directory: &Path,
) -> anyhow::Result<Retention> {
    tell("writers, and nothing to delete");
    let alone = writer::write(among_many, PER_SECOND, AMONG_MANY).await?;

    tell("writers, while half of the records are too old");
    among_many.stop_at_once();
    let half = format!("{}h", super::fill::DAYS * 24 / 2);
    among_many.set("FN_CALL_RETENTION", &half);
    let before = sql.number(DELETED).await?;
    let began = Instant::now();
    among_many.start().await;
    among_many.ready().await;
    let backlog = writer::write(among_many, PER_SECOND, AMONG_MANY).await?;
    let deleted = sql.number(DELETED).await? - before;
    let deleted_per_second = deleted / began.elapsed().as_secs_f64();
    among_many.stop_at_once();

    tell("writers, and a table that has to stop growing");
    let database = sql.postgres.create_database();
    let settings = [
        ("FN_CALL_RETENTION", KEPT),
        ("FN_CALL_RESULT_RETENTION", KEPT),
        ("FN_CALL_LOG_RETENTION", KEPT),
    ];
    let mut own = node(&directory.join("level"), &database, &settings)?;
    own.start().await;
    own.ready().await;
    let sql = Sql {
        postgres: sql.postgres,
        database: &database,
    };
    let looks = async {
        let mut counts = Vec::new();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        for _ in 0..LEVEL.as_secs() / LOOK.as_secs() {
            ticks.tick().await;
            counts.push(sql.number("SELECT count(*) FROM calls").await?);
        }
        anyhow::Ok(counts)
    };
    let (level, counts) = tokio::try_join!(writer::write(&own, PER_SECOND, LEVEL), looks)?;
    Ok(Retention {
        alone,
        backlog,
        level,
        deleted_per_second,
        counts,
    })
}

impl Retention {
    /// Adds the bar, and a table.
    pub(super) fn tell(&self, report: &mut Report) {
        report.row(Row {
            id: "P15",
            what: format!(
                "calls deleted per second while {PER_SECOND} are written and half of all are too old"
            ),
            ours: format!("{:.0}/s", self.deleted_per_second),
            theirs: format!("{PER_SECOND}/s written"),
            value: self.deleted_per_second / PER_SECOND as f64,
            unit: "",
            bar: Bar::AtLeast(1.0),
            original: "no retention",
        });
        let mut table = format!(
            "{PER_SECOND} records of calls a second, a batch each 50 ms, over gRPC; milliseconds of a batch.\n\n\
             | | p50 | p99 | most |\n|---|---|---|---|\n"
        );
        for (what, millis) in [
            ("nothing to delete", &self.alone),
            ("half of all to delete, as fast as it goes", &self.backlog),
            ("a table of its own, everything kept for 20 s", &self.level),
        ] {
            table += &format!(
                "| {what} | {:.1} | {:.1} | {:.1} |\n",
                percentile(millis, 50.0),
                percentile(millis, 99.0),
                percentile(millis, 100.0)
            );
        }
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|count| format!("{count:.0}"))
            .collect();
        table += &format!(
            "\nCalls in the table of its own, every {} s: {}.\n",
            LOOK.as_secs(),
            counts.join(", ")
        );
        let raw = json!({ "deleted_per_second": self.deleted_per_second, "counts": self.counts });
        report.section("Retention", table, raw);
    }
}
