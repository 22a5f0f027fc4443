//! P7: how many containers many clients of a short function bring forth.

use hearth_tests::Deployed;
use serde_json::json;

use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::targets::Hearth;
use crate::tell;
use crate::wrk::Wrk;

/// Functions that are tried, each of them cold; the worst one counts.
const FUNCTIONS: u32 = 3;

/// Measures.
pub(crate) async fn measure(
    plan: &Plan,
    hearth: &Hearth,
    image: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let wrk = Wrk::new()?;
    let mut launched = Vec::new();
    for number in 1..=FUNCTIONS {
        tell(format_args!(
            "64 clients of a cold function, {number} of {FUNCTIONS}"
        ));
        let name = format!("burst-{number}");
        let settings = json!({ "idle_timeout": 3600 });
        let function =
            Deployed::in_app(&hearth.server.client, &hearth.app, &name, image, settings).await;
        let load = wrk
            .load(&hearth.url_of(&function), 64, plan.duration())
            .await?;
        if load.errors > 0 {
            report.note(format!(
                "P7: {} request(s) to a cold function failed.",
                load.errors
            ));
        }
        launched.push(started(hearth, &function).await);
    }
    let worst = launched.iter().copied().max().unwrap_or_default();
    report.row(Row {
        id: "P7",
        what: "containers started for 64 clients of a cold function".to_owned(),
        ours: worst.to_string(),
        theirs: "–".to_owned(),
        value: f64::from(worst),
        unit: "",
        bar: Bar::AtMost(8.0),
        original: "49",
    });
    report.data("launches", json!({ "containers": launched }));
    Ok(())
}

/// How many containers of a function have left the state in which they are started.
async fn started(hearth: &Hearth, function: &Deployed) -> u32 {
    let text = hearth.server.client.get("/metrics").await.text();
    let id = format!("fn_id=\"{}\"", function.fn_id);
    let lines = text
        .lines()
        .filter(|line| line.starts_with("fn_container_start_duration_seconds_count{"));
    lines
        .filter(|line| line.contains(&id))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
        .sum()
}
