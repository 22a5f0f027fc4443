//! What goes wrong: runners that are lost, streams that break, a broker and a database that are away,
//! clients that hang up.

use domain::call::AttemptState;

use super::*;
use crate::store::tests::postgres::Cluster;

contract!(
    a_lease_that_is_not_renewed_is_lost_and_one_that_is_holds,
    what_a_broken_stream_had_not_delivered_is_given_back_at_once,
    a_broker_that_is_away_loses_nothing,
    what_a_broker_has_lost_is_rung_for_again,
    what_waits_survives_the_node_and_its_queue,
    a_client_that_hangs_up_loses_no_call_that_was_accepted,
    a_call_that_expires_is_given_up,
);

async fn a_lease_that_is_not_renewed_is_lost_and_one_that_is_holds(f: Fixture) {
    let settings = CallsSettings {
        lease: Duration::from_secs(1),
        ..CallsSettings::default()
    };
    let node = Node::with(&f, settings).await;
    let func = func(&f, "a").await;
    let mut lost = node.runner("lost", 1, 1).await;
    node.enqueue(&func, CallOptions::default()).await;
    let first = lost.next().await;
    let mut alive = node.runner("alive", 2, 1).await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    let kept = alive.next().await;
    assert_eq!(kept.lease.call_id, id);
    alive.start(&kept).await.expect("the lease holds");
    alive.grant(1).await;
    // While one renews, the other one's lease runs out, and its call comes to the first.
    let again = loop {
        tokio::select! {
            again = alive.next() => break again,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                let renewed = node.calls.renew("alive", vec![kept.lease.clone()]).await;
                let (held, _) = renewed.expect("an answer");
                assert_eq!(held, std::slice::from_ref(&kept.lease));
            }
        }
    };
    assert_eq!(again.lease.call_id, first.lease.call_id);
    assert_eq!((again.lease.epoch, again.attempt), (2, 1));
    refused(lost.start(&first).await, ErrorCode::CallLeaseLost);
    assert!(!lost.finish(&first, answered(200, "late")).await);
    alive.run(&again, answered(200, "")).await;
    assert_eq!(node.metrics.lease_losses.get(), 1);
    assert!(alive.finish(&kept, answered(200, "")).await);
}

async fn what_a_broken_stream_had_not_delivered_is_given_back_at_once(f: Fixture) {
    let settings = CallsSettings {
        lease: Duration::from_secs(3600),
        ..CallsSettings::default()
    };
    let node = Node::with(&f, settings).await;
    let func = func(&f, "a").await;
    let broken = node.runner("broken", 8, 4).await;
    let mut ids = vec![];
    for _ in 0..4 {
        ids.push(node.enqueue(&func, CallOptions::default()).await);
    }
    for id in &ids {
        until_over(&node, id, CallState::Running).await;
    }
    drop(broken);
    let mut runner = node.runner("whole", 8, 4).await;
    // One was on its way, and is left to its lease.
    for _ in 0..3 {
        let call = runner.next().await;
        let attempts = node.calls.store().call_attempts(&call.lease.call_id).await;
        assert_eq!(attempts.expect("kept")[0].status, AttemptState::Returned);
        runner.run(&call, answered(200, "")).await;
    }
    assert_eq!(node.metrics.given_back.get(), 3);
}

async fn a_broker_that_is_away_loses_nothing(f: Fixture) {
    let queue = Switched::new();
    let node = Node::on(&f.store, queue.clone(), CallsSettings::default()).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 100, 100).await;
    queue.switch(false);
    let mut ids = vec![];
    for _ in 0..20 {
        ids.push(node.enqueue(&func, CallOptions::default()).await);
    }
    queue.switch(true);
    let mut came = vec![];
    for _ in 0..20 {
        came.push(runner.next().await.lease.call_id);
    }
    came.sort();
    ids.sort();
    assert_eq!(came, ids);
}

async fn what_a_broker_has_lost_is_rung_for_again(f: Fixture) {
    let queue = Switched::new();
    // Silence would tell of it much later.
    let settings = CallsSettings {
        silence: Duration::from_secs(3600),
        ..CallsSettings::default()
    };
    let node = Node::on(&f.store, queue.clone(), settings).await;
    let func = func(&f, "a").await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    until("the doorbell is confirmed", || async {
        let next = node.calls.store().next_doorbell().await;
        next.expect("an answer").is_none()
    })
    .await;
    queue.lose_a_message().await;
    let mut runner = node.runner("runner", 1, 1).await;
    assert_eq!(runner.next().await.lease.call_id, id);
}

async fn what_waits_survives_the_node_and_its_queue(f: Fixture) {
    let first = Node::new(&f).await;
    let func = func(&f, "a").await;
    let id = first.enqueue(&func, CallOptions::default()).await;
    // The queue has it: nothing is due in the store.
    until("the doorbell is confirmed", || async {
        let next = first.calls.store().next_doorbell().await;
        next.expect("an answer").is_none()
    })
    .await;
    first.calls.close().await;
    let second = Node::new(&f).await;
    let mut runner = second.runner("runner", 1, 1).await;
    assert_eq!(runner.next().await.lease.call_id, id);
}

async fn a_client_that_hangs_up_loses_no_call_that_was_accepted(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let mut ids = vec![];
    for polls in 0..40 {
        let call = new_call(&func, CallOptions::default());
        ids.push(call.id.clone());
        let mut enqueue = Box::pin(node.calls.enqueue(call));
        for _ in 0..polls {
            let polled = futures_util::poll!(&mut enqueue);
            if polled.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // Those that come behind are accepted last.
    let last = node.enqueue(&func, CallOptions::default()).await;
    let mut runner = node.runner("runner", 100, 100).await;
    let mut came = vec![];
    while !came.contains(&last) {
        came.push(runner.next().await.lease.call_id);
    }
    for id in ids {
        match node.calls.store().call(&id).await {
            Ok(_) => until_over(&node, &id, CallState::Running).await,
            Err(error) => assert_eq!(error.code(), ErrorCode::CallNotFound),
        }
    }
}

async fn a_call_that_expires_is_given_up(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let options = CallOptions {
        expiry_seconds: Some(1),
        ..CallOptions::default()
    };
    let id = node.enqueue(&func, options).await;
    until_over(&node, &id, CallState::Dead).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_reported_and_used_again() {
    /// The promise of the service.
    const UNAVAILABLE_WITHIN: Duration = Duration::from_secs(2);
    let cluster = Cluster::start();
    let f = Fixture::on(cluster.create_database(), None).await;
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let before = node.enqueue(&func, CallOptions::default()).await;
    cluster.freeze();
    let away = || new_call(&func, CallOptions::default());
    let posts = (0..20).map(|_| timeout(UNAVAILABLE_WITHIN, node.calls.enqueue(away())));
    for answer in futures_util::future::join_all(posts).await {
        let answer = answer.expect("an answer in time");
        refused(answer, ErrorCode::StoreUnavailable);
    }
    // A runner that comes meanwhile gets its call when the database is back.
    let mut runner = node.runner("runner", 100, 100).await;
    cluster.thaw();
    let mut came = vec![runner.next().await];
    while came.iter().all(|call| call.lease.call_id != before) {
        came.push(runner.next().await);
    }
    let after = loop {
        // Connections that were cut may still be found out.
        match node.calls.enqueue(away()).await {
            Ok(accepted) => break accepted.id,
            Err(error) => assert_eq!(error.code(), ErrorCode::StoreUnavailable),
        }
    };
    while came.iter().all(|call| call.lease.call_id != after) {
        came.push(runner.next().await);
    }
    for call in &came {
        runner.run(call, answered(200, "")).await;
    }
}
