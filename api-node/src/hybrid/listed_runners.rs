//! Which runners are there, given their leases: pure.
//!
//! A lease ends by the clock of the database, but it says nothing while the runner could not renew
//! it: after an outage of all API nodes or of the database, or when its clock has jumped, those whose
//! lease ran out are given the time of one lease to come back. Load balancers see for themselves
//! which of them answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::RegisteredRunner;
use tokio::time::Instant;

use crate::store::{RunnerLease, RunnerLeases};

/// How much the clocks of database and process may drift apart between two looks.
const MAX_DRIFT: Duration = Duration::from_secs(1);

/// Decides whether the end of a lease counts.
#[derive(Debug)]
pub(super) struct Patience {
    /// The time of one lease.
    lease: Duration,
    /// The longest time between two looks that leaves no doubt that leases could be renewed.
    longest_gap: Duration,
    /// The last look, and the database's time then; none after a failure.
    last: Option<(Instant, i64)>,
    until: Option<Instant>,
}

impl Patience {
    pub(super) fn new(lease: Duration, poll: Duration) -> Self {
        Self {
            lease,
            longest_gap: poll.saturating_mul(2).max(lease / 2),
            last: None,
            until: None,
        }
    }

    /// The leases could not be read.
    pub(super) fn failed(&mut self) {
        self.last = None;
    }

    /// The runners that are there.
    pub(super) fn listed(&mut self, found: &RunnerLeases, at: Instant) -> Arc<[RegisteredRunner]> {
        let steady = self.last.is_some_and(|(then, database_then)| {
            let here = at.saturating_duration_since(then);
            let there = u64::try_from(found.now.saturating_sub(database_then));
            here <= self.longest_gap
                && there.is_ok_and(|there| Duration::from_millis(there).abs_diff(here) <= MAX_DRIFT)
        });
        if !steady {
            self.until = Some(at + self.lease);
        }
        self.last = Some((at, found.now));
        listed(&found.leases, self.until.is_some_and(|until| at < until))
    }
}

/// Of several runners with one address, the newest is there: the others had it before. Unless the
/// certificates tell that it belongs to somebody else, who could so push the other one out.
fn listed(leases: &[RunnerLease], patient: bool) -> Arc<[RegisteredRunner]> {
    let mut leases: Vec<_> = leases
        .iter()
        .filter(|lease| patient || lease.left > 0)
        .collect();
    leases.sort_by_key(|lease| (lease.registered_at, &lease.runner.id));
    let mut by_address = BTreeMap::new();
    for lease in leases {
        let place: &mut &RunnerLease = by_address.entry(&lease.runner.address).or_insert(lease);
        let takes_over = match (lease.left > 0, place.left > 0) {
            (true, true) | (false, false) => !are_strangers(lease, place),
            (holds, _) => holds,
        };
        if takes_over {
            *place = lease;
        }
    }
    by_address
        .into_values()
        .map(|lease| lease.runner.clone())
        .collect()
}

fn are_strangers(one: &RunnerLease, other: &RunnerLease) -> bool {
    match (&one.owner, &other.owner) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use domain::HostPort;

    use super::*;

    const LEASE: Duration = Duration::from_secs(3);
    const POLL: Duration = Duration::from_millis(250);

    fn lease(id: &str, address: &str, registered_at: i64, left: i64) -> RunnerLease {
        RunnerLease {
            runner: RegisteredRunner {
                id: id.into(),
                address: HostPort::parse(address).expect("an address"),
                version: "1".into(),
                draining: false,
            },
            owner: None,
            registered_at,
            left,
        }
    }

    fn ids(runners: &[RegisteredRunner]) -> Vec<&str> {
        runners.iter().map(|runner| &*runner.id).collect()
    }

    #[test]
    fn of_two_with_one_address_the_newer_is_there() {
        let rows: [(&[RunnerLease], &[&str], &[&str]); 5] = [
            (
                &[lease("a", "h:2", 1, 9), lease("b", "h:1", 2, 9)],
                &["b", "a"],
                &["b", "a"],
            ),
            (
                &[lease("a", "h:1", 1, 9), lease("b", "h:1", 2, 9)],
                &["b"],
                &["b"],
            ),
            (
                &[lease("a", "h:1", 2, 9), lease("b", "h:1", 1, 9)],
                &["a"],
                &["a"],
            ),
            (
                &[lease("a", "h:1", 1, 9), lease("b", "h:1", 1, 9)],
                &["b"],
                &["b"],
            ),
            // The newer one is gone; the older one, which has not noticed the newer, is still there.
            (
                &[lease("a", "h:1", 1, 9), lease("b", "h:1", 2, 0)],
                &["a"],
                &["a"],
            ),
        ];
        for (leases, strict, patient) in rows {
            assert_eq!(ids(&listed(leases, false)), strict, "{leases:?}");
            assert_eq!(ids(&listed(leases, true)), patient, "{leases:?}");
        }
        let gone = [lease("a", "h:1", 1, 0), lease("b", "h:2", 1, -5)];
        assert_eq!(ids(&listed(&gone, false)), [""; 0]);
        assert_eq!(ids(&listed(&gone, true)), ["a", "b"]);
    }

    #[test]
    fn nobody_pushes_out_somebody_else() {
        let owned = |owner: &str, registered_at, left| RunnerLease {
            owner: Some(owner.to_owned()),
            ..lease(
                &format!("{owner}/{registered_at}"),
                "h:1",
                registered_at,
                left,
            )
        };
        let (old, new) = (owned("a", 1, 9), owned("a", 2, 9));
        let thief = owned("b", 3, 9);
        assert_eq!(ids(&listed(&[old.clone(), new.clone()], false)), ["a/2"]);
        assert_eq!(ids(&listed(&[thief.clone(), new, old], false)), ["a/2"]);
        // An address is free for others when the lease has ended.
        assert_eq!(ids(&listed(&[owned("a", 1, 0), thief], true)), ["b/3"]);
    }

    /// Looks every [`POLL`] from `start` on, the database's clock going along from `database`.
    fn looks(
        patience: &mut Patience,
        start: Instant,
        database: i64,
        left: i64,
        count: u32,
    ) -> usize {
        let mut listed = 0;
        for n in 0..count {
            let gone = POLL * n;
            let found = RunnerLeases {
                now: database + gone.as_millis() as i64,
                leases: vec![lease("a", "h:1", 1, left)],
            };
            listed = patience.listed(&found, start + gone).len();
        }
        listed
    }

    #[test]
    fn a_lease_that_ends_under_watch_has_ended() {
        let mut patience = Patience::new(LEASE, POLL);
        let start = Instant::now();
        assert_eq!(looks(&mut patience, start, 0, 9, 13), 1);
        assert_eq!(looks(&mut patience, start + POLL * 13, 13 * 250, 0, 1), 0);
    }

    #[test]
    fn at_first_and_after_a_gap_a_runner_has_one_lease_to_come_back() {
        let mut patience = Patience::new(LEASE, POLL);
        let start = Instant::now();
        assert_eq!(looks(&mut patience, start, 0, 0, 12), 1, "at first");
        let start = start + POLL * 12;
        assert_eq!(looks(&mut patience, start, 3000, 0, 1), 0);
        let start = start + POLL;
        patience.failed();
        assert_eq!(
            looks(&mut patience, start, 3250, 0, 12),
            1,
            "after a failure"
        );
        let start = start + POLL * 12;
        assert_eq!(looks(&mut patience, start, 6250, 0, 1), 0);
        let start = start + LEASE;
        assert_eq!(looks(&mut patience, start, 9250, 0, 12), 1, "after a pause");
        let start = start + POLL * 12;
        assert_eq!(looks(&mut patience, start, 12_250, 0, 1), 0);
        let start = start + POLL;
        assert_eq!(
            looks(&mut patience, start, 99_000, 0, 12),
            1,
            "after a jump"
        );
        let start = start + POLL * 12;
        assert_eq!(looks(&mut patience, start, 102_000, 0, 1), 0);
        assert_eq!(
            looks(&mut patience, start + POLL, 0, 0, 12),
            1,
            "a jump back"
        );
    }
}
