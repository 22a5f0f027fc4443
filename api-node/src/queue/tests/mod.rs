//! One suite for every queue, run on the embedded one and on a real RabbitMQ.

mod contract;

use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use domain::call::LeaseRef;
use futures_util::FutureExt as _;
use nodekit::metrics::Metrics;
use tokio::time::timeout;

use super::{Consumer, Delivery, EmbeddedQueue, Queue, QueueMetrics};
use crate::store::Doorbell;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(60);

/// A new queue.
struct Fixture {
    queue: Arc<dyn Queue>,
}

impl Fixture {
    async fn embedded() -> Self {
        let metrics = QueueMetrics::new(&mut Metrics::new());
        Self {
            queue: Arc::new(EmbeddedQueue::new(metrics)),
        }
    }

    /// The same queue as another API node sees it.
    async fn another(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue)
    }

    /// Publishes doorbells with these numbers, all of which are confirmed.
    async fn publish(&self, numbers: impl IntoIterator<Item = i64>) {
        let doorbells: Vec<_> = numbers.into_iter().map(doorbell).collect();
        let confirmed = within("confirms", self.queue.publish(&doorbells)).await;
        assert_eq!(confirmed, vec![true; doorbells.len()]);
    }

    async fn consumer(&self, prefetch: u32) -> Box<dyn Consumer> {
        consumer(&self.queue, prefetch).await
    }
}

async fn consumer(queue: &Arc<dyn Queue>, prefetch: u32) -> Box<dyn Consumer> {
    let mut consumer = queue.consume().await.expect("a consumer");
    consumer.set_prefetch(prefetch);
    consumer
}

/// A doorbell that can be told by its epoch.
fn doorbell(number: i64) -> Doorbell {
    Doorbell {
        lease: LeaseRef {
            call_id: format!("call-{number}").into(),
            epoch: number,
        },
        fn_id: "fn-1".into(),
        priority: 5,
        due_at: Timestamp::from_unix_millis(1_700_000_000_000 + number),
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// The next message, which must come.
async fn take(consumer: &mut Box<dyn Consumer>) -> Delivery {
    let delivery = within("a message", consumer.next()).await;
    delivery.expect("the queue is open")
}

/// The number of the next message, which is acknowledged.
async fn eat(consumer: &mut Box<dyn Consumer>) -> i64 {
    let delivery = take(consumer).await;
    delivery.receipt.ack();
    number(&delivery.doorbell)
}

fn number(doorbell: &Doorbell) -> i64 {
    doorbell.lease.epoch
}

/// Whether the consumer has nothing to give at this moment.
fn is_silent(consumer: &mut Box<dyn Consumer>) -> bool {
    consumer.next().now_or_never().is_none()
}
