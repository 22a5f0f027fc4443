//! Accepting: one transaction, once per id and per key.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use domain::call::CallOptions;
use domain::{CallId, CallState, ErrorCode, FnId, Timestamp};
use tokio::task::JoinSet;

use super::super::{Fixture, contract, refused};
use super::{Target, accept_one, call};

contract!(
    what_was_accepted_can_be_read,
    what_is_too_far_ahead_is_not_accepted,
    an_id_is_accepted_once,
    a_key_makes_one_call,
    a_thousand_with_one_key_make_one_call,
);

async fn what_was_accepted_can_be_read(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let mut acceptance = target.acceptance(CallOptions {
        priority: Some(7),
        max_attempts: Some(5),
        callback_url: Some("http://x/back".to_owned()),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        ..CallOptions::default()
    });
    acceptance.call.path = "/a\0b".to_owned();
    let empty = {
        let mut empty = target.acceptance(CallOptions::default());
        empty.call.body = Bytes::new();
        empty
    };
    let batch = vec![acceptance.clone(), empty.clone()];
    let answers = f.store.accept(batch).await.expect("an answer");
    for (answer, given) in answers.into_iter().zip([&acceptance, &empty]) {
        let committed = answer.expect("accepted");
        assert_eq!(committed.accepted.id, given.call.id);
        assert!(!committed.accepted.replayed);
        let doorbell = committed.doorbell.expect("it is due");
        assert_eq!(doorbell.lease.call_id, given.call.id);
        assert_eq!(doorbell.lease.epoch, 0);
        assert_eq!(doorbell.fn_id, given.call.fn_id);
        let request = f.store.call_request(&given.call.id).await.expect("kept");
        assert_eq!(request.body, given.call.body);
        assert_eq!(request.headers, given.call.headers);
        assert_eq!(request.snapshot, target.snapshot);
    }
    let record = call(&f, &acceptance.call.id).await;
    assert_eq!(record.status, CallState::Queued);
    assert_eq!(record.path, "/a\u{fffd}b");
    assert_eq!((record.priority, record.max_attempts), (7, 5));
    assert_eq!(record.tags, acceptance.call.options.tags);
    assert_eq!(record.image, target.func.image);
    assert_eq!(record.app_id, target.func.app_id);
    assert_eq!(record.due_at, record.created_at);
    assert_eq!(
        record.expires_at.unix_millis() - record.created_at.unix_millis(),
        6 * 3600 * 1000
    );
    assert!(record.started_at.is_unset() && record.completed_at.is_unset());
    refused(
        f.store.call(&CallId::from("unknown")).await,
        ErrorCode::CallNotFound,
    );
    refused(
        f.store.call_result(&acceptance.call.id).await,
        ErrorCode::CallResultNotFound,
    );
}

/// What a call needs is kept for the longest time that a call can take, and no longer.
async fn what_is_too_far_ahead_is_not_accepted(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let in_days = |days: i64| {
        let at = super::super::super::wall_clock()().unix_millis() + days * 24 * 3_600_000 - 60_000;
        target.acceptance(CallOptions {
            run_at: Some(Timestamp::from_unix_millis(at)),
            idempotency_key: Some(format!("in {days} days")),
            ..CallOptions::default()
        })
    };
    let (near, far) = (in_days(14), in_days(15));
    let batch = vec![far.clone(), near.clone(), far.clone()];
    let mut answers = f.store.accept(batch).await.expect("an answer");
    refused(answers.remove(2), ErrorCode::InvalidCallOption);
    let error = answers.remove(0).expect_err("refused");
    assert_eq!(error.message(), "run_at must be at most 14 days ahead");
    let accepted = answers.remove(0).expect("accepted").accepted;
    assert_eq!(accepted.id, near.call.id);
    assert_eq!(call(&f, &near.call.id).await.status, CallState::Delayed);
    refused(f.store.call(&far.call.id).await, ErrorCode::CallNotFound);
}

async fn an_id_is_accepted_once(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let acceptance = target.acceptance(CallOptions::default());
    let first = accept_one(&f, acceptance.clone()).await;
    let again = accept_one(&f, acceptance.clone()).await;
    assert_eq!(again.accepted, first.accepted);
    assert_eq!(again.doorbell, None);
    // Twice in one batch, and with a function that is not there, and with an id that no index takes.
    let twice = target.acceptance(CallOptions::default());
    let mut lost = target.acceptance(CallOptions::default());
    lost.call.fn_id = FnId::from("unknown");
    let mut lost_with_key = target.keyed("k");
    lost_with_key.call.fn_id = FnId::from("unknown");
    let mut long = target.keyed("long");
    long.call.id = CallId::from("x".repeat(129));
    let batch = vec![
        twice.clone(),
        lost,
        twice.clone(),
        lost_with_key,
        acceptance.clone(),
        long,
    ];
    let mut answers = f.store.accept(batch).await.expect("an answer").into_iter();
    let mut next = || answers.next().expect("an answer");
    let one = next().expect("accepted");
    assert!(one.doorbell.is_some());
    refused(next(), ErrorCode::FnNotFound);
    let two = next().expect("known");
    assert_eq!((two.accepted, two.doorbell), (one.accepted, None));
    refused(next(), ErrorCode::FnNotFound);
    assert_eq!(next().expect("known").accepted, first.accepted);
    refused(next(), ErrorCode::InvalidCallOption);
    // What was refused has left no key behind.
    assert!(!accept_one(&f, target.keyed("long")).await.accepted.replayed);
    // A call whose function is gone was accepted all the same.
    f.store.delete_fn(&target.func.id).await.expect("deleted");
    assert_eq!(accept_one(&f, acceptance).await.accepted, first.accepted);
}

async fn a_key_makes_one_call(f: Fixture) {
    let (target, other) = (Target::new(&f, "a").await, Target::new(&f, "b").await);
    let first = target.keyed("k");
    let committed = accept_one(&f, first.clone()).await;
    assert!(!committed.accepted.replayed && committed.doorbell.is_some());
    // The same call again is that call; another one with its key stands for it.
    assert!(!accept_one(&f, first.clone()).await.accepted.replayed);
    let replayed = accept_one(&f, target.keyed("k")).await;
    assert!(replayed.accepted.replayed && replayed.doorbell.is_none());
    assert_eq!(replayed.accepted.id, first.call.id);
    let mut different = target.keyed("k");
    different.fingerprint = Bytes::from_static(b"another");
    let answers = f.store.accept(vec![different]).await.expect("an answer");
    for answer in answers {
        refused(answer, ErrorCode::IdempotencyKeyReused);
    }
    // Of another function it is another key; of one batch the first one has it.
    let batch = vec![other.keyed("k"), other.keyed("k"), target.keyed("k")];
    let ids: Vec<CallId> = batch.iter().map(|one| one.call.id.clone()).collect();
    let answers = f.store.accept(batch).await.expect("an answer");
    let answers: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.expect("accepted").accepted)
        .collect();
    assert_eq!(answers[0].id, ids[0]);
    assert_eq!(answers[1].id, ids[0]);
    assert_eq!(answers[2].id, first.call.id);
    let replayed: Vec<bool> = answers.iter().map(|one| one.replayed).collect();
    assert_eq!(replayed, [false, true, true]);
}

async fn a_thousand_with_one_key_make_one_call(f: Fixture) {
    let target = Arc::new(Target::new(&f, "a").await);
    let stores = [
        Arc::clone(&f.store),
        f.open_again().await.expect("a second store"),
    ];
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let (store, target) = (Arc::clone(&stores[n % 2]), Arc::clone(&target));
        tasks.spawn(async move {
            let calls = (0..50).map(|_| target.keyed("k")).collect();
            let answers = store.accept(calls).await.expect("answers");
            let accepted = answers
                .into_iter()
                .map(|one| one.expect("accepted").accepted);
            accepted.collect::<Vec<_>>()
        });
    }
    let answers = tasks.join_all().await.concat();
    let ids: BTreeSet<&CallId> = answers.iter().map(|answer| &answer.id).collect();
    assert_eq!((answers.len(), ids.len()), (1000, 1));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
}
