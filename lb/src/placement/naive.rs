//! The placer `naive`, as the original's: each pass starts at any runner and asks them all, one
//! after the other (spec/07 7.5).

use super::Now;
use super::fleet::{Fleet, Members};
use super::placer::{Ask, Placer};
use super::runner::RunnerId;

/// The placer `naive`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Naive;

impl Placer for Naive {
    fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, now: Now) -> Option<RunnerId> {
        if let Some(runner) = trial(fleet, ask, now) {
            return Some(runner);
        }
        let members = fleet.members();
        // The place of the time in nanoseconds; in a pass only its first runner depends on it.
        let first = usize::try_from(now.as_nanos() % members.len().max(1) as u128).ok()?;
        scan(&members, first, ask)
    }
}

/// An ejected runner that is to be tried again; as long as none is ejected, the original's order.
pub(crate) fn trial(fleet: &Fleet, ask: &Ask<'_>, now: Now) -> Option<RunnerId> {
    fleet.trial(now, || true, |runner| !ask.tried.contains(&runner.id))
}

/// The next runner of a pass that starts at the place `first`: after the one tried last, those that
/// are open and were not tried.
pub(crate) fn scan(members: &Members, first: usize, ask: &Ask<'_>) -> Option<RunnerId> {
    let start = match ask.tried.last() {
        None => first,
        Some(last) => members.place_of(*last).map_or(first, |place| place + 1),
    };
    let places = (0..members.len()).map(|step| (start + step) % members.len());
    places
        .filter_map(|place| members.nth(place))
        .find(|runner| runner.is_open() && !ask.tried.contains(&runner.id))
        .map(|runner| runner.id)
}
