//! P14: resident memory of an idle server, and of each idle hot container in it.

use std::time::Duration;

use hearth_tests::{Deployed, Server, eventually_within};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::targets::SETTINGS;
use crate::tell;

/// Containers before the count begins: the first ones make things that all share.
const FIRST: u32 = 10;

/// Measures a server of its own: no other part has used it.
pub(crate) async fn measure(plan: &Plan, image: &str, report: &mut Report) -> anyhow::Result<()> {
    tell("memory of an idle server");
    let server = Server::start(SETTINGS).await;
    let idle = server.resident_memory();
    let app = server
        .client
        .post("/v2/apps", json!({ "name": "memory" }).to_string())
        .await
        .expect(200)
        .json();
    let first = with_containers(&server, &app, image, 0..FIRST).await;
    tell(format_args!(
        "memory of {} idle containers",
        plan.idle_containers
    ));
    let all = FIRST + plan.idle_containers;
    let last = with_containers(&server, &app, image, FIRST..all).await;
    let each = (last as f64 - first as f64) / f64::from(plan.idle_containers) / 1024.0;
    report.row(row(
        "resident memory of an idle server",
        mib(idle),
        " MiB",
        30.0,
        "27–150 MiB",
    ));
    report.row(row(
        "resident memory per idle hot container",
        each,
        " KiB",
        64.0,
        "–",
    ));
    report.data(
        "memory",
        json!({
            "idle_bytes": idle,
            "containers": [FIRST, all],
            "resident_bytes": [first, last],
        }),
    );
    Ok(())
}

/// Calls functions of their own once each, and waits until the container of every one of them is
/// frozen. Yields the resident memory then.
async fn with_containers(
    server: &Server,
    app: &Value,
    image: &str,
    numbers: std::ops::Range<u32>,
) -> u64 {
    let containers = numbers.end;
    for number in numbers {
        let settings = json!({ "memory": 32, "idle_timeout": 3600 });
        let function = Deployed::in_app(
            &server.client,
            app,
            &format!("idle-{number}"),
            image,
            settings,
        )
        .await;
        function.call("hi").await.expect(200);
    }
    eventually_within(
        Duration::from_secs(60),
        "all containers are frozen",
        async || {
            let text = server.client.get("/metrics").await.text();
            let lines = text
                .lines()
                .filter(|line| line.starts_with("fn_container_paused_total{"));
            let frozen: f64 = lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum();
            (frozen >= f64::from(containers)).then_some(())
        },
    )
    .await;
    server.resident_memory()
}

fn row(what: &str, value: f64, unit: &'static str, most: f64, original: &'static str) -> Row {
    Row {
        id: "P14",
        what: what.to_owned(),
        ours: format!("{value:.1}{unit}"),
        theirs: "–".to_owned(),
        value,
        unit,
        bar: Bar::AtMost(most),
        original,
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
