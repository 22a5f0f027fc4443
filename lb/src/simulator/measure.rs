//! How long decisions take on this machine, with a fleet as large as they come (P11).

use std::time::{Duration, Instant};

use super::dice::Dice;
use super::world::slot_key;
use crate::placement::{
    Ask, Ended, Fleet, FleetSettings, FunctionState, NodeLoad, Now, PlacerKind, RunnerState,
};

/// Times of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decisions {
    /// Decisions that were measured.
    pub count: usize,
    /// Of them, those that found an idle container.
    pub warm: usize,
    /// Half of them took less.
    pub p50: Duration,
    /// 99 of 100 took less.
    pub p99: Duration,
    /// 999 of 1000 took less.
    pub p999: Duration,
    /// What reading the clock takes, which is in all of them.
    pub clock: Duration,
}

const CONTAINERS: usize = 24;
const MEMORY_MB: u64 = 170;

/// Measures decisions over a fleet with 24 containers on each runner, of functions with a popularity
/// like in the simulations, while calls begin and end.
pub fn decisions(runners: usize, functions: usize, count: usize, seed: u64) -> Decisions {
    let mut dice = Dice::new(seed, 3);
    let fleet = Fleet::new(FleetSettings::default(), seed);
    let addresses: Vec<_> = (0..runners)
        .map(|n| format!("10.0.{}.{}:9190", n / 250, n % 250))
        .collect();
    let ids = fleet.add_all(
        addresses.iter().map(|address| (address.as_str(), 1)),
        Now::ZERO,
    );
    let keys: Vec<_> = (0..functions).map(slot_key).collect();
    let names: Vec<_> = (0..functions)
        .map(|n| format!("{:026X}", n * 7_919))
        .collect();
    let mut sums = Vec::with_capacity(functions);
    let mut sum = 0.0;
    for _ in 0..functions {
        sum += dice.log_normal(0.0, 3.5);
        sums.push(sum);
    }
    // Every other one by popularity, the rest evenly.
    let any = |dice: &mut Dice, of: usize| {
        if dice.unit() < 0.5 {
            return dice.below(of);
        }
        let chance = dice.unit() * sum;
        sums.partition_point(|passed| *passed < chance)
            .min(functions - 1)
    };
    for id in &ids {
        let mut own = vec![0_u32; functions];
        (0..CONTAINERS).for_each(|_| own[any(&mut dice, functions / 2)] += 1);
        let held = own
            .iter()
            .enumerate()
            .filter(|(_, containers)| **containers > 0);
        let held = held.map(|(n, containers)| FunctionState {
            slot_key: keys[n],
            idle: containers.div_ceil(2),
            busy: containers / 2,
            waiting: 0,
            wait: Duration::from_millis(dice.below(20) as u64),
        });
        let state = RunnerState {
            complete: true,
            functions: held.collect(),
            load: Some(NodeLoad {
                memory_total_bytes: 8 << 30,
                memory_free_bytes: 1 << 30,
                cpu_total_millis: 8_000,
                running: dice.below(8) as u32,
                ..NodeLoad::default()
            }),
            draining: false,
        };
        fleet.state(*id, &state, Now::ZERO);
    }
    let placer = PlacerKind::Ewma.placer();
    let mut times = Vec::with_capacity(count);
    let mut open = std::collections::VecDeque::new();
    let (mut warm, mut now) = (0, Now::ZERO);
    for _ in 0..count {
        let n = any(&mut dice, functions);
        let ask = Ask {
            slot_key: keys[n],
            fn_id: &names[n],
            memory_mb: MEMORY_MB,
            tried: &[],
        };
        now += Duration::from_micros(100);
        let is_warm = fleet.function(&keys[n], |function| function.warm_count() > 0);
        warm += usize::from(is_warm.unwrap_or(false));
        let start = Instant::now();
        let chosen = placer.choose(&fleet, &ask, now);
        times.push(start.elapsed());
        // The other half is never sent anywhere, and so stays without containers.
        if let Some(runner) = chosen.filter(|_| n < functions / 2) {
            fleet.begun(runner, &keys[n], now);
            open.push_back((runner, n));
        }
        if open.len() > runners
            && let Some((runner, n)) = open.pop_front()
        {
            let wait = Duration::from_millis(dice.below(10) as u64);
            let execution = Duration::from_millis(50);
            let how = Ended::Done {
                wait,
                pulled: false,
                took: wait + execution,
                execution,
            };
            fleet.ended(runner, &keys[n], how, now);
        }
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let mut clock: Vec<_> = (0..1_000)
        .map(|_| {
            let start = Instant::now();
            start.elapsed()
        })
        .collect();
    clock.sort_unstable();
    Decisions {
        count,
        warm,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        clock: clock[clock.len() / 2],
    }
}
