//! The short way from acceptance to a runner of the same node, without the queue.

use super::*;

contract!(
    a_runner_with_room_gets_a_call_without_the_broker,
    what_finds_no_room_goes_through_the_queue,
    without_the_short_way_every_call_goes_through_the_queue,
);

async fn on_switched(f: &Fixture, direct: bool) -> (Node, Arc<Switched>) {
    let queue = Switched::new();
    let settings = CallsSettings {
        direct,
        ..CallsSettings::default()
    };
    let node = Node::on(&f.store, Arc::clone(&queue) as Arc<dyn Queue>, settings).await;
    (node, queue)
}

/// A runner that has run a call, so that the dispatcher is known to be at work.
async fn runner_at_work(node: &Node, func: &Func) -> Runner {
    let mut runner = node.runner("runner", 1, 1).await;
    node.enqueue(func, CallOptions::default()).await;
    let first = runner.next().await;
    runner.run(&first, answered(200, "")).await;
    until("the slot is free", || async {
        node.calls.0.dispatcher.credits() == 1
    })
    .await;
    runner
}

async fn a_runner_with_room_gets_a_call_without_the_broker(f: Fixture) {
    let (node, queue) = on_switched(&f, true).await;
    let func = func(&f, "a").await;
    let mut runner = runner_at_work(&node, &func).await;
    queue.switch(false);
    let id = node.enqueue(&func, CallOptions::default()).await;
    let call = runner.next().await;
    assert_eq!(call.lease.call_id, id);
    runner.run(&call, answered(200, "")).await;
    until_over(&node, &id, CallState::Success).await;
}

async fn what_finds_no_room_goes_through_the_queue(f: Fixture) {
    let (node, queue) = on_switched(&f, true).await;
    let func = func(&f, "a").await;
    let mut runner = runner_at_work(&node, &func).await;
    queue.switch(false);
    let first = node.enqueue(&func, CallOptions::default()).await;
    let second = node.enqueue(&func, CallOptions::default()).await;
    let call = runner.next().await;
    assert_eq!(call.lease.call_id, first);
    // There is a slot for it now, and nothing that would tell of it.
    runner.run(&call, answered(200, "")).await;
    assert_eq!(node.record(&second).await.status, CallState::Queued);
    queue.switch(true);
    let call = runner.next().await;
    assert_eq!(call.lease.call_id, second);
    runner.run(&call, answered(200, "")).await;
}

async fn without_the_short_way_every_call_goes_through_the_queue(f: Fixture) {
    let (node, queue) = on_switched(&f, false).await;
    let func = func(&f, "a").await;
    let mut runner = runner_at_work(&node, &func).await;
    queue.switch(false);
    let id = node.enqueue(&func, CallOptions::default()).await;
    assert_eq!(node.record(&id).await.status, CallState::Queued);
    queue.switch(true);
    assert_eq!(runner.next().await.lease.call_id, id);
}
