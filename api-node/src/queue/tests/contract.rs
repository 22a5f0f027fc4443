//! What every queue does.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Fixture, consumer, doorbell, eat, is_silent, number, take, within};

/// Makes of each case a test on every queue.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(super::Fixture::embedded().await).await;
                }
            )+
        }
        mod amqp {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(super::Fixture::amqp().await).await;
                }
            )+
        }
    };
}

contract!(
    a_message_arrives_as_it_was,
    what_is_acknowledged_is_gone,
    what_a_consumer_leaves_behind_comes_again,
    a_receipt_that_is_dropped_keeps_the_message,
    a_receipt_that_outlives_its_consumer_does_nothing,
    what_is_released_goes_to_another,
    what_is_released_comes_back_to_who_is_alone,
    prefetch_bounds_what_is_out,
    zero_stops_deliveries,
    prefetch_grows_and_shrinks,
    an_acknowledgement_makes_room,
    consumers_share,
    messages_keep_their_order,
    none_of_many_is_lost,
    a_wait_that_is_given_up_loses_nothing,
    the_end_of_the_queue_ends_consumers,
);

async fn a_message_arrives_as_it_was(f: Fixture) {
    let mut consumer = f.consumer(1).await;
    f.publish([7]).await;
    let delivery = take(&mut consumer).await;
    assert_eq!(delivery.doorbell, doorbell(7));
}

async fn what_is_acknowledged_is_gone(f: Fixture) {
    let mut first = f.consumer(2).await;
    f.publish([1, 2]).await;
    assert_eq!(eat(&mut first).await, 1);
    assert_eq!(number(&take(&mut first).await.doorbell), 2);
    drop(first);
    // Of the two only the second comes again.
    let mut second = f.consumer(2).await;
    assert_eq!(eat(&mut second).await, 2);
    f.publish([3]).await;
    assert_eq!(eat(&mut second).await, 3);
}

async fn what_a_consumer_leaves_behind_comes_again(f: Fixture) {
    let mut first = f.consumer(10).await;
    f.publish(0..10).await;
    let mut receipts = Vec::new();
    for expected in 0..5 {
        let delivery = take(&mut first).await;
        assert_eq!(number(&delivery.doorbell), expected);
        receipts.push(delivery.receipt);
    }
    drop(first);
    let mut second = f.consumer(10).await;
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        seen.insert(eat(&mut second).await);
    }
    assert_eq!(seen, (0..10).collect());
}

async fn a_receipt_that_is_dropped_keeps_the_message(f: Fixture) {
    let mut first = f.consumer(1).await;
    f.publish([1, 2]).await;
    drop(take(&mut first).await);
    let mut second = f.consumer(1).await;
    assert_eq!(eat(&mut second).await, 2);
    assert!(is_silent(&mut first));
    drop(first);
    assert_eq!(eat(&mut second).await, 1);
}

async fn a_receipt_that_outlives_its_consumer_does_nothing(f: Fixture) {
    let mut first = f.consumer(1).await;
    f.publish([1]).await;
    let late = take(&mut first).await.receipt;
    drop(first);
    let mut second = f.consumer(1).await;
    let again = take(&mut second).await;
    late.ack();
    again.receipt.release();
    assert_eq!(eat(&mut second).await, 1);
}

async fn what_is_released_goes_to_another(f: Fixture) {
    let mut first = f.consumer(1).await;
    f.publish([1]).await;
    let delivery = take(&mut first).await;
    first.set_prefetch(0);
    delivery.receipt.release();
    let other = f.another().await;
    let mut second = consumer(&other, 1).await;
    assert_eq!(eat(&mut second).await, 1);
    assert!(is_silent(&mut first));
}

async fn what_is_released_comes_back_to_who_is_alone(f: Fixture) {
    let mut only = f.consumer(1).await;
    f.publish([1]).await;
    for _ in 0..20 {
        take(&mut only).await.receipt.release();
    }
    assert_eq!(eat(&mut only).await, 1);
}

async fn prefetch_bounds_what_is_out(f: Fixture) {
    let mut first = f.consumer(3).await;
    f.publish(0..4).await;
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.push(take(&mut first).await.receipt);
    }
    assert!(is_silent(&mut first));
    let mut second = f.consumer(1).await;
    assert_eq!(eat(&mut second).await, 3);
    assert!(is_silent(&mut first));
}

async fn zero_stops_deliveries(f: Fixture) {
    let mut first = f.consumer(0).await;
    let mut second = f.consumer(5).await;
    f.publish([1]).await;
    assert_eq!(eat(&mut second).await, 1);
    // A consumer that had some is stopped, too; what it has not looked at goes to others.
    let mut third = f.consumer(5).await;
    third.set_prefetch(0);
    second.set_prefetch(0);
    f.publish([2, 3, 4]).await;
    assert!(is_silent(&mut second));
    assert!(is_silent(&mut third));
    first.set_prefetch(5);
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        seen.insert(eat(&mut first).await);
    }
    assert_eq!(seen, (2..5).collect());
}

async fn prefetch_grows_and_shrinks(f: Fixture) {
    let mut only = f.consumer(1).await;
    f.publish(0..40).await;
    let mut seen = BTreeSet::new();
    for prefetch in [1_u32, 4, 2, 8, 1, 16, 3, 5] {
        only.set_prefetch(prefetch);
        let mut receipts = Vec::new();
        for _ in 0..prefetch {
            let delivery = take(&mut only).await;
            assert!(seen.insert(number(&delivery.doorbell)), "comes once");
            receipts.push(delivery.receipt);
        }
        assert!(is_silent(&mut only));
        for receipt in receipts {
            receipt.ack();
        }
    }
    assert_eq!(seen, (0..40).collect());
}

async fn an_acknowledgement_makes_room(f: Fixture) {
    let mut only = f.consumer(1).await;
    f.publish(0..20).await;
    for expected in 0..20 {
        let delivery = take(&mut only).await;
        assert_eq!(number(&delivery.doorbell), expected);
        assert!(is_silent(&mut only));
        delivery.receipt.ack();
    }
}

async fn consumers_share(f: Fixture) {
    let other = f.another().await;
    let mut first = f.consumer(5).await;
    let mut second = consumer(&other, 5).await;
    f.publish(0..10).await;
    let mut receipts = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        for consumer in [&mut first, &mut second] {
            let delivery = take(consumer).await;
            seen.insert(number(&delivery.doorbell));
            receipts.push(delivery.receipt);
        }
    }
    assert_eq!(seen, (0..10).collect());
}

async fn messages_keep_their_order(f: Fixture) {
    f.publish(0..50).await;
    f.publish(50..100).await;
    let mut only = f.consumer(10).await;
    for expected in 0..100 {
        assert_eq!(eat(&mut only).await, expected);
    }
}

async fn none_of_many_is_lost(f: Fixture) {
    const MESSAGES: i64 = 10_000;
    let other = f.another().await;
    let (found, mut finds) = tokio::sync::mpsc::channel(1000);
    let mut tasks = JoinSet::new();
    for queue in [&f.queue, &other] {
        let mut consumer = consumer(queue, 100).await;
        let found = found.clone();
        tasks.spawn(async move {
            while let Some(delivery) = consumer.next().await {
                delivery.receipt.ack();
                if found.send(number(&delivery.doorbell)).await.is_err() {
                    break;
                }
            }
        });
    }
    let queue = Arc::clone(&f.queue);
    tasks.spawn(async move {
        for first in (0..MESSAGES).step_by(500) {
            let batch: Vec<_> = (first..first + 500).map(doorbell).collect();
            assert_eq!(queue.publish(&batch).await, vec![true; 500]);
        }
    });
    let mut seen = BTreeSet::new();
    within("all messages", async {
        while seen.len() < usize::try_from(MESSAGES).expect("it fits") {
            seen.insert(finds.recv().await.expect("the consumers live"));
        }
    })
    .await;
    assert_eq!(seen, (0..MESSAGES).collect());
    tasks.shutdown().await;
}

async fn a_wait_that_is_given_up_loses_nothing(f: Fixture) {
    let mut only = f.consumer(10).await;
    let queue = Arc::clone(&f.queue);
    let publisher = tokio::spawn(async move {
        for n in 0..200 {
            assert_eq!(queue.publish(&[doorbell(n)]).await, [true]);
        }
    });
    let mut seen = Vec::new();
    within("all messages", async {
        while seen.len() < 200 {
            // The wait is dropped as soon as anything else is ready, which is always.
            tokio::select! {
                biased;
                delivery = only.next() => {
                    let delivery = delivery.expect("the queue is open");
                    seen.push(number(&delivery.doorbell));
                    delivery.receipt.ack();
                }
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    publisher.await.expect("the publisher ends");
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
}

async fn the_end_of_the_queue_ends_consumers(f: Fixture) {
    let mut waiting = f.consumer(1).await;
    let mut late = f.consumer(1).await;
    assert!(f.queue.is_up());
    let waiter = tokio::spawn(async move { waiting.next().await.is_none() });
    within("the end", f.queue.close()).await;
    assert!(within("the consumer's end", waiter).await.expect("ends"));
    assert!(late.next().await.is_none());
    assert_eq!(f.queue.publish(&[doorbell(1)]).await, [false]);
    assert!(!f.queue.is_up());
}

/// What is rung again while nobody has room for it takes no more room itself.
#[tokio::test]
async fn the_embedded_queue_says_nothing_twice_at_a_time() {
    let f = Fixture::embedded().await;
    let mut first = f.consumer(1).await;
    f.publish([1, 1, 2]).await;
    let delivery = take(&mut first).await;
    assert_eq!(number(&delivery.doorbell), 1);
    // What somebody is at may come to nothing: it is told again, though once only.
    f.publish([1, 1]).await;
    delivery.receipt.release();
    let mut left = Vec::new();
    for _ in 0..2 {
        left.push(eat(&mut first).await);
    }
    left.sort_unstable();
    assert_eq!(left, [1, 2]);
    assert!(is_silent(&mut first));
    f.publish([1]).await;
    assert_eq!(eat(&mut first).await, 1);
    // Another claim is another matter.
    let mut later = doorbell(1);
    later.lease.epoch += 1;
    let confirmed = f.queue.publish(&[doorbell(1), later.clone()]).await;
    assert_eq!(confirmed, [true, true]);
    assert_eq!(eat(&mut first).await, 1);
    assert_eq!(take(&mut first).await.doorbell, later);
}
