//! What is asked arrives as it was meant, and so do the answers.

use bytes::Bytes;
use domain::call::{AttemptEnd, AttemptOutcome, CallKind, CallResult, CallState, Fault};
use domain::{ApiError, AppId, CallId, CallRecord, ErrorCode, FnId, Timestamp};
use hybrid_client::{BeginKeyed, CallPlane as _, Keyed, LogChunk, WorkSource as _};
use std::time::Duration;

use super::node::{CallsNode, calls_of};
use super::script::Script;
use super::{RUNNER, answered, lease, new_call};

fn record(id: &str) -> CallRecord {
    CallRecord {
        id: CallId::from(id),
        status: CallState::Success,
        kind: CallKind::Sync,
        app_id: AppId::from("a"),
        fn_id: FnId::from("f"),
        trigger_id: None,
        path: "/invoke/f".to_owned(),
        method: "POST".to_owned(),
        url: String::new(),
        image: "x".repeat(1000),
        priority: 0,
        tags: Default::default(),
        attempts: 0,
        max_attempts: 1,
        epoch: 0,
        reason: None,
        error: None,
        origin_id: None,
        callback_url: None,
        runner_id: None,
        result_status: Some(200),
        created_at: Timestamp::from_unix_millis(1),
        due_at: Timestamp::UNSET,
        expires_at: Timestamp::UNSET,
        started_at: Timestamp::UNSET,
        completed_at: Timestamp::from_unix_millis(2),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_front_doors() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);

    let call = new_call("c1", "input");
    let accepted = calls.enqueue(call.clone()).await.expect("accepted");
    assert_eq!((accepted.id.as_str(), accepted.replayed), ("c1", false));
    assert_eq!(script.state().accepted[&call.id], call);
    assert!(calls.enqueue(call).await.expect("accepted").replayed);

    // Many more than one message has room for.
    let records: Vec<_> = (0..3000).map(|n| record(&n.to_string())).collect();
    calls.record(records.clone()).await.expect("recorded");
    assert_eq!(script.state().records, records);
    calls.record(Vec::new()).await.expect("nothing to record");

    let begin = |call_id: &str| BeginKeyed {
        fn_id: FnId::from("f"),
        key: "k \u{e4}".to_owned(),
        fingerprint: Bytes::from_static(b"\0\xff"),
        call_id: CallId::from(call_id),
        hold: Duration::from_secs(60),
    };
    let keyed = calls.begin_keyed(begin("c2")).await;
    assert_eq!(keyed.expect("begun"), Keyed::Fresh);
    let result = CallResult {
        status: 404,
        headers: super::headers(),
        body: Bytes::from_static(b"\xff"),
        truncated: true,
    };
    let (fn_id, key) = (FnId::from("f"), "k \u{e4}".to_owned());
    let end = |result| calls.end_keyed(fn_id.clone(), key.clone(), CallId::from("c2"), result);
    end(Some(result.clone())).await.expect("ended");
    let call_id = CallId::from("c2");
    let keyed = calls.begin_keyed(begin("c3")).await.expect("begun");
    assert_eq!(keyed, Keyed::Made { call_id, result });
    end(None).await.expect("given up");
    let keyed = calls.begin_keyed(begin("c4")).await;
    assert_eq!(keyed.expect("begun"), Keyed::Fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_runners() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    let (held, lost) = (lease("c1", 3), lease("c1", 2));
    script.state().held.insert(held.clone());

    calls.start(RUNNER, held.clone()).await.expect("it holds");
    let error = calls.start(RUNNER, lost.clone()).await;
    let error = error.expect_err("it is lost");
    assert_eq!(error.code(), ErrorCode::CallLeaseLost);

    let (holding, holds) = calls
        .renew(RUNNER, vec![lost.clone(), held.clone()])
        .await
        .expect("renewed");
    assert_eq!(
        (holding, holds),
        (vec![held.clone()], Duration::from_secs(10))
    );
    let many = (0..3000).map(|n| lease(&n.to_string(), 1));
    script.state().held.extend(many.clone());
    let (holding, _) = calls.renew(RUNNER, many.collect()).await.expect("renewed");
    assert_eq!(holding.len(), 3000);

    let failed = AttemptEnd {
        lease: lost.clone(),
        outcome: AttemptOutcome::Failed {
            fault: Fault::Timeout,
            crashed: true,
            retry_after: Some(Duration::from_secs(7)),
            error: "Timed out".to_owned(),
        },
    };
    let returned = AttemptEnd {
        lease: lost,
        outcome: AttemptOutcome::Returned,
    };
    let ends = [
        (answered(held.clone(), "output"), true),
        (failed, false),
        (returned, false),
    ];
    for (end, counts) in ends {
        assert_eq!(
            calls.finish(RUNNER, end.clone()).await.expect("known"),
            counts
        );
        let last = script.state().finished.pop();
        assert_eq!(last, Some((RUNNER.to_owned(), end)));
    }

    let mut log = Vec::new();
    for part in [&b"a\xff"[..], b"", &[b'x'; 3_000_000]] {
        let chunk = LogChunk {
            lease: held.clone(),
            offset: log.len() as u64,
            data: Bytes::copy_from_slice(part),
        };
        log.extend_from_slice(part);
        calls.append_logs(RUNNER, vec![chunk]).await.expect("kept");
    }
    assert!(script.state().logs[&held] == log);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_comes_back_as_itself() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let calls = calls_of(&[node.address]);
    for code in [
        ErrorCode::FnNotFound,
        ErrorCode::InvalidCallOption,
        ErrorCode::RequestTooLarge,
        ErrorCode::IdempotencyKeyReused,
        ErrorCode::IdempotencyKeyInUse,
        ErrorCode::CallLeaseLost,
        ErrorCode::Internal,
    ] {
        let error = ApiError::with_message(code, "its own text").detail("inside");
        script.state().error = Some(error);
        let refused = calls.enqueue(new_call("c", "")).await;
        let refused = refused.expect_err("refused");
        assert_eq!((refused.code(), refused.message()), (code, "its own text"));
        let refused = calls.finish(RUNNER, answered(lease("c", 1), "")).await;
        assert_eq!(refused.expect_err("refused").code(), code);
        let opened = calls.dequeue(RUNNER.into(), 1).await;
        assert_eq!(opened.expect_err("refused").code(), code);
    }
    let mut call = new_call("c", "");
    call.options.priority = Some(10);
    script.state().error = None;
    let refused = calls.enqueue(call).await.expect_err("refused");
    assert_eq!(refused.code(), ErrorCode::InvalidCallOption);
    assert!(refused.message().starts_with("priority"), "{refused}");
}
