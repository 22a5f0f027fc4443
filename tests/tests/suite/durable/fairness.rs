//! Fairness: a function with many calls does not keep those of others waiting.

use serde_json::json;

use super::{all_over, cluster_with, count, deploy, hand_in_many};

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_calls_of_one_function_keep_no_other_one_from_starting() {
    // Ten containers.
    let cluster = cluster_with(&[("FN_MAX_TOTAL_MEMORY_BYTES", "700000000")]).await;
    let hog = deploy(&cluster, "hog", json!({ "sleepTime": 500 })).await;
    let other = deploy(&cluster, "other", json!({})).await;
    // Far more than the runner has room for, and more than are published at a time.
    hand_in_many(&cluster, &hog, 1_000, &[]).await;
    hand_in_many(&cluster, &other, 20, &[]).await;
    all_over(&cluster, &other).await;
    let waiting = count(&cluster, &hog, "'queued', 'running'");
    assert!(
        waiting > 500,
        "only {waiting} calls of the other one were left"
    );
}
