//! Dequeues: what goes through them, and how they end.

use std::sync::Arc;

use domain::ErrorCode;
use domain::call::AttemptOutcome;
use hybrid_client::{Dequeue, Work, WorkSource as _};
use tokio::time::timeout;

use super::super::{DEADLINE, until};
use super::node::{CallsNode, calls_of};
use super::script::{Script, Source, WORK};
use super::{RUNNER, lease, leased_call};

async fn next(dequeue: &mut Dequeue) -> Option<Work> {
    timeout(DEADLINE, dequeue.work.recv())
        .await
        .expect("in time")
}

fn call(id: &str) -> Work {
    Work::Run(Box::new(leased_call(lease(id, 1), "input")))
}

async fn open(script: &Script, calls: &impl hybrid_client::WorkSource) -> (Dequeue, Source) {
    let dequeue = calls.dequeue(RUNNER.into(), 7).await.expect("open");
    let source = script.opened().await;
    assert_eq!((&*source.runner_id, source.capacity), (RUNNER, 7));
    (dequeue, source)
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_go_in_and_work_comes_out() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let (mut dequeue, mut source) = open(&script, &calls).await;
    let mut granted = 0;
    for credits in [1, 2, 30] {
        dequeue.credits.send(credits).await.expect("open");
    }
    while granted < 33 {
        granted += source.granted().await.expect("open");
    }
    assert_eq!(granted, 33);
    let work = [call("a"), Work::Cancelled(lease("a", 1)), call("b")];
    for some in &work {
        source.send(some.clone()).await;
    }
    for some in work {
        assert_eq!(next(&mut dequeue).await, Some(some));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_the_runner_has_enough() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let (dequeue, mut source) = open(&script, &calls).await;
    drop(dequeue);
    assert_eq!(source.granted().await, None);
    timeout(DEADLINE, source.work.closed())
        .await
        .expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_grants_no_more_gets_what_was_claimed() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let (mut dequeue, mut source) = open(&script, &calls).await;
    let (nothing, _) = tokio::sync::mpsc::channel(1);
    drop(std::mem::replace(&mut dequeue.credits, nothing));
    assert_eq!(source.granted().await, None);
    source.send(call("a")).await;
    drop(source);
    assert_eq!(next(&mut dequeue).await, Some(call("a")));
    assert_eq!(next(&mut dequeue).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_the_node_is_killed_and_the_next_one_is_elsewhere() {
    let (first, second) = (Script::new(), Script::new());
    let mut a = CallsNode::start(&first).await;
    let b = CallsNode::start(&second).await;
    let calls = calls_of(&[a.address, b.address]);
    let (mut dequeue, _source) = open(&first, &calls).await;
    a.kill();
    assert_eq!(next(&mut dequeue).await, None);
    timeout(DEADLINE, dequeue.credits.closed())
        .await
        .expect("they are gone");
    let (mut dequeue, source) = open(&second, &calls).await;
    source.send(call("a")).await;
    assert_eq!(next(&mut dequeue).await, Some(call("a")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_hands_out_what_was_claimed() {
    let (first, second) = (Script::new(), Script::new());
    let a = CallsNode::start(&first).await;
    let b = CallsNode::start(&second).await;
    let calls = calls_of(&[a.address, b.address]);
    let (mut dequeue, mut source) = open(&first, &calls).await;
    a.stop();
    assert_eq!(source.granted().await, None);
    source.send(call("a")).await;
    drop(source);
    assert_eq!(next(&mut dequeue).await, Some(call("a")));
    assert_eq!(next(&mut dequeue).await, None);
    open(&second, &calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_does_not_wait_for_ever() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let (mut dequeue, mut source) = open(&script, &calls).await;
    node.stop();
    assert_eq!(source.granted().await, None);
    // The source goes on, and is left.
    assert_eq!(next(&mut dequeue).await, None);
    timeout(DEADLINE, source.work.closed())
        .await
        .expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_there_is_no_more_work() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let (mut dequeue, source) = open(&script, &calls).await;
    drop(source);
    assert_eq!(next(&mut dequeue).await, None);
    timeout(DEADLINE, dequeue.credits.closed())
        .await
        .expect("they are gone");
}

/// A runner that takes nothing holds up its own work, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_runner_is_waited_for_and_what_it_did_not_get_is_given_back() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let (dequeue, source) = open(&script, &calls).await;
    dequeue.credits.send(1000).await.expect("open");
    let large = "x".repeat(100_000);
    let mut claimed = 0;
    // Until nothing has gone through for as long as a whole other dequeue takes.
    loop {
        let lease = lease(&claimed.to_string(), 1);
        let work = Work::Run(Box::new(leased_call(lease, large.clone())));
        match source.work.try_send(work) {
            Ok(()) => claimed += 1,
            Err(_) => {
                let before = source.work.capacity();
                let (mut other, feeding) = open(&script, &calls).await;
                feeding.send(call("other")).await;
                assert_eq!(next(&mut other).await, Some(call("other")));
                if before == 0 && source.work.capacity() == 0 {
                    break;
                }
            }
        }
        assert!(claimed < 900, "there is a bound");
    }
    // The runner dies: what never left comes back.
    drop(dequeue);
    let script = Arc::clone(&script);
    until("all that waited is given back", async || {
        script.state().finished.len() == WORK
    })
    .await;
    for (runner, end) in &script.state().finished {
        assert_eq!(
            (&**runner, &end.outcome),
            (RUNNER, &AttemptOutcome::Returned)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_node_is_there_none_is_opened() {
    let script = Script::new();
    let mut node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    node.kill();
    let opened = calls.dequeue(RUNNER.into(), 1).await;
    assert_eq!(
        opened.expect_err("nobody is there").code(),
        ErrorCode::StoreUnavailable
    );
}
