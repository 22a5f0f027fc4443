//! The connection on which calls come: opened again when it ends, and fed with credits as there is
//! room.

use std::sync::Arc;
use std::time::Duration;

use domain::call::LeasedCall;
use hybrid_client::{Dequeue, Work};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, info};

use super::Shared;
use super::call::Job;
use super::credits::{Credits, Load};
use super::pause::Pauses;
use crate::resources::room::{HighWater, room};

/// The longest pause before the connection is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Takes calls until the runner drains; then those that are still on their way are given back.
pub(super) async fn run(shared: Arc<Shared>) {
    let capacity = shared.settings.capacity(shared.agent.pool().total());
    let mut pauses = Pauses::new(Duration::from_millis(100), LONGEST_PAUSE);
    while !shared.draining.is_cancelled() {
        let opening = shared
            .source
            .dequeue(Arc::clone(&shared.runner_id), capacity);
        let opened = shared.draining.run_until_cancelled(opening).await;
        match opened {
            None => return,
            Some(Ok(dequeue)) => {
                if (Feed::new(&shared, dequeue, Credits::new(capacity)))
                    .run()
                    .await
                {
                    pauses.reset();
                }
                debug!("the connection for durable calls has ended");
            }
            Some(Err(error)) => info!(?error, "no durable calls can be had"),
        }
        let pause = sleep(pauses.next());
        shared.draining.run_until_cancelled(pause).await;
    }
}

/// One connection.
struct Feed<'a> {
    shared: &'a Arc<Shared>,
    credits: Credits,
    granted: Granted<'a>,
    grants: mpsc::Sender<u32>,
    work: mpsc::Receiver<Work>,
}

/// Credits that are out, as the metrics show them.
struct Granted<'a> {
    outstanding: u32,
    shared: &'a Shared,
}

impl Granted<'_> {
    fn grant(&mut self, credits: u32) {
        self.outstanding += credits;
        self.shared.metrics.credits.add(i64::from(credits));
    }

    fn used(&mut self) {
        // Who sends more than was asked for is not told: the call is run.
        if let Some(rest) = self.outstanding.checked_sub(1) {
            self.outstanding = rest;
            self.shared.metrics.credits.add(-1);
        }
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        let gone = i64::from(self.outstanding);
        self.shared.metrics.credits.add(-gone);
    }
}

impl<'a> Feed<'a> {
    fn new(shared: &'a Arc<Shared>, dequeue: Dequeue, credits: Credits) -> Self {
        Self {
            shared,
            credits,
            granted: Granted {
                outstanding: 0,
                shared,
            },
            grants: dequeue.credits,
            work: dequeue.work,
        }
    }

    fn wish(&self) -> u32 {
        let (calls, bytes) = self.shared.held.now();
        self.credits.wish(Load {
            outstanding: self.granted.outstanding,
            calls,
            bytes,
        })
    }

    /// Runs until the connection ends; returns whether anything came.
    async fn run(mut self) -> bool {
        let shared = self.shared;
        let high_water = HighWater::new(shared.settings.high_water_percent);
        let grants = self.grants.clone();
        let mut something = false;
        while !shared.draining.is_cancelled() {
            let wish = self.wish();
            let may_grant = async {
                shared.engine.ready(&shared.agent).await;
                room(shared.agent.pool(), shared.agent.evictor(), high_water).await;
                grants.reserve().await
            };
            tokio::select! {
                work = self.work.recv() => match work {
                    Some(work) => {
                        something = true;
                        self.take(work);
                    }
                    None => return something,
                },
                permit = may_grant, if wish > 0 => match permit {
                    Ok(permit) => {
                        permit.send(wish);
                        self.granted.grant(wish);
                    }
                    Err(_) => return something,
                },
                () = shared.held.left() => {}
                () = shared.draining.cancelled() => {}
            }
        }
        drop(grants);
        self.give_back().await;
        something
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Run(call) => {
                self.granted.used();
                begin(self.shared, *call);
            }
            Work::Cancelled(lease) => self.shared.leases.cancel(&lease),
        }
    }

    /// No more credits. What is on its way already is given back, and what was begun can still be
    /// cancelled.
    async fn give_back(self) {
        let Self {
            shared,
            grants,
            mut work,
            granted,
            ..
        } = self;
        drop((grants, granted));
        let giving_back = async {
            while let Some(work) = work.recv().await {
                match work {
                    Work::Run(call) => begin(shared, *call),
                    Work::Cancelled(lease) => shared.leases.cancel(&lease),
                }
            }
        };
        shared.closing.run_until_cancelled(giving_back).await;
    }
}

/// Takes a call in hand. One that is in hand already is not run twice.
fn begin(shared: &Arc<Shared>, call: LeasedCall) {
    let Some((held, stop)) = shared.leases.hold(&call.lease, call.lease_for) else {
        debug!(lease = %call.lease, "durable call came twice");
        return;
    };
    let job = Job {
        seat: shared.held.enter(call.body.len()),
        shared: Arc::clone(shared),
        call,
        held,
        stop,
    };
    shared.calls.spawn(job.run());
}
