//! Large inputs and outputs.

use bytes::Bytes;
use domain::ErrorCode;
use domain::call::AttemptOutcome;
use domain::call::new_call::DEFAULT_MAX_BODY;
use futures_util::future::join_all;
use hybrid_client::{CallPlane as _, RemoteCallsSettings, Work, WorkSource as _};
use tokio::time::timeout;

use super::super::DEADLINE;
use super::node::{CallsNode, calls_of, calls_with};
use super::script::Script;
use super::{RUNNER, answered, lease, leased_call, new_call};

fn body(length: usize) -> Bytes {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_ones_pass_both_ways() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let largest = body(DEFAULT_MAX_BODY);
    // More at once than may be under way.
    let handing_in = (0..16).map(|n| calls.enqueue(new_call(&n.to_string(), largest.clone())));
    for accepted in join_all(handing_in).await {
        accepted.expect("accepted");
    }
    for call in script.state().accepted.values() {
        assert!(call.body == largest);
    }

    let mut dequeue = calls.dequeue(RUNNER.into(), 1).await.expect("open");
    let mut source = script.opened().await;
    dequeue.credits.send(1).await.expect("open");
    assert_eq!(source.granted().await, Some(1));
    let call = leased_call(lease("c", 1), largest.clone());
    source.send(Work::Run(Box::new(call.clone()))).await;
    let work = timeout(DEADLINE, dequeue.work.recv())
        .await
        .expect("in time");
    assert!(work == Some(Work::Run(Box::new(call))));

    let end = answered(lease("c", 1), largest);
    calls.finish(RUNNER, end.clone()).await.expect("known");
    let (_, finished) = script.state().finished.pop().expect("one");
    assert!(finished == end);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_is_refused_or_cut() {
    let script = Script::new();
    let node = CallsNode::start_with(&script, 100).await;
    let settings = RemoteCallsSettings {
        max_body: 100,
        ..RemoteCallsSettings::default()
    };
    let calls = calls_with(&[node.address], settings);
    calls
        .enqueue(new_call("a", body(100)))
        .await
        .expect("small enough");
    let refused = calls.enqueue(new_call("b", body(101))).await;
    let refused = refused.expect_err("too large");
    assert_eq!(refused.code(), ErrorCode::RequestTooLarge);

    // An output that cannot be handed in would have the call run again for ever.
    let end = answered(lease("c", 1), body(101));
    calls.finish(RUNNER, end).await.expect("known");
    let (_, end) = script.state().finished.pop().expect("one");
    let AttemptOutcome::Answered { result, .. } = end.outcome else {
        panic!("an answer");
    };
    assert_eq!((result.body, result.truncated), (body(100), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_node_that_takes_less_says_so() {
    let script = Script::new();
    let node = CallsNode::start_with(&script, 100).await;
    let calls = calls_of(&[node.address]);
    // One that the service looks at, and one that it does not even read.
    for length in [101, DEFAULT_MAX_BODY] {
        let refused = calls.enqueue(new_call("c", body(length))).await;
        let refused = refused.expect_err("too large");
        assert_eq!(refused.code(), ErrorCode::RequestTooLarge, "{length}");
    }
    assert_eq!(script.state().enqueued, 0);
}
