//! The life of a call, from its acceptance to its end.

use domain::call::AttemptState;

use super::*;

contract!(
    a_call_is_accepted_run_and_over,
    a_failed_attempt_is_made_again_and_says_which_it_is,
    the_only_attempt_that_fails_is_the_end,
    a_delayed_call_waits_for_its_time,
    one_key_is_one_call,
    what_is_wrong_with_a_call_is_said,
    a_cancelled_call_is_not_run,
    a_running_call_is_stopped_and_its_end_does_not_count,
    a_dead_call_is_redriven_once_and_purged,
    a_deleted_function_is_not_run,
    a_large_answer_is_cut,
    a_runner_writes_to_logs_of_calls_that_it_had,
);

async fn a_call_is_accepted_run_and_over(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 4, 4).await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    assert!(!node.record(&id).await.status.is_final());
    let call = runner.next().await;
    assert_eq!((&call.lease.call_id, call.attempt), (&id, 1));
    assert_eq!(call.snapshot.func.id, func.id);
    assert_eq!(&call.body[..], b"input");
    runner.run(&call, answered(200, "output")).await;
    let record = node.record(&id).await;
    assert_eq!(record.status, CallState::Success);
    let result = node.calls.store().call_result(&id).await.expect("kept");
    assert_eq!(&result.body[..], b"output");
    assert_eq!(node.metrics.accepted.get(), 1);
    assert_eq!(node.metrics.started.get(), 1);
    // To say it again changes nothing.
    assert!(!runner.finish(&call, answered(500, "late")).await);
    assert_eq!(node.metrics.stale_ends.get(), 1);
    assert_eq!(node.record(&id).await, record);
    timeout(SOON, node.calls.close()).await.expect("it ends");
    assert_eq!(runner.dequeue.work.recv().await, None);
    refused(
        node.calls
            .enqueue(new_call(&func, CallOptions::default()))
            .await,
        ErrorCode::ServerBusy,
    );
}

async fn a_failed_attempt_is_made_again_and_says_which_it_is(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 4, 4).await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    let first = runner.next().await;
    runner.run(&first, answered(500, "no")).await;
    assert_eq!(node.record(&id).await.status, CallState::Queued);
    let second = runner.next().await;
    assert_eq!((second.attempt, second.lease.epoch), (2, 2));
    // The platform's own fault uses up no attempt.
    runner.run(&second, failed(Fault::Platform)).await;
    let third = runner.next().await;
    assert_eq!((third.attempt, third.lease.epoch), (2, 3));
    runner.run(&third, answered(200, "yes")).await;
    assert_eq!(node.record(&id).await.status, CallState::Success);
    let attempts = node.calls.store().call_attempts(&id).await.expect("kept");
    let states: Vec<_> = attempts.iter().map(|attempt| attempt.status).collect();
    assert_eq!(
        states,
        [
            AttemptState::Error,
            AttemptState::Error,
            AttemptState::Success
        ]
    );
}

async fn the_only_attempt_that_fails_is_the_end(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 4, 4).await;
    let options = CallOptions {
        max_attempts: Some(1),
        ..CallOptions::default()
    };
    for (fault, state) in [
        (Fault::Function, CallState::Error),
        (Fault::Timeout, CallState::Timeout),
        (Fault::Permanent, CallState::Dead),
    ] {
        let id = node.enqueue(&func, options.clone()).await;
        let call = runner.next().await;
        runner.run(&call, failed(fault)).await;
        assert_eq!(node.record(&id).await.status, state);
    }
}

async fn a_delayed_call_waits_for_its_time(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 4, 4).await;
    let options = CallOptions {
        delay_seconds: Some(1),
        ..CallOptions::default()
    };
    let late = node.enqueue(&func, options).await;
    assert_eq!(node.record(&late).await.status, CallState::Delayed);
    let early = node.enqueue(&func, CallOptions::default()).await;
    assert_eq!(runner.next().await.lease.call_id, early);
    let call = runner.next().await;
    assert_eq!(call.lease.call_id, late);
    let record = node.record(&late).await;
    let attempts = node.calls.store().call_attempts(&late).await.expect("kept");
    assert!(attempts[0].claimed_at >= record.due_at);
}

async fn one_key_is_one_call(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let options = CallOptions {
        idempotency_key: Some("key".to_owned()),
        ..CallOptions::default()
    };
    let posts = (0..50).map(|_| node.calls.enqueue(new_call(&func, options.clone())));
    let accepted = futures_util::future::join_all(posts).await;
    let accepted: Vec<_> = accepted
        .into_iter()
        .map(|one| one.expect("accepted"))
        .collect();
    assert!(accepted.iter().all(|one| one.id == accepted[0].id));
    assert_eq!(accepted.iter().filter(|one| !one.replayed).count(), 1);
    assert_eq!(node.metrics.accepted.get(), 1);
    let other = NewCall {
        body: Bytes::from_static(b"other"),
        ..new_call(&func, options)
    };
    refused(
        node.calls.enqueue(other).await,
        ErrorCode::IdempotencyKeyReused,
    );
}

async fn what_is_wrong_with_a_call_is_said(f: Fixture) {
    let settings = CallsSettings {
        max_body: 10,
        ..CallsSettings::default()
    };
    let node = Node::with(&f, settings).await;
    let func = func(&f, "a").await;
    let good = || new_call(&func, CallOptions::default());
    let enqueue = |call| node.calls.enqueue(call);
    let mut unknown = good();
    unknown.fn_id = "unknown".into();
    refused(enqueue(unknown).await, ErrorCode::FnNotFound);
    let mut large = good();
    large.body = Bytes::from_static(b"12345678901");
    refused(enqueue(large).await, ErrorCode::RequestTooLarge);
    let mut headers = good();
    headers.headers.push("x-long", &[b'a'; 65 << 10]);
    refused(enqueue(headers).await, ErrorCode::RequestTooLarge);
    let mut options = good();
    options.options.priority = Some(10);
    refused(enqueue(options).await, ErrorCode::InvalidCallOption);
    let mut id = good();
    id.id = "".into();
    refused(enqueue(id).await, ErrorCode::InvalidCallOption);
    enqueue(good()).await.expect("accepted");
    // What was just deleted is known to be gone.
    node.calls
        .store()
        .delete_fn(&func.id)
        .await
        .expect("deleted");
    refused(enqueue(good()).await, ErrorCode::FnNotFound);
}

async fn a_cancelled_call_is_not_run(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let cancelled = node.enqueue(&func, CallOptions::default()).await;
    let record = node.calls.cancel(&cancelled).await.expect("cancelled");
    assert_eq!(record.status, CallState::Cancelled);
    assert_eq!(node.calls.cancel(&cancelled).await.expect("again"), record);
    let kept = node.enqueue(&func, CallOptions::default()).await;
    let mut runner = node.runner("runner", 1, 1).await;
    let call = runner.next().await;
    assert_eq!(call.lease.call_id, kept);
    runner.run(&call, answered(200, "")).await;
    assert_eq!(node.record(&cancelled).await, record);
    refused(
        node.calls.cancel(&kept).await,
        ErrorCode::CallNotCancellable,
    );
    refused(
        node.calls.cancel(&"none".into()).await,
        ErrorCode::CallNotFound,
    );
}

async fn a_running_call_is_stopped_and_its_end_does_not_count(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 4, 4).await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    let call = runner.next().await;
    runner.start(&call).await.expect("the lease holds");
    node.calls.cancel(&id).await.expect("cancelled");
    assert_eq!(runner.work().await, Work::Cancelled(call.lease.clone()));
    assert!(!runner.finish(&call, answered(200, "late")).await);
    let (held, _) = node
        .calls
        .renew("runner", vec![call.lease.clone()])
        .await
        .expect("an answer");
    assert!(held.is_empty());
    assert_eq!(node.record(&id).await.status, CallState::Cancelled);
}

async fn a_dead_call_is_redriven_once_and_purged(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 4, 4).await;
    let dead = node.enqueue(&func, CallOptions::default()).await;
    let call = runner.next().await;
    runner.run(&call, failed(Fault::Permanent)).await;
    let alive = node.enqueue(&func, CallOptions::default()).await;
    let other = runner.next().await;
    let ids = vec![dead.clone(), alive.clone()];
    let made = node.calls.redrive(ids.clone()).await.expect("answers");
    let made: Vec<_> = made.into_iter().map(|one| one.ok()).collect();
    let again = runner.next().await;
    assert_eq!(
        made[0].as_ref().map(|one| &one.id),
        Some(&again.lease.call_id)
    );
    assert_eq!(made[1], None);
    let record = node.record(&again.lease.call_id).await;
    assert_eq!(record.origin_id, Some(dead.clone()));
    let twice = node
        .calls
        .redrive(vec![dead.clone()])
        .await
        .expect("answers");
    let twice = twice[0].as_ref().map(|one| one.id.clone());
    assert_eq!(twice.ok(), Some(again.lease.call_id));
    assert_eq!(node.calls.purge(ids).await.expect("purged"), 1);
    refused(
        node.calls.store().call(&dead).await,
        ErrorCode::CallNotFound,
    );
    assert_eq!(node.record(&alive).await.status, CallState::Running);
    drop(other);
}

async fn a_deleted_function_is_not_run(f: Fixture) {
    let node = Node::new(&f).await;
    let (gone, kept) = (func(&f, "a").await, func(&f, "b").await);
    let dead = node.enqueue(&gone, CallOptions::default()).await;
    node.calls
        .store()
        .delete_fn(&gone.id)
        .await
        .expect("deleted");
    let alive = node.enqueue(&kept, CallOptions::default()).await;
    let mut runner = node.runner("runner", 1, 1).await;
    assert_eq!(runner.next().await.lease.call_id, alive);
    until_over(&node, &dead, CallState::Dead).await;
}

async fn a_large_answer_is_cut(f: Fixture) {
    let settings = CallsSettings {
        max_result: 4,
        ..CallsSettings::default()
    };
    let node = Node::with(&f, settings).await;
    let func = func(&f, "a").await;
    let mut runner = node.runner("runner", 1, 1).await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    let call = runner.next().await;
    runner.run(&call, answered(200, "output")).await;
    let result = node.calls.store().call_result(&id).await.expect("kept");
    assert_eq!((&result.body[..], result.truncated), (&b"outp"[..], true));
}

async fn a_runner_writes_to_logs_of_calls_that_it_had(f: Fixture) {
    let node = Node::new(&f).await;
    let func = func(&f, "a").await;
    let id = node.enqueue(&func, CallOptions::default()).await;
    let mut runner = node.runner("runner", 1, 1).await;
    let call = runner.next().await;
    let write = async |runner: &str, call_id: &CallId, epoch: i64, data: &'static str| {
        let chunk = LogChunk {
            lease: LeaseRef {
                call_id: call_id.clone(),
                epoch,
            },
            offset: 0,
            data: Bytes::from_static(data.as_bytes()),
        };
        let told = node.calls.append_logs(runner, vec![chunk]).await;
        told.expect("it is taken or dropped");
    };
    let sync = new_id();
    write("runner", &id, call.lease.epoch, "mine").await;
    write("other", &id, call.lease.epoch, "mine, but longer").await;
    write("runner", &id, call.lease.epoch + 1, "too early").await;
    write("runner", &id, 0, "in front").await;
    write("other", &sync, 0, "a client waits").await;
    write("other", &new_id(), 1, "of nothing").await;
    let log = async |id: &CallId| node.calls.logs().read(id).await.expect("an answer");
    assert_eq!(log(&id).await.as_deref(), Some(&b"mine"[..]));
    assert_eq!(log(&sync).await.as_deref(), Some(&b"a client waits"[..]));
}
