//! API nodes that are gone, that hang, that are older, and that know nothing of calls.

use domain::ErrorCode;
use hybrid_client::{CallPlane as _, Work, WorkSource as _};

use super::super::node::{Node, sqlite};
use super::node::{CallsNode, calls_of, calls_with, hasty};
use super::script::Script;
use super::{RUNNER, answered, lease, leased_call, new_call};

#[tokio::test(flavor = "multi_thread")]
async fn the_next_node_takes_over_from_a_killed_one() {
    let (first, second) = (Script::new(), Script::new());
    let mut a = CallsNode::start(&first).await;
    let b = CallsNode::start(&second).await;
    let calls = calls_of(&[a.address, b.address]);
    second.state().held.insert(lease("c", 1));
    calls.enqueue(new_call("1", "")).await.expect("accepted");
    a.kill();
    for n in 2..20 {
        let call = new_call(&n.to_string(), "x".repeat(100_000));
        calls.enqueue(call).await.expect("accepted");
        calls.start(RUNNER, lease("c", 1)).await.expect("it holds");
        let accepted = calls.finish(RUNNER, answered(lease("c", 1), "")).await;
        assert!(accepted.expect("known"));
    }
    assert_eq!(first.state().accepted.len(), 1);
    assert_eq!(second.state().accepted.len(), 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_was_lost_is_handed_in_again_as_the_same() {
    let (first, second) = (Script::new(), Script::new());
    let a = CallsNode::start(&first).await;
    let b = CallsNode::start(&second).await;
    let calls = calls_with(&[a.address, b.address], hasty());
    first.state().mute = true;
    let call = new_call("c", "input");
    let accepted = calls.enqueue(call.clone()).await.expect("accepted");
    assert_eq!(accepted.id, call.id);
    // Both nodes have seen one and the same call.
    for script in [first, second] {
        assert_eq!(script.state().accepted[&call.id], call);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_a_database_are_left() {
    let (first, second) = (Script::new(), Script::new());
    let a = CallsNode::start(&first).await;
    let b = CallsNode::start(&second).await;
    let calls = calls_of(&[a.address, b.address]);
    first.state().error = Some(ErrorCode::StoreUnavailable.into());
    calls.enqueue(new_call("c", "")).await.expect("accepted");
    assert_eq!(second.state().accepted.len(), 1);
    second.state().error = Some(ErrorCode::ServerBusy.into());
    first.state().error = Some(ErrorCode::ServerBusy.into());
    let refused = calls.enqueue(new_call("d", "")).await;
    assert_eq!(refused.expect_err("busy").code(), ErrorCode::ServerBusy);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_node_is_passed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let older = Node::start(&sqlite(directory.path())).await;
    let script = Script::new();
    let newer = CallsNode::start(&script).await;
    let calls = calls_of(&[older.address, newer.address]);
    calls.enqueue(new_call("c", "")).await.expect("accepted");

    let calls = calls_of(&[older.address, older.address]);
    let refused = calls.enqueue(new_call("d", "")).await;
    let refused = refused.expect_err("nobody knows calls");
    assert_eq!(refused.code(), ErrorCode::StoreUnavailable);
    let why = refused.internal_detail().expect("a reason").to_owned();
    assert!(why.contains("older than this node"), "{why}");
    let opened = calls.dequeue(RUNNER.into(), 1).await;
    let opened = opened.expect_err("nobody knows calls");
    assert_eq!(opened.internal_detail(), Some(&*why));
}

/// The ends of calls are told to the node that is asked: one that has sent the calls and does not hear of
/// their ends would leave room beside what it takes for running.
#[tokio::test(flavor = "multi_thread")]
async fn a_dequeue_follows_to_the_node_that_is_asked_and_loses_nothing() {
    let (first, second) = (Script::new(), Script::new());
    let a = CallsNode::start(&first).await;
    let b = CallsNode::start(&second).await;
    let calls = calls_of(&[a.address, b.address]);
    let mut dequeue = calls.dequeue(RUNNER.into(), 4).await.expect("a stream");
    let mut source = first.opened().await;
    first.state().error = Some(ErrorCode::StoreUnavailable.into());
    calls.enqueue(new_call("c", "")).await.expect("accepted");
    assert_eq!(second.state().accepted.len(), 1);
    // No more credits come, and what was about to be sent arrives.
    assert_eq!(source.granted().await, None);
    let call = leased_call(lease("d", 1), "input");
    source.send(Work::Run(Box::new(call.clone()))).await;
    drop(source);
    assert_eq!(dequeue.work.recv().await, Some(Work::Run(Box::new(call))));
    assert_eq!(dequeue.work.recv().await, None);
    let _again = calls.dequeue(RUNNER.into(), 4).await.expect("a stream");
    second.opened().await;
}
