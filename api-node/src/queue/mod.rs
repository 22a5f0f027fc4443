//! The queue of doorbells: it tells API nodes that a call waits. The store is the truth; a message
//! that is lost, doubled, late or out of order does no harm.
//!
//! `amqp` keeps the messages in RabbitMQ; `embedded` keeps them in this process, for one API node
//! without a broker. Both pass the same contract suite.

mod amqp;
mod embedded;
mod metrics;
mod open;

#[cfg(test)]
pub(crate) mod tests;

use async_trait::async_trait;
use domain::ApiError;
use tokio::time::Instant;

pub use embedded::EmbeddedQueue;
pub use metrics::QueueMetrics;
pub use open::{AddressError, OpenError, OpenOptions, open};

use crate::store::Doorbell;

/// A queue.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Publishes doorbells, and returns when the broker has confirmed each of them, in the same
    /// order: whether it has. What is not confirmed may have been published all the same.
    ///
    /// Waits no longer than the queue's own limit; while the broker is away or blocks publishers it
    /// returns at once that nothing was confirmed.
    async fn publish(&self, doorbells: &[Doorbell]) -> Vec<bool>;

    /// Begins to consume. Messages that are not acknowledged when the consumer is dropped are
    /// delivered again, to whoever consumes then.
    async fn consume(&self) -> Result<Box<dyn Consumer>, ApiError>;

    /// Whether doorbells can be published now: the broker can be reached, and takes messages.
    fn is_up(&self) -> bool;

    /// When this process last found it without a message and without a consumer, if it has: of what was
    /// published before nothing is there any more, and the store has to ring again for all of that.
    fn empty_at(&self) -> Option<Instant>;

    /// Ends the connection; consumers get nothing more.
    async fn close(&self);
}

/// Takes messages from a queue. Survives the loss of the connection: what was not acknowledged
/// comes again, to this consumer or another.
#[async_trait]
pub trait Consumer: Send {
    /// At most so many messages may be with this consumer without being acknowledged; zero stops
    /// the deliveries. Returns as soon as the wish is noted.
    fn set_prefetch(&mut self, messages: u32);

    /// The next message; waits for it. None once the queue is closed. Safe to cancel.
    async fn next(&mut self) -> Option<Delivery>;
}

/// A message.
pub struct Delivery {
    /// What it says.
    pub doorbell: Doorbell,
    /// To be acknowledged.
    pub receipt: Box<dyn Receipt>,
}

/// The way to acknowledge a message. Dropping it without a word leaves the message with this consumer
/// until that is dropped.
pub trait Receipt: Send {
    /// The message is done with. Does not wait: an acknowledgement that gets lost brings the message
    /// again.
    fn ack(self: Box<Self>);

    /// Somebody else may have it.
    fn release(self: Box<Self>);
}
