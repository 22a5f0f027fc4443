//! The relay: it tells the queue of calls that wait. A doorbell is a row of the store for as long as
//! its call waits, so that neither a crash nor a broker that is away loses one; once the broker has
//! confirmed it the row says when it was rung, and it is not due any more.
//!
//! What was just accepted goes straight to a runner of this node, if one has room for it at that moment,
//! and is published at once otherwise. Everything else (calls that become due, retries,
//! what a crash left, what was kept back) is found by looking into the store: when a timer says so,
//! when somebody says that there is something, and every few seconds for what nobody knows of.

mod direct;
mod ledger;
mod publish;
mod window;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use domain::ApiError;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) use self::direct::Counter;
use self::direct::Direct;
use self::ledger::Ledger;
use self::publish::{Confirm, Publish};
use super::batcher::{BatchLimits, Batcher};
use super::outage::Outage;
use super::panics::supervised;
use crate::queue::Queue;
use crate::store::{CallStore, Doorbell};

/// Between two looks into the store, at least.
const GAP: Duration = Duration::from_millis(20);
/// How often a node that knows of nothing asks the store for the next doorbell.
const SLOW_POLL: Duration = Duration::from_secs(5);
/// What another node has accepted, that node publishes, unless it is gone.
const GRACE: Duration = Duration::from_millis(500);
/// How often a node looks that knows of doorbells which are kept back: others may have answered some.
const RECHECK: Duration = Duration::from_millis(500);
/// How often a broker that is away or blocked is looked at.
const BROKER_POLL: Duration = Duration::from_millis(200);
/// Doorbells that are read at once.
const LOOK_LIMIT: u32 = 1024;
/// Of one function at least, however many functions keep doorbells back.
const FEWEST_PER_FN: u32 = 8;
/// How long a doorbell that was found may take to be published.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// Estimates are forgotten so often.
const FORGET_EVERY: Duration = Duration::from_secs(60);

const PUBLISH_BATCHES: BatchLimits = BatchLimits {
    items: 256,
    bytes: usize::MAX,
    parallel: 4,
    waiting: 8192,
    waiting_bytes: 0,
};
const CONFIRM_BATCHES: BatchLimits = BatchLimits {
    items: 512,
    parallel: 2,
    waiting: 32_768,
    ..PUBLISH_BATCHES
};

/// The relay of this node. Clones share it.
#[derive(Clone)]
pub(super) struct Relay {
    queue: Arc<dyn Queue>,
    ledger: Arc<Ledger>,
    publish: Batcher<Publish>,
    /// Those of this node who may have room; known once they are there.
    counter: Arc<OnceLock<Weak<dyn Counter>>>,
}

/// The task that looks into the store.
struct Look {
    relay: Relay,
    store: Arc<dyn CallStore>,
    window: u32,
    ageing: Duration,
}

/// How a relay behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct RelaySettings {
    pub(super) window: u32,
    pub(super) ageing: Duration,
}

impl Relay {
    /// Starts it on `tasks`: it looks into the store until `stop`, and publishes until `closing`.
    pub(super) fn start(
        store: Arc<dyn CallStore>,
        queue: Arc<dyn Queue>,
        settings: RelaySettings,
        tasks: (&TaskTracker, &TaskTracker),
        stop: CancellationToken,
        closing: CancellationToken,
    ) -> Self {
        let (looking, publishing) = tasks;
        let ledger = Arc::new(Ledger::new(settings.window));
        let confirm = Confirm {
            store: Arc::clone(&store),
            ledger: Arc::clone(&ledger),
            closing: closing.clone(),
        };
        let publish = Publish {
            queue: Arc::clone(&queue),
            ledger: Arc::clone(&ledger),
            confirm: Batcher::start(confirm, CONFIRM_BATCHES, publishing, closing.clone()),
            #[cfg(feature = "planted-bugs")]
            store: Arc::clone(&store),
        };
        let relay = Self {
            queue,
            ledger,
            publish: Batcher::start(publish, PUBLISH_BATCHES, publishing, closing),
            counter: Arc::default(),
        };
        let look = Look {
            relay: relay.clone(),
            store,
            window: settings.window,
            ageing: settings.ageing,
        };
        looking.spawn(async move {
            tokio::select! {
                () = supervised("relay", || look.run()) => {}
                () = stop.cancelled() => {}
            }
        });
        relay
    }

    /// From now on doorbells of calls that were just accepted are offered there first.
    pub(super) fn offer_to(&self, counter: Weak<dyn Counter>) {
        // There is one.
        let _ = self.counter.set(counter);
    }

    /// A call was just accepted, is due, and its doorbell is in the store.
    pub(super) fn accepted(&self, doorbell: Doorbell) {
        let counter = self.counter.get().and_then(Weak::upgrade);
        let Some(counter) = counter.filter(|counter| counter.has_room(&doorbell)) else {
            return self.ring(doorbell);
        };
        if self.ledger.admit(&doorbell) {
            // If it finds no room after all the receipt is dropped, and the doorbell is published.
            let receipt = Direct::new(self.clone(), doorbell.clone());
            counter.offer(doorbell, Box::new(receipt));
        }
    }

    /// A call waits, and its doorbell is in the store.
    pub(super) fn ring(&self, doorbell: Doorbell) {
        if !self.queue.is_up() {
            self.look();
        } else if self.ledger.admit(&doorbell) {
            self.publish(doorbell);
        }
    }

    /// Publishes a doorbell that is under way.
    fn publish(&self, doorbell: Doorbell) {
        if self.publish.hand_in(doorbell.clone()).is_err() {
            self.ledger.failed(&doorbell);
            self.look();
        }
    }

    /// A doorbell was answered by a claim, and is not in the store any more.
    pub(super) fn answered(&self, doorbell: &Doorbell) {
        self.ledger.answered(doorbell);
    }

    /// A doorbell in the store is due in about `wait`.
    pub(super) fn due_in(&self, wait: Duration) {
        self.ledger.due_in(wait);
    }

    /// There are doorbells in the store that nobody has published.
    pub(super) fn look(&self) {
        self.ledger.look.notify_one();
    }
}

impl Look {
    /// Never ends by itself; nothing is lost when it is dropped.
    async fn run(&self) {
        let mut outage = Outage::none("relay");
        // What a crash has left is looked for at once.
        let mut wake = Instant::now();
        let mut earliest = wake;
        let mut forget_at = wake + FORGET_EVERY;
        loop {
            let at = self
                .relay
                .ledger
                .next_time()
                .map_or(wake, |at| at.min(wake));
            let told = tokio::select! {
                () = sleep_until(at) => false,
                () = self.relay.ledger.look.notified() => true,
            };
            let held = self.relay.ledger.held_until();
            sleep_until(held.map_or(earliest, |held| held.max(earliest))).await;
            if forget_at <= Instant::now() {
                self.relay.ledger.forget();
                forget_at = Instant::now() + FORGET_EVERY;
            }
            if !self.relay.queue.is_up() {
                // What is told meanwhile is found in the store when the broker is back, and then at
                // once.
                self.relay.ledger.confirms();
                self.relay.ledger.look.notify_one();
                earliest = Instant::now() + BROKER_POLL;
                wake = earliest;
                continue;
            }
            let urgent = self.relay.ledger.time_has_come() || told;
            match self.look(urgent).await {
                Ok(next) => {
                    outage.over();
                    earliest = Instant::now() + GAP;
                    wake = Instant::now() + next;
                }
                Err(error) => {
                    earliest = Instant::now() + outage.failed(&error);
                    wake = earliest;
                }
            }
        }
    }

    /// Publishes what is due; returns how long to wait until the next look.
    async fn look(&self, urgent: bool) -> Result<Duration, ApiError> {
        let ledger = &self.relay.ledger;
        let waiting = ledger.waiting();
        if waiting.is_empty() && !urgent {
            match self.store.next_doorbell().await? {
                None => return Ok(SLOW_POLL),
                Some(wait) if !wait.is_zero() => return Ok((wait + GRACE).min(SLOW_POLL)),
                Some(_) => {}
            }
        }
        if !waiting.is_empty() {
            let rung = self.store.rung_calls(waiting.clone()).await?;
            ledger.learn(&waiting, &rung);
        }
        // What nobody may ring now is not read. The more other functions keep doorbells back, the fewer
        // are read of each, so that those of all others are among what is read.
        let full = ledger.full();
        let functions = waiting.len().saturating_sub(full.len());
        let functions = u32::try_from(functions).unwrap_or(u32::MAX);
        let share = LOOK_LIMIT / functions.saturating_add(2);
        let per_fn = share.clamp(FEWEST_PER_FN, self.window.max(FEWEST_PER_FN));
        let due = self
            .store
            .due_doorbells(per_fn, LOOK_LIMIT, self.ageing, &full)
            .await?;
        let found = ledger.sort(due, per_fn, LOOK_LIMIT, &full);
        let published = !found.publish.is_empty();
        let all = found
            .publish
            .into_iter()
            .map(|doorbell| self.publish(doorbell));
        if join_all(all).await.contains(&false) {
            return Ok(BROKER_POLL);
        }
        Ok(match (found.more, published) {
            (true, true) => GAP,
            (true, false) => RECHECK,
            // The next look asks when something is due.
            (false, _) => GRACE,
        })
    }

    async fn publish(&self, doorbell: Doorbell) -> bool {
        let publish = &self.relay.publish;
        match publish.submit(doorbell.clone(), PUBLISH_LIMIT).await {
            Ok(confirmed) => confirmed,
            Err(error) => {
                tracing::debug!(?error, "a doorbell is not published");
                self.relay.ledger.failed(&doorbell);
                self.relay.ledger.hold();
                false
            }
        }
    }
}
