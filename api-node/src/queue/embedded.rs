//! The queue of one API node without a broker: messages live in this process and end with it, which
//! does no harm, since the store rings again for calls that wait.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::ApiError;
use domain::call::LeaseRef;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Consumer, Delivery, Queue, QueueMetrics, Receipt};
use crate::store::Doorbell;

/// More messages than this do not fit: they are not confirmed, and their doorbells stay in the store.
const CAPACITY: usize = 262_144;

/// A queue within this process.
pub struct EmbeddedQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes consumers: there is a message, more room, or the end.
    changed: Notify,
    metrics: QueueMetrics,
    /// When there was nothing in it.
    began: Instant,
}

/// Messages are ordered by the number they got when they were published, and keep it when they come
/// back.
#[derive(Default)]
struct State {
    ready: BTreeMap<u64, Doorbell>,
    /// What the ready ones say: nothing is told twice at a time.
    told: HashSet<LeaseRef>,
    /// What each consumer has without having acknowledged it.
    out: HashMap<u64, BTreeMap<u64, Doorbell>>,
    messages: u64,
    consumers: u64,
    closed: bool,
}

impl EmbeddedQueue {
    /// An empty queue.
    pub fn new(metrics: QueueMetrics) -> Self {
        metrics.up(true);
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            metrics,
            began: Instant::now(),
        }))
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn publish(&self, doorbells: &[Doorbell]) -> Vec<bool> {
        let confirmed: Vec<bool> = {
            let mut state = self.0.lock();
            doorbells
                .iter()
                .map(|doorbell| state.publish(doorbell))
                .collect()
        };
        self.0.changed.notify_waiters();
        self.0.metrics.published(&confirmed);
        confirmed
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, ApiError> {
        let mut state = self.0.lock();
        let id = state.consumers;
        state.consumers += 1;
        state.out.insert(id, BTreeMap::new());
        Ok(Box::new(EmbeddedConsumer {
            shared: Arc::clone(&self.0),
            id,
            prefetch: 0,
        }))
    }

    fn is_up(&self) -> bool {
        !self.0.lock().closed
    }

    fn empty_at(&self) -> Option<Instant> {
        Some(self.0.began)
    }

    async fn close(&self) {
        {
            let mut state = self.0.lock();
            state.closed = true;
            state.ready.clear();
            state.told.clear();
        }
        self.0.changed.notify_waiters();
        self.0.metrics.up(false);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn publish(&mut self, doorbell: &Doorbell) -> bool {
        if self.closed {
            return false;
        }
        if self.told.contains(&doorbell.lease) {
            return true;
        }
        if self.ready.len() >= CAPACITY {
            return false;
        }
        self.put(self.messages, doorbell.clone());
        self.messages += 1;
        true
    }

    /// The message can be had, unless another one says the same.
    fn put(&mut self, number: u64, doorbell: Doorbell) {
        if self.told.insert(doorbell.lease.clone()) {
            self.ready.insert(number, doorbell);
        }
    }

    /// Moves the oldest message to a consumer that may have `prefetch` of them.
    fn take(&mut self, consumer: u64, prefetch: u32) -> Option<(u64, Doorbell)> {
        let out = self.out.get_mut(&consumer)?;
        if out.len() >= usize::try_from(prefetch).unwrap_or(usize::MAX) {
            return None;
        }
        let (number, doorbell) = self.ready.pop_first()?;
        self.told.remove(&doorbell.lease);
        out.insert(number, doorbell.clone());
        Some((number, doorbell))
    }

    /// The message is with the consumer no longer; none if it was not, as when the consumer is gone.
    fn give_up(&mut self, consumer: u64, number: u64) -> Option<Doorbell> {
        self.out.get_mut(&consumer)?.remove(&number)
    }
}

/// The consumer `id`.
struct EmbeddedConsumer {
    shared: Arc<Shared>,
    id: u64,
    prefetch: u32,
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    fn set_prefetch(&mut self, messages: u32) {
        self.prefetch = messages;
    }

    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let changed = self.shared.changed.notified();
            {
                let mut state = self.shared.lock();
                if state.closed {
                    return None;
                }
                if let Some((number, doorbell)) = state.take(self.id, self.prefetch) {
                    self.shared.metrics.delivered();
                    let receipt = Box::new(EmbeddedReceipt {
                        shared: Arc::clone(&self.shared),
                        consumer: self.id,
                        number,
                    });
                    return Some(Delivery { doorbell, receipt });
                }
            }
            changed.await;
        }
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            let out = state.out.remove(&self.id).unwrap_or_default();
            if !state.closed {
                for (number, doorbell) in out {
                    state.put(number, doorbell);
                }
            }
        }
        self.shared.changed.notify_waiters();
    }
}

/// The message `number`, with a consumer.
struct EmbeddedReceipt {
    shared: Arc<Shared>,
    consumer: u64,
    number: u64,
}

impl Receipt for EmbeddedReceipt {
    fn ack(self: Box<Self>) {
        self.shared.lock().give_up(self.consumer, self.number);
        // There is room for the next one.
        self.shared.changed.notify_waiters();
    }

    fn release(self: Box<Self>) {
        {
            let mut state = self.shared.lock();
            let doorbell = state.give_up(self.consumer, self.number);
            if let Some(doorbell) = doorbell.filter(|_| !state.closed) {
                state.put(self.number, doorbell);
            }
        }
        self.shared.changed.notify_waiters();
    }
}
