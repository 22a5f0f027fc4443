//! The grey node: one of eleven runners is ten times slower for half a minute, and still answers
//! each call and each health check.

use super::dice::Dice;
use super::machine::MachineSpec;
use super::policy::Policy;
use super::trace::{Arrival, Function, Trace};
use super::world::{Outcome, SpeedChange, WorldSpec, play};

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grey {
    /// The share of calls that had their answer within a second.
    pub within_a_second: f64,
    /// 99 of 100 calls took less, in seconds.
    pub p99: f64,
    /// The same for the time in which all runners were well.
    pub p99_well: f64,
    /// How long it took until the last load balancer had ejected the runner; none if one never did.
    pub ejected_after: Option<f64>,
    /// How long it took after it was well until the last one had it back for good.
    pub back_after: Option<f64>,
}

/// When the runner becomes slow, and well again.
const SLOW: (f64, f64) = (15.0, 45.0);
const SECONDS: f64 = 60.0;
/// Calls per second, of so many functions.
const RATE: f64 = 1_000.0;
const FUNCTIONS: usize = 20;
const BALANCERS: usize = 2;

/// Plays it under a rule.
pub fn play_grey(seed: u64, policy: Policy) -> Grey {
    let spec = WorldSpec {
        seed,
        runners: 11,
        balancers: BALANCERS,
        machine: MachineSpec {
            containers: 64,
            ..MachineSpec::default()
        },
        slow: (0.0, 1.0),
        changes: vec![
            SpeedChange {
                runner: 4,
                at: SLOW.0,
                speed: 0.1,
            },
            SpeedChange {
                runner: 4,
                at: SLOW.1,
                speed: 1.0,
            },
        ],
        warm_up: 5.0,
        most_tries: 50_000_000,
    };
    summary(&play(&spec, &calls(seed), policy))
}

/// Functions of 5 to 50 ms, some more popular than others.
fn calls(seed: u64) -> Trace {
    let mut dice = Dice::new(seed, 9);
    let functions: Vec<_> = (0..FUNCTIONS)
        .map(|n| Function {
            id: format!("grey-{n}"),
            popularity: 1.0 / (1.0 + n as f64),
            mean: 0.005 + 0.045 * dice.unit(),
            memory_mb: 64,
            variation: 1.0,
            init: 0.0,
        })
        .collect();
    let all: f64 = functions.iter().map(|function| function.popularity).sum();
    let mut arrivals = Vec::new();
    let mut at = 0.0;
    while at < SECONDS {
        at += -dice.unit().ln() / RATE;
        let mut chance = dice.unit() * all;
        let function = functions.iter().position(|function| {
            chance -= function.popularity;
            chance <= 0.0
        });
        let function = function.unwrap_or(0);
        let work = functions[function].mean * dice.log_normal(-0.125, 0.5);
        arrivals.push(Arrival {
            at,
            function: function as u32,
            work,
        });
    }
    Trace {
        functions,
        arrivals,
    }
}

fn summary(outcome: &Outcome) -> Grey {
    let p99 = |wanted: &dyn Fn(f64) -> bool| {
        let calls = outcome.latencies.iter().filter(|(at, _)| wanted(*at));
        let mut took: Vec<f64> = calls.map(|(_, took)| *took).collect();
        took.sort_by(f64::total_cmp);
        super::report::quantile(&took, 0.99)
    };
    let good = outcome
        .latencies
        .iter()
        .filter(|(_, took)| *took < 1.0)
        .count();
    let turn = |balancer: usize, healthy: bool, after: f64, last: bool| {
        let mut turns = outcome
            .turns
            .iter()
            .filter(|(at, one, is)| *one == balancer && *is == healthy && *at >= after);
        let turn = if last {
            turns.next_back()
        } else {
            turns.next()
        };
        turn.map(|(at, _, _)| at - after)
    };
    let last_of_all = |turns: Vec<Option<f64>>| {
        let turns: Option<Vec<f64>> = turns.into_iter().collect();
        turns.map(|turns| turns.into_iter().fold(0.0, f64::max))
    };
    let each = |healthy, after, last| {
        last_of_all(
            (0..BALANCERS)
                .map(|one| turn(one, healthy, after, last))
                .collect(),
        )
    };
    Grey {
        within_a_second: good as f64 / outcome.latencies.len().max(1) as f64,
        p99: p99(&|_| true),
        p99_well: p99(&|at| at < SLOW.0),
        ejected_after: each(false, SLOW.0, false),
        back_after: each(true, SLOW.1, true),
    }
}
