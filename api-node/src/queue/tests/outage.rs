//! A broker that dies, hangs or has no room: publishing says so soon, and all works again when the
//! broker does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::OwnedMutexGuard;
use tokio::task::{JoinSet, block_in_place, spawn_blocking};
use tokio::time::timeout;

use super::super::{OpenOptions, Queue, QueueMetrics, open};
use super::rabbitmq::Broker;
use super::{Fixture, doorbell, eat, number, take, until, within};
use nodekit::metrics::Metrics;

/// The promise of the queue.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);

/// The broker that all of these have, one after the other.
async fn troubled() -> OwnedMutexGuard<Broker> {
    static BROKER: OnceLock<Arc<tokio::sync::Mutex<Broker>>> = OnceLock::new();
    let start = || BROKER.get_or_init(|| Arc::new(tokio::sync::Mutex::new(Broker::start())));
    let broker = spawn_blocking(start).await.expect("a broker");
    Arc::clone(broker).lock_owned().await
}

/// Publishes until the broker confirms.
async fn publish_until_confirmed(queue: &Arc<dyn Queue>, number: i64) {
    let message = [doorbell(number)];
    within("a confirm", async {
        while queue.publish(&message).await != [true] {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Without any wait at all.
fn is_refused_at_once(queue: &Arc<dyn Queue>) -> bool {
    queue.publish(&[doorbell(0), doorbell(1)]).now_or_never() == Some(vec![false, false])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_broker_that_is_killed() {
    let broker = troubled().await;
    let f = Fixture::on(broker.url()).await;
    let confirmed = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let mut tasks = JoinSet::new();
    let (queue, noted) = (Arc::clone(&f.queue), Arc::clone(&confirmed));
    tasks.spawn(async move {
        for first in (0..).step_by(20) {
            let batch: Vec<_> = (first..first + 20).map(doorbell).collect();
            let answers = queue.publish(&batch).await;
            let took: Vec<_> = batch.iter().zip(answers).filter(|(_, yes)| *yes).collect();
            let numbers = took.iter().map(|(doorbell, _)| number(doorbell));
            noted.lock().expect("unbroken").extend(numbers);
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..2 {
        let mut consumer = f.consumer(50).await;
        let noted = Arc::clone(&seen);
        tasks.spawn(async move {
            while let Some(delivery) = consumer.next().await {
                noted
                    .lock()
                    .expect("unbroken")
                    .insert(number(&delivery.doorbell));
                delivery.receipt.ack();
            }
        });
    }
    let count = || confirmed.lock().expect("unbroken").len();
    block_in_place(|| broker.note_queues());
    for _ in 0..2 {
        let before = count();
        until("some confirms", || count() > before + 2000).await;
        block_in_place(|| broker.kill());
        until("the loss is seen", || !f.queue.is_up()).await;
        block_in_place(|| broker.resume());
    }
    let before = count();
    until("confirms after all", || count() > before + 2000).await;
    let confirmed = confirmed.lock().expect("unbroken").clone();
    until("all that was confirmed", || {
        seen.lock().expect("unbroken").is_superset(&confirmed)
    })
    .await;
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_at_once_and_used_again() {
    let broker = troubled().await;
    let f = Fixture::on(broker.url()).await;
    let mut consumer = f.consumer(2).await;
    f.publish([1, 2]).await;
    let first = take(&mut consumer).await;
    let second = take(&mut consumer).await;
    block_in_place(|| broker.note_queues());
    block_in_place(|| broker.kill());
    until("the loss is seen", || !f.queue.is_up()).await;
    assert!(is_refused_at_once(&f.queue));
    block_in_place(|| broker.resume());
    until("the queue is up", || f.queue.is_up()).await;
    // What was out comes again; the receipts of the connection before mean nothing.
    let again = take(&mut consumer).await;
    first.receipt.ack();
    second.receipt.release();
    let other = take(&mut consumer).await;
    let both = BTreeSet::from([number(&again.doorbell), number(&other.doorbell)]);
    assert_eq!(both, BTreeSet::from([1, 2]));
    again.receipt.ack();
    other.receipt.ack();
    f.publish([3]).await;
    assert_eq!(eat(&mut consumer).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_is_given_up_and_used_again() {
    let broker = troubled().await;
    let f = Fixture::on(broker.url()).await;
    let mut consumer = f.consumer(5).await;
    f.publish([1]).await;
    assert_eq!(eat(&mut consumer).await, 1);
    broker.freeze();
    let message = [doorbell(2)];
    let published = timeout(PUBLISHED_WITHIN, f.queue.publish(&message)).await;
    assert_eq!(published.expect("in time"), [false]);
    until("the silence is seen", || !f.queue.is_up()).await;
    assert!(is_refused_at_once(&f.queue));
    broker.thaw();
    publish_until_confirmed(&f.queue, 3).await;
    // The second may have arrived, unconfirmed as it was.
    while eat(&mut consumer).await != 3 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_notices_a_broker_that_hangs() {
    let broker = troubled().await;
    let f = Fixture::on(broker.url()).await;
    broker.freeze();
    until("the silence is seen", || !f.queue.is_up()).await;
    broker.thaw();
    until("the queue is up", || f.queue.is_up()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_room_is_told_at_once_and_consumed_from() {
    let broker = troubled().await;
    let f = Fixture::on(broker.url()).await;
    f.publish([1]).await;
    let watermark = |level: &str| {
        block_in_place(|| broker.control(&["set_vm_memory_high_watermark", level]));
    };
    watermark("0");
    within("the block", async {
        while !f.metrics.is_blocked() {
            f.queue.publish(&[doorbell(2)]).await;
        }
    })
    .await;
    assert!(is_refused_at_once(&f.queue));
    assert!(!f.queue.is_up(), "nothing can be published");
    let mut consumer = f.consumer(5).await;
    assert_eq!(eat(&mut consumer).await, 1);
    watermark("0.9");
    publish_until_confirmed(&f.queue, 3).await;
    assert!(!f.metrics.is_blocked());
    while eat(&mut consumer).await != 3 {}
}

/// As behind a broken link: connections come about, and there is silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_never_answered_is_closed_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let options = OpenOptions {
        queue: "q".to_owned(),
        authority: None,
        metrics: QueueMetrics::new(&mut Metrics::new()),
    };
    let queue = open(&format!("amqp://{address}"), options).expect("a URL");
    let (mut silent, _) = within("a connection", listener.accept())
        .await
        .expect("one");
    assert!(is_refused_at_once(&queue));
    let mut heard = Vec::new();
    // Ends when the other side closes, which does not wait for an answer of this one.
    within("the close", silent.read_to_end(&mut heard))
        .await
        .expect("the end");
    assert!(heard.starts_with(b"AMQP"));
    within("another connection", listener.accept())
        .await
        .expect("one");
    within("the end of the queue", queue.close()).await;
}

/// The broker confirms messages of a queue half a second before it has noted the queue on disk. The
/// database has the calls, so that the queue is worth nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_the_death_of_the_broker_broke_is_made_anew() {
    let broker = spawn_blocking(Broker::start).await.expect("a broker");
    let f = Fixture::on(broker.url()).await;
    f.publish([1]).await;
    block_in_place(|| broker.kill());
    until("the loss is seen", || !f.queue.is_up()).await;
    block_in_place(|| broker.resume());
    let mut consumer = f.consumer(5).await;
    publish_until_confirmed(&f.queue, 2).await;
    while eat(&mut consumer).await != 2 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_without_its_messages_is_noticed() {
    let broker = spawn_blocking(Broker::start).await.expect("a broker");
    let f = Fixture::on(broker.url()).await;
    f.publish([1]).await;
    let empty_at = f.queue.empty_at().expect("it was made");
    block_in_place(|| broker.note_queues());
    for is_lost in [false, true] {
        block_in_place(|| broker.kill());
        until("the loss is seen", || !f.queue.is_up()).await;
        if is_lost {
            block_in_place(|| broker.forget_all());
        }
        block_in_place(|| broker.resume());
        until("it is used again", || f.queue.is_up()).await;
        assert_eq!(f.queue.empty_at() > Some(empty_at), is_lost);
    }
}
