//! A thousand calls at once.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use domain::call::LeaseRef;
use hybrid_client::{CallPlane as _, LogChunk, RemoteCalls, Work, WorkSource as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::DEADLINE;
use super::node::{CallsNode, calls_of};
use super::script::Script;
use super::{RUNNER, answered, lease, leased_call, new_call};

const CALLS: usize = 1000;

/// One call from its start to its end.
async fn run(calls: Arc<RemoteCalls>, lease: LeaseRef) {
    calls.start(RUNNER, lease.clone()).await.expect("it holds");
    for offset in [0, 5] {
        let chunk = LogChunk {
            lease: lease.clone(),
            offset,
            data: Bytes::from_static(b"log\n\n"),
        };
        calls.append_logs(RUNNER, vec![chunk]).await.expect("kept");
    }
    let accepted = calls.finish(RUNNER, answered(lease, "output")).await;
    assert!(accepted.expect("known"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_go_their_way() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = Arc::new(calls_of(&[node.address]));
    let leases: HashSet<_> = (0..CALLS).map(|n| lease(&format!("c{n}"), 1)).collect();
    script.state().held.clone_from(&leases);

    let mut tasks = JoinSet::new();
    for lease in &leases {
        let (calls, id) = (Arc::clone(&calls), lease.call_id.to_string());
        tasks.spawn(async move { calls.enqueue(new_call(&id, id.clone())).await });
    }
    while let Some(accepted) = timeout(DEADLINE, tasks.join_next()).await.expect("in time") {
        // On a slow machine one may be handed in twice, which is seen to change nothing.
        accepted.expect("no panic").expect("accepted");
    }
    assert_eq!(script.state().accepted.len(), CALLS);

    let mut dequeue = calls.dequeue(RUNNER.into(), 1000).await.expect("open");
    let mut source = script.opened().await;
    let feeding = tokio::spawn(async move {
        let mut left = leases.into_iter();
        while let Some(credits) = source.granted().await {
            for _ in 0..credits {
                if let Some(lease) = left.next() {
                    source
                        .send(Work::Run(Box::new(leased_call(lease, "input"))))
                        .await;
                }
            }
        }
    });
    dequeue.credits.send(64).await.expect("open");
    let mut running = JoinSet::new();
    for _ in 0..CALLS {
        let work = timeout(DEADLINE, dequeue.work.recv())
            .await
            .expect("in time");
        let Some(Work::Run(call)) = work else {
            panic!("a call, not {work:?}");
        };
        running.spawn(run(Arc::clone(&calls), call.lease));
        dequeue.credits.send(1).await.expect("open");
    }
    while let Some(ran) = timeout(DEADLINE, running.join_next())
        .await
        .expect("in time")
    {
        ran.expect("it runs to its end");
    }
    drop(dequeue);
    feeding.await.expect("it ends with the dequeue");
    let state = script.state();
    assert_eq!((state.started.len(), state.finished.len()), (CALLS, CALLS));
    assert!(state.logs.values().all(|log| log == b"log\n\nlog\n\n"));
    assert_eq!(state.logs.len(), CALLS);
}
