//! P5: what a call costs after the function was idle for a while.

use std::time::Duration;

use serde_json::json;

use crate::connection::Connection;
use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::statistics::{median, percentile};
use crate::targets::{Hearth, Limits};
use crate::tell;

/// How long the function is idle before a call. It is frozen from 50 ms on.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(1100),
];

/// What the original needs after them, by its calls in a row.
const ORIGINAL: [&str; 3] = ["2.6", "13", "14"];

/// Calls in a row before each call after a pause.
const IN_A_ROW: usize = 100;

/// Milliseconds of calls.
#[derive(Default)]
struct Calls {
    in_a_row: Vec<f64>,
    after: [Vec<f64>; 3],
}

/// Measures.
pub(crate) async fn measure(
    plan: &Plan,
    hearth: &Hearth,
    limits: &Limits,
    report: &mut Report,
) -> anyhow::Result<()> {
    tell("calls after idleness");
    let mut ours = Calls::default();
    let mut theirs = Calls::default();
    let mut hearth = Connection::to_url(&hearth.url()).await?;
    let mut nginx = Connection::to_url(&limits.nginx_url()).await?;
    for _ in 0..plan.idle_calls {
        for ((connection, path), calls) in [(&mut hearth, &mut ours), (&mut nginx, &mut theirs)] {
            sample(connection, path, calls).await?;
        }
    }
    let mut table =
        "| | in a row | after 60 ms | 200 ms | 1.1 s |\n|---|---|---|---|---|\n".to_owned();
    for (name, calls) in [("hearth", &ours), ("nginx", &theirs)] {
        let cell = |values: &Vec<f64>| {
            format!("{:.3} / {:.3} ms", median(values), percentile(values, 99.0))
        };
        let [a, b, c] = calls.after.each_ref().map(cell);
        table.push_str(&format!(
            "| {name}, p50 / p99 | {} | {a} | {b} | {c} |\n",
            cell(&calls.in_a_row)
        ));
    }
    let base = median(&ours.in_a_row);
    for ((pause, after), original) in PAUSES.iter().zip(&ours.after).zip(ORIGINAL) {
        let after = median(after);
        report.row(Row {
            id: "P5",
            what: format!(
                "call after {} ms of idleness / in a row, p50",
                pause.as_millis()
            ),
            ours: format!("{after:.3} ms"),
            theirs: format!("{base:.3} ms"),
            value: after / base,
            unit: "",
            bar: Bar::AtMost(2.0),
            original,
        });
    }
    let all =
        |calls: &Calls| json!({ "in_a_row_millis": calls.in_a_row, "after_millis": calls.after });
    report.section(
        "Idleness",
        table,
        json!({ "hearth": all(&ours), "nginx": all(&theirs) }),
    );
    Ok(())
}

async fn sample(connection: &mut Connection, path: &str, calls: &mut Calls) -> anyhow::Result<()> {
    for (pause, after) in PAUSES.iter().zip(&mut calls.after) {
        for _ in 0..IN_A_ROW {
            calls.in_a_row.push(millis(connection.call(path).await?));
        }
        tokio::time::sleep(*pause).await;
        after.push(millis(connection.call(path).await?));
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
