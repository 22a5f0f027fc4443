//! The placer `ch`, as the original's: each pass starts at the runner that the function's id hashes
//! to and asks them all, one after the other (spec/07 7.5).

use super::Now;
use super::fleet::Fleet;
use super::jump_hash;
use super::naive::{scan, trial};
use super::placer::{Ask, Placer};
use super::runner::RunnerId;

/// The placer `ch`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ch;

impl Placer for Ch {
    fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, now: Now) -> Option<RunnerId> {
        if let Some(runner) = trial(fleet, ask, now) {
            return Some(runner);
        }
        let members = fleet.members();
        let first = jump_hash::home(ask.fn_id, members.len())?;
        scan(&members, first, ask)
    }
}

#[cfg(test)]
mod tests;
