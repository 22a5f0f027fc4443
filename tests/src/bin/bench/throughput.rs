//! P1, P2, P3: calls per second and latency of a hot function.

use std::time::Duration;

use serde_json::{Value, json};

use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::statistics::median;
use crate::targets::{Hearth, Limits};
use crate::tell;
use crate::wrk::{Load, Wrk};

const CONNECTIONS: [u32; 3] = [1, 16, 64];
const NAMES: [&str; 3] = ["nginx", "proxy", "hearth"];
const NGINX: usize = 0;
const PROXY: usize = 1;
const HEARTH: usize = 2;

/// wrk has one thread: from here on it may be the limit.
const BUSY_CLIENT: f64 = 0.95;

/// All measurements of one target with one number of clients.
#[derive(Default)]
struct Series(Vec<Load>);

impl Series {
    /// The median over the rounds without a failed request.
    fn median(&self, of: impl Fn(&Load) -> f64) -> f64 {
        let good: Vec<f64> = self
            .0
            .iter()
            .filter(|load| load.errors == 0)
            .map(of)
            .collect();
        median(&good)
    }

    fn per_second(&self) -> f64 {
        self.median(|load| load.per_second)
    }

    fn p99(&self) -> f64 {
        self.median(|load| load.p99_millis)
    }

    fn errors(&self) -> u64 {
        self.0.iter().map(|load| load.errors).sum()
    }

    fn client_cpu(&self) -> f64 {
        self.median(|load| load.client_cpu)
    }
}

/// Measures.
pub(crate) async fn measure(
    plan: &Plan,
    hearth: &Hearth,
    limits: &Limits,
    report: &mut Report,
) -> anyhow::Result<()> {
    let wrk = Wrk::new()?;
    let urls = [limits.nginx_url(), limits.proxy_url(), hearth.url()];
    tell("warming all three");
    for url in &urls {
        wrk.load(url, 64, Duration::from_secs(2)).await?;
    }
    let mut all: [[Series; 3]; 3] = Default::default();
    for round in 1..=plan.rounds {
        tell(format_args!("throughput, round {round} of {}", plan.rounds));
        for (connections, of_connections) in CONNECTIONS.iter().zip(&mut all) {
            for (url, series) in urls.iter().zip(of_connections) {
                series
                    .0
                    .push(wrk.load(url, *connections, plan.duration()).await?);
            }
        }
    }
    let [one, sixteen, sixty_four] = &all;
    for (clients, series) in [(16, sixteen), (64, sixty_four)] {
        report.row(throughput("P1", clients, series, NGINX, Bar::AtLeast(0.70)));
        report.row(throughput("P1", clients, series, PROXY, Bar::AtLeast(0.85)));
    }
    let (ours, theirs) = (sixty_four[HEARTH].p99(), sixty_four[NGINX].p99());
    report.row(Row {
        id: "P2",
        what: "hot call, c=64: p99 / nginx".to_owned(),
        ours: format!("{ours:.2} ms"),
        theirs: format!("{theirs:.2} ms"),
        value: ours / theirs,
        unit: "",
        bar: Bar::AtMost(2.0),
    });
    report.row(throughput("P3", 1, one, NGINX, Bar::AtLeast(0.60)));
    report.section("Throughput", table(&all), json(&all));
    note_trouble(&all, report);
    Ok(())
}

fn throughput(id: &'static str, clients: u32, series: &[Series; 3], other: usize, bar: Bar) -> Row {
    let (ours, theirs) = (series[HEARTH].per_second(), series[other].per_second());
    Row {
        id,
        what: format!("hot call, c={clients}: throughput / {}", NAMES[other]),
        ours: format!("{ours:.0}/s"),
        theirs: format!("{theirs:.0}/s"),
        value: ours / theirs,
        unit: "",
        bar,
    }
}

fn note_trouble(all: &[[Series; 3]; 3], report: &mut Report) {
    for (connections, series) in CONNECTIONS.iter().zip(all) {
        for (name, series) in NAMES.iter().zip(series) {
            if series.errors() > 0 {
                let bad = series.0.iter().filter(|load| load.errors > 0).count();
                let errors = series.errors();
                report.note(format!("{name}, c={connections}: {errors} failed request(s); {bad} round(s) do not count."));
            }
            if series.client_cpu() > BUSY_CLIENT {
                report.note(format!(
                    "{name}, c={connections}: wrk was busy all the time, and may be what limits."
                ));
            }
        }
    }
}

fn table(all: &[[Series; 3]; 3]) -> String {
    let mut text = "| clients | target | calls/s | p50 | p99 | failed | CPU of wrk |\n|---|---|---|---|---|---|---|\n".to_owned();
    for (connections, series) in CONNECTIONS.iter().zip(all) {
        for (name, series) in NAMES.iter().zip(series) {
            text.push_str(&format!(
                "| {connections} | {name} | {:.0} | {:.2} ms | {:.2} ms | {} | {:.0} % |\n",
                series.per_second(),
                series.median(|load| load.p50_millis),
                series.p99(),
                series.errors(),
                series.client_cpu() * 100.0,
            ));
        }
    }
    text
}

fn json(all: &[[Series; 3]; 3]) -> Value {
    let mut runs = Vec::new();
    for (connections, series) in CONNECTIONS.iter().zip(all) {
        for (name, series) in NAMES.iter().zip(series) {
            runs.extend(series.0.iter().enumerate().map(|(round, load)| {
                json!({
                    "round": round + 1,
                    "target": name,
                    "connections": connections,
                    "per_second": load.per_second,
                    "p50_millis": load.p50_millis,
                    "p99_millis": load.p99_millis,
                    "errors": load.errors,
                    "client_cpu": load.client_cpu,
                })
            }));
        }
    }
    Value::Array(runs)
}
