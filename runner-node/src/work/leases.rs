//! The leases that this runner holds. A call is stopped when its lease is known to be lost, and also
//! when it is not known to hold: by this runner's clock, which starts before the question is sent,
//! a lease ends a little earlier than by that of the database.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::ApiError;
use domain::call::LeaseRef;
use hybrid_client::WorkSource;
#[cfg(feature = "planted-bugs")]
use nodekit::fail_point::{Bug, is_planted};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::metrics::WorkMetrics;

/// A lease is renewed when this part of it is over.
const RENEW_PART: u32 = 3;
/// What is taken off a lease for the way that it came: so many-th of it.
const MARGIN_PART: u32 = 10;
/// A renewal that failed is tried again after this part of the lease.
const RETRY_PART: u32 = 12;
/// What is due within this part of a lease goes with what is due now; it must be shorter than the pause
/// after a failure.
const TOGETHER_PART: u32 = 24;
/// The most leases in one question.
const MAX_BATCH: usize = 1000;

/// Why a call is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody cancelled it.
    Cancelled,
    /// Its lease does not hold, or is not known to.
    Lost,
    /// The runner ends.
    Closing,
}

/// The leases; clones share them.
#[derive(Clone)]
pub(super) struct Leases {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    /// The next look must come sooner than was planned.
    sooner: Notify,
    metrics: WorkMetrics,
}

/// The leases as of now: pure, but for the calls that are told to stop.
#[derive(Default)]
struct Table {
    held: HashMap<LeaseRef, Held>,
    /// When the next look is planned.
    planned: Option<Instant>,
}

struct Held {
    /// Until when the call may go on.
    valid_until: Instant,
    renew_at: Instant,
    lease_for: Duration,
    /// Taken when the call is told.
    stop: Option<oneshot::Sender<Stop>>,
    /// The call is over, and is being reported: whether it counts is for the report to find out.
    reporting: bool,
}

impl Held {
    fn confirm(&mut self, asked_at: Instant, lease_for: Duration) {
        self.lease_for = lease_for;
        self.valid_until = asked_at + (lease_for - lease_for / MARGIN_PART);
        self.renew_at = asked_at + lease_for / RENEW_PART;
    }
}

/// What a look at the table shows.
struct Look {
    due: Vec<LeaseRef>,
    /// The shortest of the leases that are due.
    shortest: Duration,
    /// When to look again.
    next: Option<Instant>,
    lost: u64,
}

impl Table {
    /// Stops the calls whose leases are over, and finds those to renew.
    fn look(&mut self, now: Instant, renewing: bool) -> Look {
        let mut look = Look {
            due: Vec::new(),
            shortest: Duration::MAX,
            next: None,
            lost: 0,
        };
        for (lease, held) in &mut self.held {
            if held.stop.is_none() {
                continue;
            }
            if !held.reporting && held.valid_until <= now {
                tell(&mut held.stop, Stop::Lost);
                look.lost += 1;
                continue;
            }
            let mut next = held.valid_until;
            if held.reporting {
                next = held.renew_at;
            }
            if !renewing {
                // Those that are due a little later go with the others.
                if held.renew_at <= now + held.lease_for / TOGETHER_PART
                    && look.due.len() < MAX_BATCH
                {
                    look.due.push(lease.clone());
                    look.shortest = look.shortest.min(held.lease_for);
                } else {
                    next = next.min(held.renew_at);
                }
            }
            if !(renewing && held.reporting) {
                look.next = Some(look.next.map_or(next, |other| other.min(next)));
            }
        }
        self.planned = look.next;
        look
    }

    /// The answer to a question that was sent at `asked_at`.
    fn settle(
        &mut self,
        asked: &[LeaseRef],
        asked_at: Instant,
        answer: Result<(Vec<LeaseRef>, Duration), ApiError>,
        now: Instant,
    ) -> u64 {
        let Ok((kept, lease_for)) = answer else {
            for lease in asked {
                if let Some(held) = self.held.get_mut(lease) {
                    held.renew_at = now + held.lease_for / RETRY_PART;
                }
            }
            return 0;
        };
        for lease in &kept {
            if let Some(held) = self.held.get_mut(lease) {
                held.confirm(asked_at, lease_for);
            }
        }
        let mut lost = 0;
        let kept: HashSet<_> = kept.iter().collect();
        for lease in asked.iter().filter(|lease| !kept.contains(lease)) {
            let Some(held) = self.held.get_mut(lease) else {
                continue;
            };
            if held.reporting {
                // It may be gone because the report has arrived.
                held.renew_at = now + held.lease_for;
            } else if tell(&mut held.stop, Stop::Lost) {
                lost += 1;
            }
        }
        lost
    }
}

fn tell(stop: &mut Option<oneshot::Sender<Stop>>, why: Stop) -> bool {
    // The call may have ended in this instant.
    stop.take().is_some_and(|stop| stop.send(why).is_ok())
}

impl Leases {
    /// No leases.
    pub(super) fn new(metrics: WorkMetrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                table: Mutex::default(),
                sooner: Notify::new(),
                metrics,
            }),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change leaves the table whole.
        self.shared
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a lease that has just arrived, until the guard is dropped. Nothing if it is held already.
    pub(super) fn hold(
        &self,
        lease: &LeaseRef,
        lease_for: Duration,
    ) -> Option<(HeldLease, oneshot::Receiver<Stop>)> {
        let (stop, stopped) = oneshot::channel();
        let now = Instant::now();
        let mut held = Held {
            valid_until: now,
            renew_at: now,
            lease_for,
            stop: Some(stop),
            reporting: false,
        };
        held.confirm(now, lease_for);
        let mut table = self.table();
        if table.held.contains_key(lease) {
            return None;
        }
        let next = held.renew_at.min(held.valid_until);
        let sooner = table.planned.is_none_or(|planned| next < planned);
        if sooner {
            table.planned = Some(next);
        }
        table.held.insert(lease.clone(), held);
        drop(table);
        if sooner {
            self.shared.sooner.notify_one();
        }
        let held = HeldLease {
            leases: self.clone(),
            lease: lease.clone(),
        };
        Some((held, stopped))
    }

    /// The call was cancelled.
    pub(super) fn cancel(&self, lease: &LeaseRef) {
        if let Some(held) = self.table().held.get_mut(lease) {
            tell(&mut held.stop, Stop::Cancelled);
        }
    }

    /// Stops all calls that run.
    pub(super) fn close(&self) {
        for held in self.table().held.values_mut() {
            if !held.reporting {
                tell(&mut held.stop, Stop::Closing);
            }
        }
    }

    /// Renews leases for as long as it is polled.
    pub(super) async fn keep(self, source: Arc<dyn WorkSource>, runner_id: Arc<str>) {
        let mut renewal = None;
        loop {
            let now = Instant::now();
            let look = self.table().look(now, renewal.is_some());
            #[cfg(feature = "planted-bugs")]
            let look = match is_planted(Bug::LeaseNeverRenewed) {
                true => Look {
                    due: Vec::new(),
                    ..look
                },
                false => look,
            };
            self.shared.metrics.lost.add(look.lost);
            if renewal.is_none() && !look.due.is_empty() {
                let (source, runner_id) = (Arc::clone(&source), Arc::clone(&runner_id));
                renewal = Some(Box::pin(async move {
                    // Later than that, another try is better.
                    let limit = look.shortest / RENEW_PART;
                    let asked = look.due.clone();
                    let answer = timeout(limit, source.renew(&runner_id, look.due)).await;
                    let late = |_| Err(ApiError::internal("the renewal took too long"));
                    (asked, now, answer.unwrap_or_else(late))
                }));
                // What is looked at next depends on it.
                continue;
            }
            tokio::select! {
                (asked, asked_at, answer) = async {
                    match renewal.as_mut() {
                        Some(renewal) => renewal.await,
                        None => std::future::pending().await,
                    }
                } => {
                    renewal = None;
                    if let Err(error) = &answer {
                        tracing::debug!(?error, leases = asked.len(), "leases were not renewed");
                    }
                    let lost = self.table().settle(&asked, asked_at, answer, Instant::now());
                    self.shared.metrics.lost.add(lost);
                }
                () = until(look.next) => {}
                () = self.shared.sooner.notified() => {}
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A lease for as long as its call is in hand.
pub(super) struct HeldLease {
    leases: Leases,
    lease: LeaseRef,
}

impl HeldLease {
    /// The call is over, and is reported from now on.
    pub(super) fn reporting(&self) {
        if let Some(held) = self.leases.table().held.get_mut(&self.lease) {
            held.reporting = true;
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.leases.table().held.remove(&self.lease);
    }
}

#[cfg(test)]
mod tests;
