//! P6: the first call of a function, against the same container made by hand.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hearth_tests::{Deployed, eventually};
use serde_json::json;

use crate::connection::Connection;
use crate::engine_api::EngineApi;
use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::statistics::{median, percentile};
use crate::targets::Hearth;
use crate::tell;
use crate::twin::{Recipe, Twin};

/// Measures both in turns; what a start leaves behind is removed before the next one.
pub(crate) async fn measure(
    plan: &Plan,
    hearth: &Hearth,
    image: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut engine = EngineApi::connect().await?;
    let warm = hearth.server.containers();
    let recipe = Recipe::of(
        &mut engine,
        warm.first().context("Hearth has a warm container")?,
    )
    .await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 1..=plan.cold_starts {
        tell(format_args!("cold start {turn} of {}", plan.cold_starts));
        ours.push(millis(first_call(hearth, image, turn, warm.len()).await?));
        let bare = tokio::time::timeout(Duration::from_secs(60), by_hand(&mut engine, &recipe));
        theirs.push(millis(bare.await.context("a container does not start")??));
    }
    report.row(Row {
        id: "P6",
        what: "cold start, p50 / engine's create and start, socket, answer".to_owned(),
        ours: format!("{:.0} ms", median(&ours)),
        theirs: format!("{:.0} ms", median(&theirs)),
        value: median(&ours) / median(&theirs),
        unit: "",
        bar: Bar::AtMost(1.10),
        original: "~1.0",
    });
    let table = format!(
        "| | p50 | p99 | fastest |\n|---|---|---|---|\n{}{}",
        line("hearth", &ours),
        line("by hand", &theirs)
    );
    report.section(
        "Cold start",
        table,
        json!({ "hearth_millis": ours, "by_hand_millis": theirs }),
    );
    Ok(())
}

async fn first_call(
    hearth: &Hearth,
    image: &str,
    turn: u32,
    warm: usize,
) -> anyhow::Result<Duration> {
    let settings = json!({ "idle_timeout": 1 });
    let name = format!("cold-{turn}");
    let function =
        Deployed::in_app(&hearth.server.client, &hearth.app, &name, image, settings).await;
    let (mut connection, path) = Connection::to_url(&hearth.url_of(&function)).await?;
    let took = connection.call(&path).await?;
    eventually("the cold container is gone", async || {
        (hearth.server.containers().len() == warm).then_some(())
    })
    .await;
    Ok(took)
}

async fn by_hand(engine: &mut EngineApi, recipe: &Recipe) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let (twin, stream) = Twin::start(engine, recipe).await?;
    let mut connection = Connection::over_socket(stream).await?;
    connection.call("/call").await?;
    let took = began.elapsed();
    drop(twin);
    Ok(took)
}

fn line(name: &str, values: &[f64]) -> String {
    let fastest = percentile(values, 0.0);
    format!(
        "| {name} | {:.0} ms | {:.0} ms | {fastest:.0} ms |\n",
        median(values),
        percentile(values, 99.0)
    )
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
