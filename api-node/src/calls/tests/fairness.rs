//! A hog and a small tenant: what counts is how many calls of the hog go first.

use std::collections::VecDeque;

use futures_util::StreamExt as _;

use super::*;

contract!(a_small_tenant_is_not_behind_a_hog);

const HOG: usize = 10_000;
const SLOTS: u32 = 8;

async fn a_small_tenant_is_not_behind_a_hog(f: Fixture) {
    let node = Node::new(&f).await;
    let (hog, small) = (func(&f, "hog").await, func(&f, "small").await);
    let options = CallOptions {
        priority: Some(9),
        ..CallOptions::default()
    };
    let posts = (0..HOG).map(|_| node.enqueue(&hog, options.clone()));
    let accepted = futures_util::stream::iter(posts).buffer_unordered(256);
    assert_eq!(accepted.count().await, HOG);
    let mut runner = node.runner("runner", SLOTS, SLOTS).await;
    let mut running = VecDeque::new();
    // Of eight slots the hog gets six.
    for _ in 0..6 {
        running.push_back(runner.next().await);
    }
    let mut before = vec![];
    for _ in 0..10 {
        let id = node.enqueue(&small, CallOptions::default()).await;
        let mut hogs = 0;
        loop {
            let call = tokio::select! {
                biased;
                call = runner.next() => call,
                // Nothing comes by itself when all slots are taken or kept: a call ends.
                () = std::future::ready(()), if running.len() > 6 => {
                    let ended: LeasedCall = running.pop_front().expect("a call");
                    runner.run(&ended, answered(200, "")).await;
                    continue;
                }
            };
            let found = call.lease.call_id == id;
            hogs += usize::from(!found);
            running.push_back(call);
            if found {
                break;
            }
        }
        before.push(hogs);
    }
    // The slots that the hog left are found at once; later ones as calls end.
    assert!(before.iter().all(|hogs| *hogs <= 8), "{before:?}");
    // The hog goes on.
    for _ in 0..300 {
        let ended = running.pop_front().expect("a call");
        runner.run(&ended, answered(200, "")).await;
        running.push_back(runner.next().await);
    }
}
