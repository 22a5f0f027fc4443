//! What is declared at the broker: the queue, and where its dead letters go.

use std::sync::{Arc, Mutex, PoisonError};

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind, Queue};
use tokio::time::Instant;

/// How often a message may come back before it goes to the dead letters. Each release and each
/// consumer that goes away with a message counts, so this is far beyond what a message sees that
/// waits for a busy cluster; the store rings again for what is lost to it.
pub(in crate::queue) const DELIVERY_LIMIT: i64 = 1000;
/// How many dead letters are kept; the oldest ones go first.
const DEAD_LETTERS: i64 = 10_000;

/// The names at the broker.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    /// The queue.
    pub(super) queue: ShortString,
    /// The exchange and the queue for dead letters.
    pub(super) dead: ShortString,
    /// When the queue was last found without a message and without a consumer. After a start of the
    /// broker the first connection of all finds that, if the queue was drained or is lost.
    empty_at: Arc<Mutex<Option<Instant>>>,
}

/// What could not be declared.
#[derive(Debug, thiserror::Error)]
#[error("cannot declare {kind} '{name}': {source}")]
pub(super) struct TopologyError {
    kind: &'static str,
    name: ShortString,
    source: lapin::Error,
}

impl Topology {
    /// Everything is named after the queue.
    pub(super) fn of(queue: &str) -> Self {
        Self {
            queue: queue.into(),
            dead: format!("{queue}.dead").into(),
            empty_at: Arc::default(),
        }
    }

    /// When the queue was last found without a message and without a consumer.
    pub(super) fn empty_at(&self) -> Option<Instant> {
        *self.empty_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares what is not there yet. The broker refuses a queue that is there with other
    /// arguments, and ends the channel.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), TopologyError> {
        let failed = |kind, name: &ShortString| {
            let name = name.clone();
            move |source| TopologyError { kind, name, source }
        };
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                self.dead.clone(),
                ExchangeKind::Fanout,
                durable,
                FieldTable::default(),
            )
            .await
            .map_err(failed("the exchange", &self.dead))?;
        let mut arguments = quorum();
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(DEAD_LETTERS));
        channel
            .queue_declare(self.dead.clone(), QueueDeclareOptions::durable(), arguments)
            .await
            .map_err(failed("the queue", &self.dead))?;
        channel
            .queue_bind(
                self.dead.clone(),
                self.dead.clone(),
                ShortString::default(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(failed("the binding of the queue", &self.dead))?;
        let mut arguments = quorum();
        arguments.insert(
            "x-delivery-limit".into(),
            AMQPValue::LongLongInt(DELIVERY_LIMIT),
        );
        let dead = self.dead.as_str().into();
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(dead));
        let queue = channel
            .queue_declare(
                self.queue.clone(),
                QueueDeclareOptions::durable(),
                arguments,
            )
            .await
            .map_err(failed("the queue", &self.queue))?;
        if queue.message_count() == 0 && queue.consumer_count() == 0 {
            let mut empty_at = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
            *empty_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Deletes the queue, with the messages in it.
    pub(super) async fn delete(&self, channel: &Channel) -> lapin::Result<u32> {
        channel
            .queue_delete(self.queue.clone(), QueueDeleteOptions::default())
            .await
    }

    /// How many dead letters there are.
    pub(super) async fn count_dead(&self, channel: &Channel) -> lapin::Result<u32> {
        Ok(look_at(&self.dead, channel).await?.message_count())
    }

    /// How many consumers the queue has, those of other nodes included.
    pub(super) async fn count_consumers(&self, channel: &Channel) -> lapin::Result<u32> {
        Ok(look_at(&self.queue, channel).await?.consumer_count())
    }
}

async fn look_at(name: &ShortString, channel: &Channel) -> lapin::Result<Queue> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::durable()
    };
    channel
        .queue_declare(name.clone(), passive, FieldTable::default())
        .await
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    let kind = AMQPValue::LongString("quorum".into());
    arguments.insert("x-queue-type".into(), kind);
    arguments
}
