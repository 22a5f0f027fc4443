//! Rounds of load: every target at every number of clients, in turns, and the medians over the rounds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::statistics::median;
use crate::tell;
use crate::wrk::{Load, Wrk};

const CLIENTS: [u32; 3] = [1, 16, 64];

/// wrk has one thread: from here on it may be the limit.
const BUSY_CLIENT: f64 = 0.95;

/// What is called, and under which name it is reported.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) url: String,
}

/// All measurements of one target with one number of clients.
pub(crate) struct Series {
    name: &'static str,
    clients: u32,
    loads: Vec<Load>,
}

impl Series {
    /// The median over the rounds without a failed request.
    fn median(&self, of: impl Fn(&Load) -> f64) -> f64 {
        let good = self.loads.iter().filter(|load| load.errors == 0);
        median(&good.map(of).collect::<Vec<_>>())
    }

    /// Calls per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.median(|load| load.per_second)
    }

    /// 99 of a hundred calls took no longer, in milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.median(|load| load.p99_millis)
    }

    fn errors(&self) -> u64 {
        self.loads.iter().map(|load| load.errors).sum()
    }

    fn client_cpu(&self) -> f64 {
        self.median(|load| load.client_cpu)
    }

    fn line(&self) -> String {
        format!(
            "| {} | {} | {:.0} | {:.2} ms | {:.2} ms | {} | {:.0} % |\n",
            self.clients,
            self.name,
            self.per_second(),
            self.median(|load| load.p50_millis),
            self.p99(),
            self.errors(),
            self.client_cpu() * 100.0,
        )
    }

    fn json(&self) -> impl Iterator<Item = Value> {
        self.loads.iter().enumerate().map(|(round, load)| {
            json!({
                "round": round + 1,
                "target": self.name,
                "connections": self.clients,
                "per_second": load.per_second,
                "p50_millis": load.p50_millis,
                "p99_millis": load.p99_millis,
                "errors": load.errors,
                "client_cpu": load.client_cpu,
            })
        })
    }
}

/// What all rounds have measured.
pub(crate) struct Rounds(Vec<Series>);

impl Rounds {
    /// Warms the targets, and measures them.
    pub(crate) async fn measure(
        plan: &Plan,
        targets: &[Target],
        report: &mut Report,
    ) -> anyhow::Result<Self> {
        let wrk = Wrk::new()?;
        tell("warming everything that is called");
        for target in targets {
            wrk.load(&target.url, 64, Duration::from_secs(2)).await?;
        }
        let mut all = Vec::new();
        for clients in CLIENTS {
            all.extend(targets.iter().map(|target| Series {
                name: target.name,
                clients,
                loads: Vec::new(),
            }));
        }
        for round in 1..=plan.rounds {
            tell(format_args!("throughput, round {round} of {}", plan.rounds));
            for (series, target) in all.iter_mut().zip(targets.iter().cycle()) {
                let load = wrk.load(&target.url, series.clients, plan.duration());
                series.loads.push(load.await?);
            }
        }
        let rounds = Self(all);
        rounds.note_trouble(report);
        Ok(rounds)
    }

    /// What was measured of one target with one number of clients.
    pub(crate) fn of(&self, name: &str, clients: u32) -> &Series {
        let mut all = self.0.iter();
        all.find(|series| series.name == name && series.clients == clients)
            .expect("a target is measured with each number of clients")
    }

    /// The throughput of a target by that of another.
    pub(crate) fn ratio(&self, id: &'static str, clients: u32, of: &str, by: &str) -> Row {
        let (ours, theirs) = (
            self.of(of, clients).per_second(),
            self.of(by, clients).per_second(),
        );
        Row {
            id,
            what: format!("hot call, c={clients}: throughput / {by}"),
            ours: format!("{ours:.0}/s"),
            theirs: format!("{theirs:.0}/s"),
            value: ours / theirs,
            unit: "",
            bar: Bar::AtLeast(0.0),
            original: "–",
        }
    }

    /// The numbers of these targets, for people.
    pub(crate) fn table(&self, names: &[&str]) -> String {
        let head = "| clients | target | calls/s | p50 | p99 | failed | CPU of wrk |\n|---|---|---|---|---|---|---|\n";
        let lines = self.chosen(names).map(Series::line);
        std::iter::once(head.to_owned()).chain(lines).collect()
    }

    /// The same for programs.
    pub(crate) fn json(&self, names: &[&str]) -> Value {
        self.chosen(names).flat_map(Series::json).collect()
    }

    fn chosen(&self, names: &[&str]) -> impl Iterator<Item = &Series> {
        self.0.iter().filter(|series| names.contains(&series.name))
    }

    fn note_trouble(&self, report: &mut Report) {
        for series in &self.0 {
            let (name, clients) = (series.name, series.clients);
            if series.errors() > 0 {
                let bad = series.loads.iter().filter(|load| load.errors > 0).count();
                let errors = series.errors();
                report.note(format!(
                    "{name}, c={clients}: {errors} failed request(s); {bad} round(s) do not count."
                ));
            }
            if series.client_cpu() > BUSY_CLIENT {
                report.note(format!(
                    "{name}, c={clients}: wrk was busy all the time, and may be what limits."
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &'static str, per_second: &[f64]) -> Series {
        let load = |per_second: &f64| Load {
            requests: 0,
            per_second: *per_second,
            p50_millis: 1.0,
            p99_millis: 2.0,
            errors: u64::from(*per_second > 100.0),
            client_cpu: 0.5,
        };
        Series {
            name,
            clients: 16,
            loads: per_second.iter().map(load).collect(),
        }
    }

    #[test]
    fn a_ratio_is_one_of_medians_of_rounds_without_failures() {
        let rounds = Rounds(vec![
            series("nginx", &[40.0, 50.0, 60.0]),
            series("cluster", &[20.0, 25.0, 30.0, 1000.0]),
        ]);
        let row = rounds.ratio("P4", 16, "cluster", "nginx");
        assert_eq!((row.value, row.ours.as_str()), (0.5, "25/s"));
        let table = rounds.table(&["cluster"]);
        assert_eq!(table.lines().count(), 3);
        assert!(table.ends_with("| 16 | cluster | 25 | 1.00 ms | 2.00 ms | 1 | 50 % |\n"));
        assert_eq!(rounds.json(&["nginx"]).as_array().map(Vec::len), Some(3));
    }
}
