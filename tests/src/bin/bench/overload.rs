//! P13: three times as many calls as there is room for: what still gets done, and how soon the others
//! know.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use hearth_tests::{Deployed, Server, functions};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::open_loop::Counted;
use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::statistics::median;
use crate::targets::SETTINGS;
use crate::tell;

/// What the function does with a call: it waits for something else, for so many milliseconds.
const CALL_MILLIS: u32 = 5;

/// How many containers of it there is memory for. So containers are what runs out, not processors:
/// the generator and the servers share those.
const CONTAINERS: u32 = 8;
const CONTAINER_MIB: u32 = 64;

/// What sheds. By default a call waits six minutes for a container, and is never refused sooner while
/// somebody waits for it; this is for clients that would rather be told. It is longer than a call takes,
/// so that the queue is never empty when a container becomes free.
const PATIENCE: &str = "7ms";

/// Clients that find out what the server can do at best: each container has a call, and another waits.
const CLIENTS: u32 = 2 * CONTAINERS;

/// How much more than that is then asked for.
const OVERLOAD: f64 = 3.0;

/// How long the generator waits for an answer.
const TIMEOUT_MILLIS: u32 = 1000;

/// Loads, of a second or two each, in which all containers must have been started.
const WARM_UPS: u32 = 20;

/// From here on the generator may be what limits.
const BUSY_GENERATOR: f64 = 0.95;
const LATE_MILLIS: f64 = 5.0;

const ORIGINAL: &str = "0.38–0.54 of its peak, at 64 clients already";

/// A server and the function that is called.
struct Overloaded {
    name: &'static str,
    server: Server,
    function: Deployed,
    saturated: Vec<Counted>,
    overloaded: Vec<Counted>,
}

/// Measures.
pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let memory = (u64::from(CONTAINERS * CONTAINER_MIB) << 20).to_string();
    let mut settings = SETTINGS.to_vec();
    settings.extend([
        ("FN_PLACEMENT_TIMEOUT", PATIENCE),
        ("FN_MAX_TOTAL_MEMORY_BYTES", memory.as_str()),
    ]);
    let mut both = [
        Overloaded::start("one node", Server::start(&settings).await).await?,
        Overloaded::start("cluster", Server::start_cluster(&settings, None).await).await?,
    ];
    for round in 1..=plan.rounds {
        tell(format_args!("overload, round {round} of {}", plan.rounds));
        for overloaded in &mut both {
            overloaded.round(plan.seconds).await?;
        }
    }
    for overloaded in &both {
        overloaded.tell(report);
    }
    let raw = both.each_ref().map(Overloaded::json);
    report.section("Overload", text(&both), raw.as_slice().into());
    Ok(())
}

impl Overloaded {
    /// Deploys the function, and calls it until all containers that there is room for run.
    async fn start(name: &'static str, server: Server) -> anyhow::Result<Self> {
        tell(format_args!(
            "starting and warming {name}, to be overloaded"
        ));
        let knobs = json!({ "sleepTime": CALL_MILLIS }).to_string();
        let settings = json!({
            "memory": CONTAINER_MIB,
            "idle_timeout": 3600,
            "config": { "TEST_KNOBS": knobs },
        });
        let image = functions::image("test-function");
        let function = Deployed::new(&server.client, "overload", &image, settings).await;
        let started = Self {
            name,
            server,
            function,
            saturated: Vec::new(),
            overloaded: Vec::new(),
        };
        for _ in 0..WARM_UPS {
            started.load(&["--clients", "64"], 1).await?;
            if started.server.containers().len() == CONTAINERS as usize {
                return Ok(started);
            }
        }
        bail!("{name} has not started all the containers that there is memory for")
    }

    /// What the server can do at best, and what it does when three times that is asked for.
    async fn round(&mut self, seconds: u64) -> anyhow::Result<()> {
        let clients = CLIENTS.to_string();
        let saturated = self.load(&["--clients", &clients], seconds).await?;
        let rate = (OVERLOAD * saturated.good_per_second).to_string();
        self.saturated.push(saturated);
        let overloaded = self.load(&["--rate", &rate], seconds).await?;
        self.overloaded.push(overloaded);
        Ok(())
    }

    async fn load(&self, how: &[&str], seconds: u64) -> anyhow::Result<Counted> {
        // Not by its name: a build may have replaced the file meanwhile.
        let output = Command::new("/proc/self/exe")
            .arg("generator")
            .args([
                "--url",
                &format!("{}{}", self.server.client.base(), self.function.path),
            ])
            .args(["--seconds", &seconds.to_string()])
            .args(["--timeout-millis", &TIMEOUT_MILLIS.to_string()])
            .args(how)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .context("the generator cannot be started")?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).with_context(|| format!("the generator said: {text}"))
    }

    fn tell(&self, report: &mut Report) {
        let name = self.name;
        let good = |counted: &[Counted]| of(counted, |counted| Some(counted.good_per_second));
        let (goodput, peak) = (good(&self.overloaded), good(&self.saturated));
        report.row(Row {
            id: "P13",
            what: format!("overload, {name}, 3 × saturation: goodput / peak"),
            ours: format!("{goodput:.0}/s"),
            theirs: format!("{peak:.0}/s"),
            value: goodput / peak,
            unit: "",
            bar: Bar::AtLeast(0.95),
            original: ORIGINAL,
        });
        let p99 = of(&self.overloaded, |counted| counted.refused_p99);
        report.row(Row {
            id: "P13",
            what: format!("overload, {name}, 3 × saturation: p99 of refusals"),
            ours: format!("{p99:.2} ms"),
            theirs: "–".to_owned(),
            value: p99,
            unit: " ms",
            bar: Bar::AtMost(10.0),
            original: "–",
        });
        let asked: f64 = self
            .saturated
            .iter()
            .map(|counted| counted.good_per_second)
            .sum();
        let offered: f64 = self
            .overloaded
            .iter()
            .map(|counted| counted.offered_per_second)
            .sum();
        let late = of(&self.overloaded, |counted| counted.late_p99);
        let cpu = of(&self.overloaded, |counted| Some(counted.cpu));
        if late > LATE_MILLIS || cpu > BUSY_GENERATOR || offered < 0.99 * OVERLOAD * asked {
            report.note(format!(
                "overload, {name}: the generator did not keep up (p99 of its own delay {late:.2} ms, {:.0} % of a \
                 processor), and may be what limits.",
                cpu * 100.0
            ));
        }
    }

    fn json(&self) -> Value {
        json!({ "target": self.name, "saturated": self.saturated, "overloaded": self.overloaded })
    }
}

/// The median over the rounds that have the value.
fn of(all: &[Counted], value: impl Fn(&Counted) -> Option<f64>) -> f64 {
    median(&all.iter().filter_map(value).collect::<Vec<_>>())
}

fn text(both: &[Overloaded]) -> String {
    let mut text = format!(
        "A function that waits {CALL_MILLIS} ms in a call, and memory for {CONTAINERS} containers of it; \
         `FN_PLACEMENT_TIMEOUT={PATIENCE}`, everything else by default. With the default of 360 s nothing is shed here: \
         calls wait. A call that finds no container within that time is refused with 503 by whoever waits: one node's \
         agent, or in a cluster first the runner, then the load balancer, which looks for another runner in what is left. \
         `FN_MAX_WAITING_CALLS` (default 10000) refuses sooner only when that many calls wait in a load balancer. \
         Saturation is the throughput for {CLIENTS} clients that call again at once; then one client sends {OVERLOAD} × \
         that at a fixed rate, with a time-out of {TIMEOUT_MILLIS} ms, and counts latency from the moment at which a call \
         was to be sent. Here containers run out; an overload of the processors is not measured, because the generator \
         needs them too.\n\n\
         | target | load | offered/s | good/s | p50 | p99 | refused/s | p50 | p99 | timed out | failed | delay of the generator, p99 | its CPU |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for overloaded in both {
        for (load, counted) in [
            ("saturation", &overloaded.saturated),
            ("3 ×", &overloaded.overloaded),
        ] {
            let cell = |value: fn(&Counted) -> Option<f64>| {
                let value = of(counted, value);
                if value.is_nan() {
                    "–".to_owned()
                } else {
                    format!("{value:.2} ms")
                }
            };
            let rate = |value: fn(&Counted) -> f64| of(counted, |counted| Some(value(counted)));
            let sum = |value: fn(&Counted) -> u64| counted.iter().map(value).sum::<u64>();
            text.push_str(&format!(
                "| {} | {load} | {:.0} | {:.0} | {} | {} | {:.0} | {} | {} | {} | {} | {} | {:.0} % |\n",
                overloaded.name,
                rate(|counted| counted.offered_per_second),
                rate(|counted| counted.good_per_second),
                cell(|counted| counted.good_p50),
                cell(|counted| counted.good_p99),
                rate(|counted| counted.refused_per_second),
                cell(|counted| counted.refused_p50),
                cell(|counted| counted.refused_p99),
                sum(|counted| counted.timed_out),
                sum(|counted| counted.failed),
                cell(|counted| counted.late_p99),
                rate(|counted| counted.cpu) * 100.0,
            ));
        }
    }
    text.push_str(&format!(
        "\nOf the original it is only known that its throughput is {ORIGINAL}.\n"
    ));
    text
}
