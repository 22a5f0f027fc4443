//! The queue at a RabbitMQ: a durable quorum queue that all API nodes share.
//!
//! Nothing else in this crate knows the protocol. The library's own recovery stays off: each
//! connection has a task that connects again, declares again and goes on.

mod address;
mod consumer;
mod link;
mod message;
mod publisher;
mod topology;
mod window;

use async_trait::async_trait;
use domain::ApiError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::consumer::AmqpConsumer;
use self::publisher::{Publisher, State};
use self::topology::Topology;
use super::{Consumer, Queue, QueueMetrics};
use crate::store::Doorbell;

pub(super) use address::Address;
pub use address::AddressError;
#[cfg(test)]
pub(super) use topology::DELIVERY_LIMIT;

/// A queue at a broker.
pub(super) struct AmqpQueue {
    address: Address,
    topology: Topology,
    metrics: QueueMetrics,
    publisher: Publisher,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl AmqpQueue {
    /// The queue of this name. It is connected to, and kept connected to, in the background.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(address: Address, name: &str, metrics: QueueMetrics) -> Self {
        let topology = Topology::of(name);
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (publisher, task) = Publisher::new(address.clone(), topology.clone(), metrics.clone());
        tasks.spawn(task.run(cancel.clone()));
        Self {
            address,
            topology,
            metrics,
            publisher,
            tasks,
            cancel,
        }
    }
}

#[async_trait]
impl Queue for AmqpQueue {
    async fn publish(&self, doorbells: &[Doorbell]) -> Vec<bool> {
        let bodies = doorbells.iter().map(message::encode).collect();
        let confirmed = self.publisher.publish(bodies).await;
        self.metrics.published(&confirmed);
        confirmed
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, ApiError> {
        let (consumer, task) = AmqpConsumer::new(
            self.address.clone(),
            self.topology.clone(),
            self.metrics.clone(),
            &self.cancel,
        );
        self.tasks.spawn(task.run());
        Ok(Box::new(consumer))
    }

    fn is_up(&self) -> bool {
        self.publisher.state() == State::Up
    }

    fn empty_at(&self) -> Option<Instant> {
        self.topology.empty_at()
    }

    async fn close(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for AmqpQueue {
    /// The tasks end soon after.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
