//! Idempotency keys: one key, one call.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::{accepted, all_over, begun, cluster, count, deploy, hand_in, ledger};

const KEY: (&str, &str) = ("Idempotency-Key", "order 4711");

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_concurrent_posts_with_one_key_make_one_call() {
    let cluster = cluster().await;
    let ledger = ledger().await;
    let function = deploy(&cluster, "keys", json!({ "ledger": ledger.address() })).await;
    let mut posts = JoinSet::new();
    for number in 0..1_000 {
        let (lb, path) = (cluster.lb(number % 2), function.path.clone());
        posts.spawn(async move {
            // Whoever is told that it is not known whether the call was accepted asks again: that is what
            // the key is for.
            let until = Instant::now() + Duration::from_secs(60);
            let answer = loop {
                let answer = hand_in(&lb, &path, &[KEY], "the order").await;
                if answer.status != 503 || Instant::now() > until {
                    break answer;
                }
            };
            let replayed = answer.header("Idempotent-Replayed").is_some();
            (accepted(answer), replayed)
        });
    }
    let answers = posts.join_all().await;
    let id = answers[0].0.clone();
    assert!(answers.iter().all(|(other, _)| *other == id));
    // Nobody hears that it was the first if that answer was lost.
    let first = answers.iter().filter(|(_, replayed)| !replayed);
    assert!(first.count() <= 1);

    all_over(&cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'success'"), 1);
    assert_eq!(begun(&ledger), [(id.clone(), 1)].into());
    let later = hand_in(&cluster.lb(0), &function.path, &[KEY], "the order").await;
    assert_eq!(later.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(accepted(later), id);
    hand_in(&cluster.lb(1), &function.path, &[KEY], "another order")
        .await
        .expect(422);
}
