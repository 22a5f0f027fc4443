//! Leases under a clock that stands still.

use std::collections::BTreeMap;

use domain::ErrorCode;
use futures_util::FutureExt as _;
use nodekit::metrics::Metrics;
use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::*;
use crate::work::tests::lease;
use crate::work::tests::source::Source;

const LEASE: Duration = Duration::from_secs(30);

fn leases() -> (Leases, WorkMetrics) {
    let metrics = WorkMetrics::new(&mut Metrics::new());
    (Leases::new(metrics.clone()), metrics)
}

/// Leases that are kept with the help of a source.
fn kept() -> (
    Leases,
    WorkMetrics,
    Arc<Source>,
    tokio::task::JoinHandle<()>,
) {
    let (leases, metrics) = leases();
    let source = Source::new(LEASE);
    let keeping = leases.clone().keep(source.clone(), "runner".into());
    (leases, metrics, source, tokio::spawn(keeping))
}

fn why(stop: &mut oneshot::Receiver<Stop>) -> Option<Stop> {
    stop.now_or_never().and_then(Result::ok)
}

#[tokio::test(start_paused = true)]
async fn all_leases_are_renewed_together_when_a_third_is_over() {
    let (leases, _, source, keeping) = kept();
    let (_first, mut first) = leases.hold(&lease("1", 1), LEASE).expect("new");
    sleep(Duration::from_secs(1)).await;
    let (_second, mut second) = leases.hold(&lease("2", 5), LEASE).expect("new");
    sleep(Duration::from_millis(8_990)).await;
    assert!(source.said.borrow().renewals.is_empty());
    sleep(Duration::from_millis(20)).await;
    let mut asked = source.said.borrow().renewals.clone();
    asked[0].sort_by_key(|lease| lease.epoch);
    assert_eq!(asked, [[lease("1", 1), lease("2", 5)]]);
    // As long as they are renewed, they hold.
    sleep(10 * LEASE).await;
    assert_eq!((why(&mut first), why(&mut second)), (None, None));
    let renewals = source.said.borrow().renewals.len();
    assert!((30..=31).contains(&renewals), "{renewals}");
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_confirmed_is_over_a_little_early() {
    let (leases, metrics, source, keeping) = kept();
    source.set(|said| said.down = true);
    let (_held, mut stop) = leases.hold(&lease("1", 1), LEASE).expect("new");
    sleep(LEASE - LEASE / MARGIN_PART - Duration::from_millis(1)).await;
    assert_eq!(why(&mut stop), None);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(why(&mut stop), Some(Stop::Lost));
    assert_eq!(metrics.lost.get(), 1);
    // It was tried often enough to get over a short failure, and not without end.
    let tries = source.said.borrow().renewals.len();
    assert!((5..=10).contains(&tries), "{tries}");
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lease_gets_over_a_source_that_was_away() {
    let (leases, _, source, keeping) = kept();
    source.set(|said| said.down = true);
    let (_held, mut stop) = leases.hold(&lease("1", 1), LEASE).expect("new");
    sleep(Duration::from_secs(20)).await;
    source.set(|said| said.down = false);
    sleep(2 * LEASE).await;
    assert_eq!(why(&mut stop), None);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn only_the_lost_one_is_stopped() {
    let (leases, metrics, source, keeping) = kept();
    let (_first, mut first) = leases.hold(&lease("1", 1), LEASE).expect("new");
    let (_second, mut second) = leases.hold(&lease("2", 1), LEASE).expect("new");
    source.lose("1");
    sleep(LEASE / 2).await;
    assert_eq!(why(&mut first), Some(Stop::Lost));
    assert_eq!((why(&mut second), metrics.lost.get()), (None, 1));
    keeping.abort();
}

/// The report may have ended it; and if not, it is the report that finds out.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_being_reported_keeps_its_lease_and_is_not_stopped_for_it() {
    let (leases, metrics, source, keeping) = kept();
    let (held, mut stop) = leases.hold(&lease("1", 1), LEASE).expect("new");
    held.reporting();
    sleep(LEASE / 2).await;
    assert!(!source.said.borrow().renewals.is_empty());
    source.lose("1");
    sleep(3 * LEASE).await;
    source.set(|said| said.down = true);
    sleep(3 * LEASE).await;
    assert_eq!((why(&mut stop), metrics.lost.get()), (None, 0));
    leases.cancel(&lease("1", 1));
    assert_eq!(why(&mut stop), Some(Stop::Cancelled));
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_once_and_its_end_is_final() {
    let (leases, _) = leases();
    let (held, mut stop) = leases.hold(&lease("1", 1), LEASE).expect("new");
    assert!(leases.hold(&lease("1", 1), LEASE).is_none());
    // Another claim of the call is another lease.
    let (_next, mut next) = leases.hold(&lease("1", 2), LEASE).expect("new");
    leases.cancel(&lease("1", 1));
    leases.close();
    assert_eq!(why(&mut stop), Some(Stop::Cancelled));
    assert_eq!(why(&mut next), Some(Stop::Closing));
    drop(held);
    assert!(leases.hold(&lease("1", 1), LEASE).is_some());
    advance(LEASE).await;
}

#[derive(Debug, Clone)]
enum Step {
    Hold(u8),
    Drop(u8),
    Pass(u16),
    /// A question: which of the calls it leaves out, and how long the answer takes.
    Renew {
        lost: u8,
        takes: u16,
        fails: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..8).prop_map(Step::Hold),
        (0u8..8).prop_map(Step::Drop),
        (0u16..12_000).prop_map(Step::Pass),
        (any::<u8>(), 0u16..9_000, any::<bool>()).prop_map(|(lost, takes, fails)| Step::Renew {
            lost,
            takes,
            fails
        }),
    ]
}

proptest! {
    /// Nothing runs beyond the end of the last lease that was confirmed, counted from before the
    /// question; nothing is stopped that is confirmed in time; what holds is asked for before it ends.
    #[test]
    fn no_call_outlives_its_lease(steps in proptest::collection::vec(step(), 1..120)) {
        let millis = |millis: u16| Duration::from_millis(u64::from(millis));
        let mut table = Table::default();
        let mut now = Instant::now();
        // The end of each lease as the source counts it, and the call's ear.
        let mut running = BTreeMap::<u8, (Instant, oneshot::Receiver<Stop>)>::new();
        for step in steps {
            match step {
                Step::Hold(n) => {
                    if let std::collections::btree_map::Entry::Vacant(place) = running.entry(n) {
                        let (stop, ear) = oneshot::channel();
                        let mut held = Held {
                            valid_until: now,
                            renew_at: now,
                            lease_for: LEASE,
                            stop: Some(stop),
                            reporting: false,
                        };
                        held.confirm(now, LEASE);
                        table.held.insert(lease(&n.to_string(), 1), held);
                        place.insert((now + LEASE, ear));
                    }
                }
                Step::Drop(n) => {
                    running.remove(&n);
                    table.held.remove(&lease(&n.to_string(), 1));
                }
                Step::Pass(time) => now += millis(time),
                Step::Renew { lost, takes, fails } => {
                    let due = table.look(now, false).due;
                    let asked_at = now;
                    now += millis(takes);
                    let kept: Vec<_> = due
                        .iter()
                        .filter(|lease| {
                            let n: u8 = lease.call_id.as_str().parse().expect("a number");
                            lost & (1 << n) == 0
                        })
                        .cloned()
                        .collect();
                    if fails {
                        table.settle(&due, asked_at, Err(ErrorCode::StoreUnavailable.into()), now);
                    } else {
                        for lease in &kept {
                            let n: u8 = lease.call_id.as_str().parse().expect("a number");
                            if let Some((end, _)) = running.get_mut(&n) {
                                *end = asked_at + LEASE;
                            }
                        }
                        table.settle(&due, asked_at, Ok((kept.clone(), LEASE)), now);
                        for lease in due.iter().filter(|lease| !kept.contains(lease)) {
                            prop_assert!(table.held[lease].stop.is_none());
                        }
                    }
                }
            }
            let look = table.look(now, false);
            for (n, (end, ear)) in &mut running {
                let told = ear.try_recv().is_ok() || ear.is_terminated();
                if now >= *end {
                    prop_assert!(told, "call {n} goes on without a lease");
                }
                let held = &table.held[&lease(&n.to_string(), 1)];
                prop_assert_eq!(held.stop.is_none(), told);
                if !told {
                    prop_assert!(now < held.valid_until);
                    prop_assert!(held.valid_until < *end);
                    let next = look.next.expect("a look is planned, or it is asked for now");
                    prop_assert!(look.due.contains(&lease(&n.to_string(), 1)) || next <= held.valid_until);
                }
            }
        }
    }
}
