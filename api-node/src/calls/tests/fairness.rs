//! A hog and a small tenant: what counts is how many calls of the hog go first.

use std::collections::VecDeque;

use futures_util::StreamExt as _;

use super::*;

contract!(
    a_small_tenant_is_not_behind_a_hog,
    many_hogs_do_not_hide_who_comes_behind_them,
);

const HOG: usize = 10_000;
const SLOTS: u32 = 8;
/// Of so many functions one look reads all that is read of each, and nothing else.
const HOGS: usize = 140;

async fn a_small_tenant_is_not_behind_a_hog(f: Fixture) {
    // Nothing renews leases here.
    let settings = CallsSettings {
        lease: Duration::from_secs(3600),
        ..CallsSettings::default()
    };
    let node = Node::with(&f, settings).await;
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
    // The two that it left are found by each call of the other one, whatever waits before it.
    for burst in [1, 1, 10] {
        let posts = (0..burst).map(|_| node.enqueue(&small, CallOptions::default()));
        let ids = futures_util::future::join_all(posts).await;
        for _ in ids {
            let call = runner.next().await;
            assert_eq!(call.snapshot.func.id, small.id);
            runner.run(&call, answered(200, "")).await;
        }
        // And the hog goes on.
        for _ in 0..150 {
            let ended = running.pop_front().expect("a call");
            runner.run(&ended, answered(200, "")).await;
            let call = runner.next().await;
            assert_eq!(call.snapshot.func.id, hog.id);
            running.push_back(call);
        }
    }
}

async fn many_hogs_do_not_hide_who_comes_behind_them(f: Fixture) {
    let settings = CallsSettings {
        window: 1,
        ..CallsSettings::default()
    };
    let node = Node::with(&f, settings).await;
    let app = f.app("a").await;
    let mut hogs = vec![];
    for number in 0..HOGS {
        hogs.push(f.func(&app, &format!("hog{number}")).await);
    }
    let small = f.func(&app, "small").await;
    // No runner takes anything: of each hog one call is rung, and the others are kept back.
    let posts = hogs
        .iter()
        .flat_map(|hog| (0..10).map(|_| node.enqueue(hog, CallOptions::default())));
    let accepted = futures_util::stream::iter(posts).buffer_unordered(256);
    assert_eq!(accepted.count().await, 10 * HOGS);
    let delayed = CallOptions {
        delay_seconds: Some(1),
        ..CallOptions::default()
    };
    node.enqueue(&small, delayed).await;
    until("the small one is rung for", || async {
        let rung = node.calls.store().rung_calls(vec![small.id.clone()]).await;
        rung.expect("an answer").get(&small.id) == Some(&1)
    })
    .await;
}
