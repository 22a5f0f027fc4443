//! Numbers of a simulation, and the table they make.

use std::fmt::Write;

use super::policy::Policy;
use super::trace::{Trace, TraceSpec};
use super::world::{Outcome, WorldSpec, play};

/// Which simulations are run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many runners.
    pub runners: usize,
    /// How many load balancers.
    pub balancers: usize,
    /// How many functions.
    pub functions: usize,
    /// For how long calls come, in seconds; the first quarter does not count.
    pub seconds: f64,
    /// Shares of all processors that are busy on average.
    pub loads: Vec<f64>,
    /// Shares of runners that are slow: a tenth of the speed.
    pub slow: Vec<f64>,
    /// Random states.
    pub seeds: Vec<u64>,
    /// The rules.
    pub policies: Vec<Policy>,
}

/// What one simulation comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Calls that counted.
    pub calls: usize,
    /// Overhead that half of the calls stay below, in seconds.
    pub p50: f64,
    /// The same for 95 of 100.
    pub p95: f64,
    /// The same for 99 of 100.
    pub p99: f64,
    /// The share of calls that started a container.
    pub cold: f64,
    /// Runners asked per call, on average.
    pub tries: f64,
    /// The same at the 99th of 100 calls.
    pub tries_p99: f64,
    /// The share of calls without an answer.
    pub unfinished: f64,
    /// Whether the simulation was given up.
    pub collapsed: bool,
    /// The most healthy runners that were out at one load balancer.
    pub wrongly_out: usize,
}

impl Summary {
    /// The summary of a simulation.
    pub fn of(outcome: &Outcome) -> Self {
        let mut overheads = outcome.overheads.clone();
        overheads.sort_by(f64::total_cmp);
        let mut tries: Vec<f64> = outcome
            .tries
            .iter()
            .map(|tries| f64::from(*tries))
            .collect();
        tries.sort_by(f64::total_cmp);
        let calls = overheads.len();
        let per_call = |number: f64| number / calls.max(1) as f64;
        Self {
            calls,
            p50: quantile(&overheads, 0.50),
            p95: quantile(&overheads, 0.95),
            p99: quantile(&overheads, 0.99),
            cold: per_call(outcome.cold as f64),
            tries: per_call(tries.iter().sum()),
            tries_p99: quantile(&tries, 0.99),
            unfinished: per_call(outcome.unfinished as f64),
            collapsed: outcome.collapsed,
            wrongly_out: outcome.wrongly_out,
        }
    }

    /// The median of each number over several random states; collapsed if one of them was.
    pub fn median(all: &[Self]) -> Self {
        let middle = |number: fn(&Self) -> f64| {
            let mut numbers: Vec<f64> = all.iter().map(number).collect();
            numbers.sort_by(f64::total_cmp);
            quantile(&numbers, 0.5)
        };
        Self {
            calls: middle(|one| one.calls as f64) as usize,
            p50: middle(|one| one.p50),
            p95: middle(|one| one.p95),
            p99: middle(|one| one.p99),
            cold: middle(|one| one.cold),
            tries: middle(|one| one.tries),
            tries_p99: middle(|one| one.tries_p99),
            unfinished: middle(|one| one.unfinished),
            collapsed: all.iter().any(|one| one.collapsed),
            wrongly_out: all.iter().map(|one| one.wrongly_out).max().unwrap_or(0),
        }
    }
}

/// The value below which this share of sorted numbers is.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}

impl Plan {
    /// The plan of `docs/placement.md`.
    pub fn full() -> Self {
        Self {
            runners: 1_000,
            balancers: 4,
            functions: 10_000,
            seconds: 120.0,
            loads: vec![0.6, 0.7, 0.8],
            slow: vec![0.0, 0.03],
            seeds: vec![1, 2, 3, 4, 5],
            policies: super::policy::ALL.to_vec(),
        }
    }

    /// One that is over in seconds.
    pub fn quick() -> Self {
        Self {
            runners: 60,
            functions: 1_000,
            seconds: 40.0,
            loads: vec![0.7],
            slow: vec![0.0],
            seeds: vec![1],
            ..Self::full()
        }
    }

    /// The calls of one simulation.
    pub fn trace(&self, load: f64, seed: u64) -> Trace {
        let busy = load * 8.0 * self.runners as f64;
        TraceSpec {
            seed,
            functions: self.functions,
            seconds: self.seconds,
            busy,
        }
        .generate()
    }

    /// One simulation.
    pub fn run(&self, trace: &Trace, slow: f64, seed: u64, policy: Policy) -> Summary {
        let spec = WorldSpec {
            seed,
            runners: self.runners,
            balancers: self.balancers,
            machine: super::machine::MachineSpec::default(),
            slow: (slow, 0.1),
            changes: Vec::new(),
            warm_up: self.seconds / 4.0,
            most_tries: 50 * trace.arrivals.len() as u64,
        };
        Summary::of(&play(&spec, trace, policy))
    }

    /// All simulations of one load and share of slow runners, in the order of `policies`.
    /// `done` is told of each.
    pub fn row(
        &self,
        load: f64,
        slow: f64,
        mut done: impl FnMut(Policy, u64),
    ) -> Vec<Vec<Summary>> {
        let mut all: Vec<Vec<Summary>> = vec![Vec::new(); self.policies.len()];
        for seed in &self.seeds {
            let trace = self.trace(load, *seed);
            for (n, policy) in self.policies.iter().enumerate() {
                all[n].push(self.run(&trace, slow, *seed, *policy));
                done(*policy, *seed);
            }
        }
        all
    }
}

/// The rows of the table in Markdown: medians over the random states.
pub fn table(plan: &Plan, load: f64, slow: f64, rows: &[Vec<Summary>]) -> String {
    let mut text = String::new();
    for (policy, row) in plan.policies.iter().zip(rows) {
        let one = Summary::median(row);
        let _ = writeln!(
            text,
            "| {:.0} % | {:.0} % | `{policy}` | {} | {} | {} | {:.2} % | {:.2} | {:.0} | {} |",
            load * 100.0,
            slow * 100.0,
            seconds(one.p50),
            seconds(one.p95),
            seconds(one.p99),
            one.cold * 100.0,
            one.tries,
            one.tries_p99,
            if one.collapsed {
                "gave up".to_owned()
            } else {
                format!("{:.2} %", one.unfinished * 100.0)
            },
        );
    }
    text
}

/// The rows of the table of ratios between the default and the original's `ch`, for each random
/// state; none if one of the two was not simulated.
pub fn ratios(plan: &Plan, load: f64, slow: f64, rows: &[Vec<Summary>]) -> String {
    let row = |wanted: Policy| {
        let place = plan.policies.iter().position(|policy| *policy == wanted)?;
        rows.get(place)
    };
    let mut text = String::new();
    let (Some(own), Some(ch)) = (row(Policy::Ewma), row(Policy::Ch)) else {
        return text;
    };
    for ((own, ch), seed) in own.iter().zip(ch).zip(&plan.seeds) {
        let _ = writeln!(
            text,
            "| {:.0} % | {:.0} % | {seed} | {:.3} | {:.3} | {} |",
            load * 100.0,
            slow * 100.0,
            own.p99 / ch.p99,
            own.cold / ch.cold,
            own.wrongly_out,
        );
    }
    text
}

fn seconds(seconds: f64) -> String {
    match seconds {
        short if short < 0.1 => format!("{:.1} ms", short * 1e3),
        short if short < 1.0 => format!("{:.0} ms", short * 1e3),
        long => format!("{long:.1} s"),
    }
}
