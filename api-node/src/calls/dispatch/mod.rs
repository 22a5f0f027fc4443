//! The dispatcher: it takes doorbells from the queue, claims their calls for runners that granted
//! credits, and passes them on. A message is acknowledged when its claim is committed, not when the
//! call is over.

mod book;
mod claims;
mod in_flight;
mod link;
#[cfg(feature = "planted-bugs")]
mod planted;
mod prefetch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use domain::ApiError;
use domain::call::LeaseRef;
use futures_util::FutureExt as _;
use hybrid_client::{Dequeue, Work};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::book::MAX_CREDITS;
use self::book::{Book, LinkId, Rules};
use self::prefetch::Prefetch;
use super::batcher::Batcher;
use super::metrics::CallsMetrics;
use super::outage::Outage;
use super::panics::supervised;
use super::relay::{Counter, Relay};
use super::writes::Finish;
use crate::queue::{Consumer, Delivery, Queue, Receipt};
use crate::store::{CallStore, Clock, Doorbell};

/// Calls that are claimed in one transaction. Their inputs are in memory together.
const CLAIM_BATCH: usize = 16;
/// Transactions that claim at once.
const CLAIMS: usize = 4;
/// What cannot be placed for so long is given to other nodes.
const HOLD: Duration = Duration::from_millis(500);
/// How often that is looked at, while anything waits.
const TICK: Duration = Duration::from_millis(100);
/// A call of which nothing was heard for so many leases is no longer counted as running.
const SILENT_LEASES: u32 = 3;
/// Messages that are taken from the queue before calls are placed.
const DELIVERIES: usize = 64;

/// What the dispatcher is made of.
pub(super) struct DispatcherParts {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) queue: Arc<dyn Queue>,
    pub(super) relay: Relay,
    pub(super) ends: Batcher<Finish>,
    pub(super) lease: Duration,
    pub(super) ageing: Duration,
    /// Whether what was just accepted may come here without the queue.
    pub(super) direct: bool,
    pub(super) metrics: CallsMetrics,
    pub(super) clock: Clock,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// The dispatcher of this node. Clones share it.
#[derive(Clone)]
pub(super) struct Dispatcher(Arc<Shared>);

struct Shared {
    parts: DispatcherParts,
    desk: Mutex<Desk>,
    /// There may be something to do.
    changed: Notify,
    claims: Semaphore,
}

struct Desk {
    book: Book<Box<dyn Receipt>>,
    links: HashMap<LinkId, mpsc::Sender<Work>>,
    numbers: LinkId,
    /// Claims that are under way.
    claims: usize,
    /// Whether somebody places what waits.
    serving: bool,
    outage: Outage,
    /// Nothing is placed before, because the store does not answer.
    paused_until: Option<Instant>,
}

impl Dispatcher {
    /// Starts to consume as soon as there is a runner, until it is told to stop.
    pub(super) fn start(parts: DispatcherParts) -> Self {
        let desk = Desk {
            book: Book::new(Rules {
                ageing: millis(parts.ageing),
                hold: millis(HOLD),
            }),
            links: HashMap::new(),
            numbers: 0,
            claims: 0,
            serving: false,
            outage: Outage::none("dispatcher"),
            paused_until: None,
        };
        let dispatcher = Self(Arc::new(Shared {
            parts,
            desk: Mutex::new(desk),
            changed: Notify::new(),
            claims: Semaphore::new(CLAIMS),
        }));
        if dispatcher.0.parts.direct {
            let counter: Weak<Shared> = Arc::downgrade(&dispatcher.0);
            dispatcher.0.parts.relay.offer_to(counter);
        }
        let own = dispatcher.clone();
        dispatcher.tasks().spawn(async move {
            tokio::select! {
                () = supervised("dispatcher", || own.run()) => {}
                () = own.stopping().cancelled() => {}
            }
        });
        dispatcher
    }

    /// Begins to send calls to a runner.
    pub(super) fn dequeue(&self, runner: Arc<str>, capacity: u32) -> Dequeue {
        link::open(self, runner, capacity)
    }

    /// How many more calls its runners take.
    #[cfg(test)]
    pub(super) fn credits(&self) -> u64 {
        self.desk().book.credits()
    }

    /// The function of a call began to run.
    pub(super) fn started(&self, lease: &LeaseRef) {
        let metrics = &self.0.parts.metrics;
        metrics.started.inc();
        let due = self.desk().book.started(lease);
        if let Some(due) = due {
            let waited = self.now().saturating_sub(due);
            metrics.start_waited(Duration::from_millis(waited));
        }
    }

    /// A runner still has these calls.
    pub(super) fn renewed(&self, leases: &[LeaseRef]) {
        let now = self.now();
        self.desk().book.renewed(leases, now);
    }

    /// A runner no longer has a call.
    pub(super) fn over(&self, lease: &LeaseRef) {
        self.desk().book.over(lease);
        self.0.changed.notify_one();
    }

    /// A runner could not run a call.
    pub(super) fn failed(&self, lease: &LeaseRef) {
        self.desk().book.failed(lease);
        self.0.changed.notify_one();
    }

    /// Tells the runner that had a call that it was cancelled, if it is connected to this node.
    pub(super) fn cancelled(&self, lease: &LeaseRef, runner: &str) {
        let mut desk = self.desk();
        desk.book.over(lease);
        for link in desk.book.links_of(runner) {
            if let Some(queue) = desk.links.get(&link) {
                // One that does not fit is found out by the runner when it renews its leases.
                let _ = queue.try_send(Work::Cancelled(lease.clone()));
            }
        }
    }

    /// Consumes while there are runners; without any, nothing is kept from other nodes.
    async fn run(&self) {
        let mut outage = Outage::none("queue");
        // After a panic: what the last consumer had is delivered again.
        self.clear();
        loop {
            while self.desk().book.links() == 0 {
                self.0.changed.notified().await;
            }
            match self.0.parts.queue.consume().await {
                Ok(consumer) => {
                    outage.over();
                    self.desk().serving = true;
                    self.serve(consumer).await;
                    // What it had is delivered again, here or elsewhere.
                    self.clear();
                    self.measure();
                }
                Err(error) => sleep(outage.failed(&error)).await,
            }
        }
    }

    /// Nothing waits here any more.
    fn clear(&self) {
        let receipts = {
            let mut desk = self.desk();
            desk.serving = false;
            desk.book.clear()
        };
        // Those that become messages now do so without the desk.
        drop(receipts);
    }

    /// Passes calls on until the queue ends or the last runner is gone.
    async fn serve(&self, mut consumer: Box<dyn Consumer>) {
        let mut prefetch = Prefetch::default();
        loop {
            let (demand, tick) = {
                let desk = self.desk();
                if desk.book.links() == 0 {
                    return;
                }
                (desk.demand(), desk.tick())
            };
            if let Some(messages) = prefetch.wanted(demand, Instant::now()) {
                consumer.set_prefetch(messages);
            }
            let tick = prefetch.recheck().into_iter().chain(tick).min();
            tokio::select! {
                delivery = consumer.next() => match delivery {
                    Some(first) => self.take(first, &mut *consumer),
                    None => {
                        // The queue is closed; a node that closes stops this task.
                        return sleep(HOLD).await;
                    }
                },
                () = self.0.changed.notified() => {}
                () = at(tick) => self.tidy(),
            }
            self.place();
            self.measure();
        }
    }

    /// Notes a message, and those that are there already behind it.
    fn take(&self, first: Delivery, consumer: &mut dyn Consumer) {
        let now = self.now();
        let mut next = Some(first);
        for _ in 0..DELIVERIES {
            let Some(delivery) = next.take() else {
                return;
            };
            let added = self
                .desk()
                .book
                .add(delivery.doorbell, delivery.receipt, now);
            if let Err(doubled) = added {
                doubled.ack();
            }
            next = consumer.next().now_or_never().flatten();
        }
        if let Some(last) = next {
            let added = self.desk().book.add(last.doorbell, last.receipt, now);
            if let Err(doubled) = added {
                doubled.ack();
            }
        }
    }

    /// Gives back what waited in vain, and forgets what ended elsewhere.
    fn tidy(&self) {
        let now = self.now();
        let silence = millis(self.lease()).saturating_mul(u64::from(SILENT_LEASES));
        let overdue = {
            let mut desk = self.desk();
            desk.book.forget_silent(now.saturating_sub(silence));
            if desk.is_paused() {
                // Other nodes have no better store.
                return;
            }
            desk.book.overdue(now)
        };
        for receipt in overdue {
            receipt.release();
        }
    }

    /// Claims as many calls as there are slots for.
    fn place(&self) {
        let now = self.now();
        let placed = {
            let mut desk = self.desk();
            if desk.is_paused() {
                return;
            }
            let room = CLAIMS.saturating_sub(desk.claims) * CLAIM_BATCH;
            desk.book.place(room, now)
        };
        let mut batches: HashMap<LinkId, Vec<claims::Placed>> = HashMap::new();
        for placed in placed {
            batches.entry(placed.link).or_default().push(placed);
        }
        for (_, mut batch) in batches {
            while let Some(first) = batch.first() {
                let runner = Arc::clone(&first.runner);
                let rest = batch.split_off(batch.len().min(CLAIM_BATCH));
                self.desk().claims += 1;
                let claim = claims::claim(claims::Claiming(self.clone()), runner, batch);
                self.tasks().spawn(claim);
                batch = rest;
            }
        }
    }

    fn measure(&self) {
        let desk = self.desk();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let metrics = &self.0.parts.metrics;
        metrics.waiting_doorbells.set(count(desk.book.waiting()));
        metrics.runners.set(count(desk.book.links()));
    }

    fn join(&self, runner: Arc<str>, capacity: u32, queue: mpsc::Sender<Work>) -> LinkId {
        let number = {
            let mut desk = self.desk();
            desk.numbers += 1;
            let number = desk.numbers;
            desk.book.join(number, runner, capacity);
            desk.links.insert(number, queue);
            number
        };
        self.0.changed.notify_one();
        number
    }

    fn leave(&self, link: LinkId) {
        {
            let mut desk = self.desk();
            desk.book.leave(link);
            desk.links.remove(&link);
        }
        self.0.changed.notify_one();
    }

    fn grant(&self, link: LinkId, credits: u32) {
        self.desk().book.grant(link, credits);
        self.0.changed.notify_one();
    }

    /// A runner has read what was queued for it.
    fn read(&self, link: LinkId, work: &Work) {
        if let Work::Run(call) = work
            && self.desk().book.read(link, call.body.len())
        {
            self.0.changed.notify_one();
        }
    }

    /// Gives a call back that its runner never saw.
    fn give_back(&self, runner: Arc<str>, lease: LeaseRef) {
        self.0.parts.metrics.given_back.inc();
        let giving = link::give_back(self.clone(), runner, lease);
        self.tasks().spawn(giving);
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk()
    }

    fn now(&self) -> u64 {
        self.0.now()
    }

    fn lease(&self) -> Duration {
        self.0.parts.lease
    }

    fn ends(&self) -> &Batcher<Finish> {
        &self.0.parts.ends
    }

    fn tasks(&self) -> &TaskTracker {
        &self.0.parts.tasks
    }

    fn stopping(&self) -> &CancellationToken {
        &self.0.parts.stop
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from((self.parts.clock)().unix_millis()).unwrap_or(0)
    }
}

impl Counter for Shared {
    fn has_room(&self, doorbell: &Doorbell) -> bool {
        let desk = self.desk();
        desk.serving
            && !desk.is_paused()
            && !self.parts.stop.is_cancelled()
            && desk.book.has_room_for(&doorbell.fn_id)
    }

    fn offer(&self, doorbell: Doorbell, receipt: Box<dyn Receipt>) {
        let now = self.now();
        let mut desk = self.desk();
        if !desk.serving {
            drop(desk);
            return drop(receipt);
        }
        let added = desk.book.add(doorbell, receipt, now);
        drop(desk);
        match added {
            Ok(()) => self.changed.notify_one(),
            // A message of it that came meanwhile is as good.
            Err(doubled) => doubled.ack(),
        }
    }
}

impl Desk {
    fn demand(&self) -> prefetch::Demand {
        prefetch::Demand {
            slots: self.book.credits(),
            claiming: self.book.claiming(),
            waiting: self.book.waiting(),
        }
    }

    /// When to look at the time.
    fn tick(&self) -> Option<Instant> {
        let now = Instant::now();
        let tick = (self.book.waiting() > 0).then(|| now + TICK);
        let resume = self.paused_until.filter(|until| *until > now);
        tick.into_iter().chain(resume).min()
    }

    fn is_paused(&self) -> bool {
        self.paused_until
            .is_some_and(|until| until > Instant::now())
    }

    /// The store did not answer.
    fn pause(&mut self, error: &ApiError) {
        let pause = self.outage.failed(error);
        self.paused_until = Some(Instant::now() + pause);
    }

    /// It did.
    fn resume(&mut self) {
        self.outage.over();
        self.paused_until = None;
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
