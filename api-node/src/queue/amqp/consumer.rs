//! The consuming side: each consumer has a task with a connection of its own, which keeps the
//! subscription as the consumer wants it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::{OptionFuture, try_join_all};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    BasicRejectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, message};
use tokio::sync::Notify;
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::address::Address;
use super::link::{Happening, Link, LinkError, Pauses, answer};
use super::message::decode;
use super::topology::Topology;
use super::window::{Settlement, Step, Window};
use crate::queue::{Consumer, Delivery, QueueMetrics, Receipt};

/// Between two looks at whether the broker still knows of a subscription.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Between the consumer, its receipts and its task.
struct Shared {
    window: Mutex<Window>,
    /// For the task: there is something to do.
    work: Notify,
    /// For the consumer: there is something to take, or the end.
    arrived: Notify,
}

impl Shared {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes messages from the broker's queue.
pub(super) struct AmqpConsumer {
    shared: Arc<Shared>,
    metrics: QueueMetrics,
    _task: DropGuard,
}

impl AmqpConsumer {
    /// A consumer, and the task that has to run for it; it ends with the consumer, or when `cancel`
    /// says so.
    pub(super) fn new(
        address: Address,
        topology: Topology,
        metrics: QueueMetrics,
        cancel: &CancellationToken,
    ) -> (Self, Task) {
        let shared = Arc::new(Shared {
            window: Mutex::default(),
            work: Notify::new(),
            arrived: Notify::new(),
        });
        let cancel = cancel.child_token();
        let task = Task {
            address,
            topology,
            metrics: metrics.clone(),
            shared: Arc::clone(&shared),
            cancel: cancel.clone(),
        };
        let consumer = Self {
            shared,
            metrics,
            _task: cancel.drop_guard(),
        };
        (consumer, task)
    }
}

#[async_trait]
impl Consumer for AmqpConsumer {
    fn set_prefetch(&mut self, messages: u32) {
        self.shared.window().set_wish(messages);
        self.shared.work.notify_one();
    }

    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let arrived = self.shared.arrived.notified();
            {
                let mut window = self.shared.window();
                if window.is_closed() {
                    return None;
                }
                if let Some((session, tag, doorbell)) = window.take() {
                    self.metrics.delivered();
                    let receipt = Box::new(AmqpReceipt {
                        shared: Arc::clone(&self.shared),
                        session,
                        tag,
                    });
                    return Some(Delivery { doorbell, receipt });
                }
            }
            arrived.await;
        }
    }
}

/// A message that was delivered on a connection.
struct AmqpReceipt {
    shared: Arc<Shared>,
    session: u64,
    tag: u64,
}

impl Receipt for AmqpReceipt {
    fn ack(self: Box<Self>) {
        let now = Instant::now();
        self.shared.window().ack(self.session, self.tag, now);
        self.settled();
    }

    fn release(self: Box<Self>) {
        self.shared.window().release(self.session, self.tag);
        self.settled();
    }
}

impl AmqpReceipt {
    fn settled(&self) {
        self.shared.work.notify_one();
        // One that waits may be let out now.
        self.shared.arrived.notify_waiters();
    }
}

/// Keeps the connection and the subscription of a consumer.
pub(super) struct Task {
    address: Address,
    topology: Topology,
    metrics: QueueMetrics,
    shared: Arc<Shared>,
    cancel: CancellationToken,
}

/// A connection in use.
struct Session {
    link: Link,
    channel: Channel,
    subscription: Option<lapin::Consumer>,
    subscriptions: u64,
}

impl Task {
    /// Runs until it is cancelled.
    pub(super) async fn run(self) {
        let mut pauses = Pauses::new();
        let mut told = None;
        while !self.cancel.is_cancelled() {
            let connecting = Session::open(&self.address, &self.topology);
            let error = match self.cancel.run_until_cancelled(connecting).await {
                None => break,
                Some(Err(error)) => error,
                Some(Ok(mut session)) => {
                    pauses.reset();
                    told = None;
                    let error = self.serve(&mut session).await;
                    if error.is_none() {
                        self.settle_all(&session).await;
                    }
                    self.shared.window().lost();
                    session.link.close().await;
                    let Some(error) = error else { break };
                    error
                }
            };
            let text = error.to_string();
            // A trouble that lasts is told once.
            if told.as_ref() != Some(&text) {
                tracing::warn!(broker = %self.address, queue = %self.topology.queue, error = %text, "cannot consume from the queue");
                told = Some(text);
            }
            self.cancel.run_until_cancelled(pauses.pause()).await;
        }
        self.shared.window().close();
        self.shared.arrived.notify_waiters();
    }

    /// Does what the window wants, until the connection is lost, or the task is cancelled (none).
    async fn serve(&self, session: &mut Session) -> Option<LinkError> {
        let mut checks = interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        loop {
            let step = self.shared.window().step(Instant::now());
            let result = match step {
                Step::Settle(settlement) => session.settle(settlement).await,
                Step::Subscribe(prefetch) => self.subscribe(session, prefetch).await,
                Step::Unsubscribe => self.unsubscribe(session).await,
                Step::Wait(until) => {
                    let alarm = OptionFuture::from(until.map(sleep_until));
                    let next = OptionFuture::from(session.subscription.as_mut().map(|s| s.next()));
                    tokio::select! {
                        () = self.cancel.cancelled() => return None,
                        () = self.shared.work.notified() => Ok(()),
                        Some(()) = alarm => Ok(()),
                        _ = checks.tick() => session.check(&self.topology).await,
                        Some(delivery) = next => self.deliver(&session.channel, delivery).await,
                        happening = session.link.happening() => match happening {
                            Happening::Lost(error) => Err(error.into()),
                            // Only who publishes is blocked.
                            Happening::Blocked(_) | Happening::Unblocked => Ok(()),
                        },
                    }
                }
            };
            if let Err(error) = result {
                return Some(error);
            }
        }
    }

    /// Passes a message on; none is the end of the subscription.
    async fn deliver(
        &self,
        channel: &Channel,
        delivery: Option<lapin::Result<message::Delivery>>,
    ) -> Result<(), LinkError> {
        let delivery = delivery.ok_or(LinkError::ConsumerEnded)??;
        match decode(&delivery.data) {
            Ok(doorbell) => {
                let mut window = self.shared.window();
                window.delivered(delivery.delivery_tag, doorbell);
                drop(window);
                self.shared.arrived.notify_waiters();
                Ok(())
            }
            Err(error) => {
                tracing::warn!(queue = %self.topology.queue, %error, "a message is no doorbell, and goes to the dead letters");
                self.metrics.malformed();
                let rejected =
                    channel.basic_reject(delivery.delivery_tag, BasicRejectOptions::default());
                answer("rejecting a message", rejected).await
            }
        }
    }

    async fn subscribe(&self, session: &mut Session, prefetch: u32) -> Result<(), LinkError> {
        session.subscribe(&self.topology, prefetch).await?;
        self.shared.window().subscribed(prefetch);
        Ok(())
    }

    async fn unsubscribe(&self, session: &mut Session) -> Result<(), LinkError> {
        if let Some(mut subscription) = session.subscription.take() {
            let tag = subscription.tag();
            let cancelled = session
                .channel
                .basic_cancel(tag, BasicCancelOptions::default());
            answer("ending a subscription", cancelled).await?;
            // What came before the end is there by now, and then the end.
            while let Some(delivery) = subscription.next().await {
                self.deliver(&session.channel, Some(delivery)).await?;
            }
        }
        self.shared.window().unsubscribed();
        Ok(())
    }

    /// What the caller has said about messages is told to the broker before the end.
    async fn settle_all(&self, session: &Session) {
        let settlement = self.shared.window().settle_all();
        if let Err(error) = session.settle(settlement).await {
            tracing::debug!(%error, "some messages will come again");
        }
    }
}

impl Session {
    async fn open(address: &Address, topology: &Topology) -> Result<Self, LinkError> {
        let link = Link::connect(address, topology, "consumer").await?;
        Ok(Self {
            channel: link.channel().await?,
            link,
            subscription: None,
            subscriptions: 0,
        })
    }

    async fn subscribe(&mut self, topology: &Topology, prefetch: u32) -> Result<(), LinkError> {
        let count = u16::try_from(prefetch).unwrap_or(u16::MAX);
        let qos = self.channel.basic_qos(count, BasicQosOptions::default());
        answer("setting the prefetch", qos).await?;
        // A new name each time: the broker counts what is out by the name.
        self.subscriptions += 1;
        let consumed = self.channel.basic_consume(
            topology.queue.clone(),
            format!("hearth-{}", self.subscriptions).into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        self.subscription = Some(answer("subscribing", consumed).await?);
        Ok(())
    }

    /// A broker that has lost a subscription without a word does not keep this consumer waiting for
    /// ever.
    async fn check(&self, topology: &Topology) -> Result<(), LinkError> {
        let counted = answer(
            "counting consumers",
            topology.count_consumers(&self.channel),
        );
        match counted.await? {
            0 if self.subscription.is_some() => Err(LinkError::ConsumerEnded),
            _ => Ok(()),
        }
    }

    async fn settle(&self, settlement: Settlement) -> Result<(), LinkError> {
        let multiple = BasicAckOptions { multiple: true };
        let requeue = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        let up_to = settlement.ack_up_to.into_iter();
        let acks = up_to.map(|tag| (tag, multiple)).chain(
            settlement
                .acks
                .into_iter()
                .map(|tag| (tag, BasicAckOptions::default())),
        );
        let acks = acks.map(|(tag, options)| self.channel.basic_ack(tag, options));
        let nacks = settlement.requeues.into_iter();
        let nacks = nacks.map(|tag| self.channel.basic_nack(tag, requeue));
        let settled = async {
            try_join_all(acks).await?;
            try_join_all(nacks).await?;
            Ok(())
        };
        answer("settling messages", settled).await
    }
}
