//! One suite for every queue, run on the embedded one and on a real RabbitMQ.

mod contract;
mod outage;
#[path = "../../../tests/support/rabbitmq.rs"]
pub(crate) mod rabbitmq;
mod topology;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domain::Timestamp;
use domain::call::LeaseRef;
use futures_util::FutureExt as _;
use nodekit::metrics::Metrics;
use tokio::time::{interval, timeout};

use self::rabbitmq::Broker;
use super::{Consumer, Delivery, OpenOptions, Queue, QueueMetrics, open};
use crate::store::Doorbell;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(60);

/// A new queue.
struct Fixture {
    queue: Arc<dyn Queue>,
    url: String,
    name: String,
    metrics: QueueMetrics,
}

impl Fixture {
    async fn embedded() -> Self {
        Self::on(String::new()).await
    }

    async fn amqp() -> Self {
        let broker = tokio::task::spawn_blocking(Broker::shared).await;
        Self::on(broker.expect("a broker").url()).await
    }

    async fn on(url: String) -> Self {
        static QUEUES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", QUEUES.fetch_add(1, Ordering::Relaxed));
        let metrics = QueueMetrics::new(&mut Metrics::new());
        let options = OpenOptions {
            queue: name.clone(),
            authority: None,
            metrics: metrics.clone(),
        };
        let queue = open(&url, options).expect("a queue's URL");
        until("the queue is up", || queue.is_up()).await;
        Self {
            queue,
            url,
            name,
            metrics,
        }
    }

    /// The same queue as another API node sees it.
    async fn another(&self) -> Arc<dyn Queue> {
        if self.url.is_empty() {
            return Arc::clone(&self.queue);
        }
        let options = OpenOptions {
            queue: self.name.clone(),
            authority: None,
            metrics: QueueMetrics::new(&mut Metrics::new()),
        };
        let queue = open(&self.url, options).expect("a queue's URL");
        until("the queue is up", || queue.is_up()).await;
        queue
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

/// Looks until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut looks = interval(Duration::from_millis(5));
    within(what, async {
        while !is_so() {
            looks.tick().await;
        }
    })
    .await;
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
