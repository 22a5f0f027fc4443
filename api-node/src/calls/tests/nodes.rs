//! Several API nodes on one database, side by side.

use std::collections::HashSet;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_the_work_and_run_each_call_once() {
    const CALLS: usize = 400;
    let f = Fixture::postgres().await;
    let other = f.open_again().await.expect("a second store");
    let queue = Switched::new();
    let settings = CallsSettings::default();
    let nodes = [
        Node::on(&f.store, queue.clone(), settings.clone()).await,
        Node::on(&other, queue, settings).await,
    ];
    let func = func(&f, "a").await;
    let mut runs = vec![];
    let (done, _) = tokio::sync::broadcast::channel::<()>(1);
    for (number, node) in nodes.iter().enumerate() {
        for name in ["a", "b"] {
            let mut runner = node.runner(&format!("{name}{number}"), 8, 8).await;
            let mut done = done.subscribe();
            runs.push(tokio::spawn(async move {
                let mut came = vec![];
                loop {
                    tokio::select! {
                        call = runner.dequeue.work.recv() => {
                            let Some(Work::Run(call)) = call else {
                                unreachable!("the stream is open");
                            };
                            runner.run(&call, answered(200, "")).await;
                            came.push(call.lease);
                        }
                        _ = done.recv() => return came,
                    }
                }
            }));
        }
    }
    let mut ids = vec![];
    for batch in 0..CALLS / 20 {
        let node = &nodes[batch % 2];
        let posts = (0..20).map(|_| node.enqueue(&func, CallOptions::default()));
        ids.extend(futures_util::future::join_all(posts).await);
    }
    for id in &ids {
        until_over(&nodes[0], id, CallState::Success).await;
    }
    drop(done);
    let mut came: Vec<LeaseRef> = vec![];
    for run in runs {
        came.extend(run.await.expect("a run"));
    }
    assert!(came.iter().all(|lease| lease.epoch == 1), "none ran twice");
    let came: HashSet<_> = came.into_iter().map(|lease| lease.call_id).collect();
    assert_eq!(came, ids.into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_is_found_out_through_another_node() {
    let f = Fixture::postgres().await;
    let other = f.open_again().await.expect("a second store");
    let queue = Switched::new();
    let settings = CallsSettings::default();
    let first = Node::on(&f.store, queue.clone(), settings.clone()).await;
    let second = Node::on(&other, queue, settings).await;
    let func = func(&f, "a").await;
    let mut runner = first.runner("runner", 1, 1).await;
    let id = first.enqueue(&func, CallOptions::default()).await;
    let call = runner.next().await;
    second.calls.cancel(&id).await.expect("cancelled");
    let renewed = first.calls.renew("runner", vec![call.lease.clone()]).await;
    assert!(renewed.expect("an answer").0.is_empty());
    refused(runner.start(&call).await, ErrorCode::CallLeaseLost);
}
