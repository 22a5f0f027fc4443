//! The placer `ewma`: where the function has an idle container; else where its id hashes to, while
//! load and wait there are bearable; else the best of a few.

use std::sync::Arc;

use super::Now;
use super::fleet::{Fleet, Members};
use super::placer::{Ask, Placer};
use super::runner::{Runner, RunnerId};

/// Runners that are asked in one pass: a third would seldom have what two had not, and a scan is
/// what makes a full fleet collapse.
const TRIES: usize = 2;

/// Runners with an idle container that are compared.
const WARM_COMPARED: usize = 4;

/// Runners that the function hashes to that are looked at.
const CANDIDATES: usize = 4;

/// Runners of which the best is taken if none of these will do.
const COMPARED: usize = 4;

/// The placer `ewma`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ewma;

impl Placer for Ewma {
    fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, now: Now) -> Option<RunnerId> {
        if ask.tried.len() >= TRIES {
            return None;
        }
        let fits = |runner: &Runner| runner.is_open() && !ask.tried.contains(&runner.id);
        let telling = || {
            let known = fleet.function(&ask.slot_key, |function| function.is_telling());
            known.unwrap_or(false) || fleet.is_trial_overdue(now)
        };
        fleet
            .trial(now, telling, |runner| !ask.tried.contains(&runner.id))
            .or_else(|| warm(fleet, ask, now, fits))
            .or_else(|| {
                let members = fleet.members();
                // Not where a container was refused a moment ago: who waits for the fleet to change
                // must not flood one that is full.
                let fits = |runner: &Runner| fits(runner) && !runner.is_full(now);
                home(fleet, &members, ask, now, fits)
                    .or_else(|| best_of_few(fleet, &members, ask, now, fits))
            })
    }
}

/// The least loaded of some runners with an idle container of the function.
fn warm(
    fleet: &Fleet,
    ask: &Ask<'_>,
    now: Now,
    fits: impl Fn(&Runner) -> bool,
) -> Option<RunnerId> {
    let since = now.saturating_sub(fleet.settings().warm_without_feed);
    fleet.function(&ask.slot_key, |function| {
        let start = fleet.random().below(function.warm_count());
        function
            .warm(start, since)
            .filter(|runner| fits(runner))
            .take(WARM_COMPARED)
            .min_by(|a, b| share(a).total_cmp(&share(b)))
            .map(|runner| runner.id)
    })?
}

/// The first runner that the function hashes to whose load and wait are bearable.
fn home(
    fleet: &Fleet,
    members: &Members,
    ask: &Ask<'_>,
    now: Now,
    fits: impl Fn(&Runner) -> bool,
) -> Option<RunnerId> {
    let settings = fleet.settings();
    let longest = settings.acceptable_wait.as_secs_f64();
    let mean = (fleet.load() + 1.0) / fleet.capacity();
    members
        .ring()
        .candidates(ask.fn_id)
        .take(CANDIDATES)
        .filter(|runner| fits(runner))
        // At least one call may be anywhere.
        .filter(|runner| runner.load() == 0 || share(runner) <= settings.load_bound * mean)
        .find(|runner| {
            let wait = fleet.function(&ask.slot_key, |function| {
                function.wait(runner.id, now, settings.wait_half_life)
            });
            wait.unwrap_or(0.0) <= longest
        })
        .map(|runner| runner.id)
}

/// The best of some runners at random, by load and by how long calls wait there.
fn best_of_few(
    fleet: &Fleet,
    members: &Members,
    ask: &Ask<'_>,
    now: Now,
    fits: impl Fn(&Runner) -> bool,
) -> Option<RunnerId> {
    let settings = fleet.settings();
    let cost = |runner: &Arc<Runner>| {
        let wait = runner.judged().wait.read(now, settings.wait_half_life);
        let patience = settings.acceptable_wait.as_secs_f64().max(1e-3);
        let room = if runner.has_room(ask.memory_mb) {
            1.0
        } else {
            1.5
        };
        share(runner) * (1.0 + wait / patience) * room
    };
    let some = (0..COMPARED)
        .filter_map(|_| members.nth(fleet.random().below(members.len())))
        .filter(|runner| fits(runner))
        .min_by(|a, b| cost(a).total_cmp(&cost(b)));
    // In a small or mostly ejected fleet chance may miss those that are left.
    let any = || {
        let start = fleet.random().below(members.len());
        (0..members.len())
            .filter_map(|step| members.nth((start + step) % members.len()))
            .find(|runner| fits(runner))
    };
    some.or_else(any).map(|runner| runner.id)
}

/// How loaded a runner would be with this call, beside its capacity.
fn share(runner: &Runner) -> f64 {
    f64::from(runner.load() + 1) / runner.capacity() as f64
}

#[cfg(test)]
mod tests;
