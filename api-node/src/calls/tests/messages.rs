//! When the queue is told that a message is done with.

use super::*;
use crate::queue::{Delivery, Receipt};

/// A queue that counts what is acknowledged.
struct Counted {
    queue: EmbeddedQueue,
    acknowledged: Arc<AtomicU64>,
}

struct CountedConsumer(Box<dyn Consumer>, Arc<AtomicU64>);

struct CountedReceipt(Box<dyn Receipt>, Arc<AtomicU64>);

#[async_trait]
impl Queue for Counted {
    async fn publish(&self, doorbells: &[Doorbell]) -> Vec<bool> {
        self.queue.publish(doorbells).await
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, ApiError> {
        let consumer = self.queue.consume().await?;
        let acknowledged = Arc::clone(&self.acknowledged);
        Ok(Box::new(CountedConsumer(consumer, acknowledged)))
    }

    fn is_up(&self) -> bool {
        self.queue.is_up()
    }

    fn empty_at(&self) -> Option<Instant> {
        self.queue.empty_at()
    }

    async fn close(&self) {
        self.queue.close().await;
    }
}

#[async_trait]
impl Consumer for CountedConsumer {
    fn set_prefetch(&mut self, messages: u32) {
        self.0.set_prefetch(messages);
    }

    async fn next(&mut self) -> Option<Delivery> {
        let Delivery { doorbell, receipt } = self.0.next().await?;
        let receipt = Box::new(CountedReceipt(receipt, Arc::clone(&self.1)));
        Some(Delivery { doorbell, receipt })
    }
}

impl Receipt for CountedReceipt {
    fn ack(self: Box<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.ack();
    }

    fn release(self: Box<Self>) {
        self.0.release();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_when_its_call_is_claimed_and_not_when_it_is_over() {
    let f = Fixture::sqlite().await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let queue = Counted {
        queue: EmbeddedQueue::new(QueueMetrics::new(&mut Metrics::new())),
        acknowledged: Arc::clone(&acknowledged),
    };
    let settings = CallsSettings {
        direct: false,
        ..CallsSettings::default()
    };
    let node = Node::on(&f.store, Arc::new(queue), settings).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 1, 1).await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    let call = runner.next().await;
    runner.start(&call).await.expect("the lease holds");
    until("the message is acknowledged", || async {
        acknowledged.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(node.record(&id).await.status, CallState::Running);
    assert!(runner.finish(&call, answered(200, "")).await);
    assert_eq!(acknowledged.load(Ordering::SeqCst), 1);
}
