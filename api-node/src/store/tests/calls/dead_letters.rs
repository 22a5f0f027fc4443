//! Dead calls are redriven or purged; what is old enough is deleted.

use std::time::Duration;

use domain::call::{CallOptions, Fault};
use domain::{CallId, CallState, DeadReason, ErrorCode, FuncPatch};
use hybrid_client::BeginKeyed;
use sqlx::Connection as _;

use super::super::super::{Over, Retention};
use super::super::{Fixture, contract, refused};
use super::{
    LEASE, Target, accept_one, answer, answered, call, claim_one, failed, finish_one, leased,
    new_id,
};

contract!(
    a_dead_call_is_redriven_once,
    only_dead_calls_are_redriven_or_purged,
    a_purged_call_leaves_nothing,
    what_is_old_is_deleted,
    a_dead_call_can_be_redriven_as_long_as_it_is_kept,
    what_is_young_or_in_use_is_kept,
);

async fn dead(f: &Fixture, target: &Target, options: CallOptions) -> CallId {
    let lease = target.running(f, options).await;
    finish_one(f, &lease, failed(Fault::Permanent)).await;
    lease.call_id
}

async fn a_dead_call_is_redriven_once(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let options = CallOptions {
        priority: Some(4),
        max_attempts: Some(7),
        callback_url: Some("http://x/back".to_owned()),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        ..CallOptions::default()
    };
    let old = dead(&f, &target, options).await;
    let before = call(&f, &old).await;
    let patch = FuncPatch {
        image: "image:2".to_owned(),
        ..FuncPatch::default()
    };
    f.store
        .update_fn(&target.func.id, &patch)
        .await
        .expect("updated");
    let new = new_id();
    let twice = vec![(old.clone(), new.clone()), (old.clone(), new_id())];
    let answers = f.store.redrive(twice).await.expect("an answer");
    let answers: Vec<_> = answers
        .into_iter()
        .map(|one| one.expect("redriven"))
        .collect();
    assert_eq!(answers[0].accepted.id, new);
    assert!(answers[0].doorbell.is_some());
    assert_eq!(answers[1].accepted.id, new);
    let again = f.store.redrive(vec![(old.clone(), new_id())]).await;
    let again = again
        .expect("an answer")
        .remove(0)
        .expect("redriven before");
    assert_eq!((again.accepted.id, again.doorbell), (new.clone(), None));
    assert_eq!(call(&f, &old).await, before);
    let record = call(&f, &new).await;
    assert_eq!(record.status, CallState::Queued);
    assert_eq!(record.origin_id.as_ref(), Some(&old));
    assert_eq!(record.image, "image:2");
    assert_eq!(
        (record.priority, record.max_attempts, record.attempts),
        (4, 7, 0)
    );
    assert_eq!(
        (&record.tags, &record.callback_url),
        (&before.tags, &before.callback_url)
    );
    assert_eq!(
        (&record.path, &record.method, &record.url),
        (&before.path, &before.method, &before.url)
    );
    let leased = leased(claim_one(&f, &new).await);
    assert_eq!(leased.snapshot.func.image, "image:2");
    let request = f.store.call_request(&old).await.expect("kept");
    assert_eq!(
        (leased.headers, leased.body),
        (request.headers, request.body)
    );
}

async fn only_dead_calls_are_redriven_or_purged(f: Fixture) {
    let (target, gone) = (Target::new(&f, "a").await, Target::new(&f, "b").await);
    let queued = target.accept(&f, CallOptions::default()).await;
    let orphan = dead(&f, &gone, CallOptions::default()).await;
    f.store.delete_fn(&gone.func.id).await.expect("deleted");
    let wishes = [&queued, &orphan, &CallId::from("unknown")];
    let wishes = wishes.map(|id| (id.clone(), new_id())).to_vec();
    let mut answers = f
        .store
        .redrive(wishes)
        .await
        .expect("an answer")
        .into_iter();
    let mut next = || answers.next().expect("an answer");
    refused(next(), ErrorCode::CallNotDead);
    refused(next(), ErrorCode::FnNotFound);
    refused(next(), ErrorCode::CallNotFound);
    let ids = vec![queued.clone(), CallId::from("unknown")];
    assert_eq!(f.store.purge(ids).await.expect("a count"), 0);
    assert_eq!(call(&f, &queued).await.status, CallState::Queued);
}

async fn a_purged_call_leaves_nothing(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let given = {
        let mut given = target.keyed("k");
        given.call.options.tags = [("k".to_owned(), "v".to_owned())].into();
        given.call.options.callback_url = Some("http://x/".to_owned());
        given
    };
    let id = accept_one(&f, given).await.accepted.id;
    let lease = leased(claim_one(&f, &id).await).lease;
    finish_one(&f, &lease, failed(Fault::Permanent)).await;
    assert_eq!(
        f.store
            .purge(vec![id.clone(), id.clone()])
            .await
            .expect("a count"),
        1
    );
    for gone in [
        f.store.call(&id).await.map(drop),
        f.store.call_request(&id).await.map(drop),
        f.store.call_attempts(&id).await.map(drop),
        f.store.call_result(&id).await.map(drop),
    ] {
        refused(gone, ErrorCode::CallNotFound);
    }
    assert_eq!(
        f.store.due_callbacks(LEASE, 9).await.expect("an answer"),
        []
    );
    // Its key is free.
    assert!(!accept_one(&f, target.keyed("k")).await.accepted.replayed);
}

/// The call has been over for so many hours.
async fn over_since(f: &Fixture, id: &CallId, hours: i64) {
    let at = super::super::super::wall_clock()().unix_millis() - hours * 3_600_000;
    f.sql(&format!(
        "UPDATE calls SET completed_at = {at} WHERE id = '{id}'"
    ))
    .await;
}

/// Deletes what is old, `limit` of each kind at a time; answers how much that was.
async fn retired(f: &Fixture, limit: u32) -> u64 {
    let mut count = 0;
    loop {
        match f.store.retire(Retention::default(), limit).await {
            Ok(0) => return count,
            some => count += some.expect("an answer"),
        }
    }
}

async fn old_logs(f: &Fixture, limit: u32) -> Vec<Over> {
    let old = f.store.old_logs(Retention::default(), limit).await;
    old.expect("an answer")
}

async fn what_is_old_is_deleted(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let mut ids = Vec::new();
    for hours in [25, 8 * 24, 31 * 24] {
        let given = target.keyed(&format!("k{hours}"));
        let id = accept_one(&f, given).await.accepted.id;
        let lease = leased(claim_one(&f, &id).await).lease;
        finish_one(&f, &lease, answered(200)).await;
        over_since(&f, &id, hours).await;
        ids.push(id);
    }
    // Parts of all; whole calls wait for their logs.
    assert_eq!(retired(&f, 1).await, 3);
    // Of a log that cannot be deleted it is known until it can be.
    let oldest = old_logs(&f, 1).await;
    assert_eq!(oldest[0].call_id, ids[2]);
    assert_eq!(old_logs(&f, 1).await, oldest);
    assert_eq!(retired(&f, 1).await, 0);
    f.store.logs_are_gone(&oldest[0]).await.expect("noted");
    let next = old_logs(&f, 9).await;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].call_id, ids[1]);
    f.store.logs_are_gone(&next[0]).await.expect("noted");
    // Another node may have been slower.
    f.store.logs_are_gone(&oldest[0]).await.expect("noted");
    assert_eq!(old_logs(&f, 9).await, []);
    assert_eq!(retired(&f, 1).await, 1);
    refused(f.store.call(&ids[2]).await, ErrorCode::CallNotFound);
    for id in &ids[..2] {
        assert_eq!(call(&f, id).await.status, CallState::Success);
        refused(f.store.call_result(id).await, ErrorCode::CallResultNotFound);
        refused(f.store.call_request(id).await, ErrorCode::CallNotFound);
        assert_eq!(f.store.call_attempts(id).await.expect("kept").len(), 1);
    }
    for hours in [25, 8 * 24, 31 * 24] {
        let again = accept_one(&f, target.keyed(&format!("k{hours}"))).await;
        assert!(!again.accepted.replayed, "the key is free");
    }
}

async fn a_dead_call_can_be_redriven_as_long_as_it_is_kept(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let id = dead(&f, &target, CallOptions::default()).await;
    let redriven = dead(&f, &target, CallOptions::default()).await;
    let wish = vec![(redriven.clone(), new_id())];
    f.store.redrive(wish).await.expect("an answer");
    for id in [&id, &redriven] {
        over_since(&f, id, 29 * 24).await;
    }
    // Nothing was called since: the snapshot is as old as the calls.
    f.sql("UPDATE call_snapshots SET used_at = used_at - 5097600000")
        .await;
    assert_eq!(retired(&f, 9).await, 2);
    refused(
        f.store.call_request(&redriven).await,
        ErrorCode::CallNotFound,
    );
    assert_eq!(call(&f, &id).await.reason, Some(DeadReason::Permanent));
    let request = f.store.call_request(&id).await.expect("kept");
    let again = new_id();
    let answers = f.store.redrive(vec![(id.clone(), again.clone())]).await;
    for answer in answers.expect("an answer") {
        assert_eq!(answer.expect("redriven").accepted.id, again);
    }
    let leased = leased(claim_one(&f, &again).await);
    assert_eq!(leased.body, request.body);
    // With the call goes its request.
    over_since(&f, &id, 31 * 24).await;
    for old in old_logs(&f, 9).await {
        f.store.logs_are_gone(&old).await.expect("noted");
    }
    assert_eq!(retired(&f, 9).await, 1);
    refused(f.store.call_request(&id).await, ErrorCode::CallNotFound);
}

async fn what_is_young_or_in_use_is_kept(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let young = target.running(&f, CallOptions::default()).await;
    finish_one(&f, &young, answered(200)).await;
    over_since(&f, &young.call_id, 23).await;
    let waiting = target.accept(&f, CallOptions::default()).await;
    // Clients that wait: one was answered long ago, one is gone since long, one waits.
    let day = Duration::from_secs(24 * 3600);
    let begin = |key: &str, hold| BeginKeyed {
        fn_id: target.func.id.clone(),
        key: key.to_owned(),
        fingerprint: bytes::Bytes::new(),
        call_id: new_id(),
        hold,
    };
    let keys = [begin("done", day), begin("gone", day), begin("waits", day)];
    for key in &keys {
        f.store.begin_keyed(key.clone()).await.expect("fresh");
    }
    let done = &keys[0].call_id;
    let ended = f
        .store
        .end_keyed(&target.func.id, "done", done, Some(answer(200)));
    ended.await.expect("noted");
    f.sql("UPDATE call_keys SET hold_until = 1 WHERE idempotency_key IN ('done', 'gone')")
        .await;
    assert_eq!(retired(&f, 9).await, 2);
    assert_eq!(old_logs(&f, 9).await, []);
    refused(f.store.call_result(done).await, ErrorCode::CallNotFound);
    refused(
        f.store.begin_keyed(begin("waits", day)).await,
        ErrorCode::IdempotencyKeyInUse,
    );
    assert_eq!(
        f.store.call_result(&young.call_id).await.expect("kept"),
        answer(200)
    );
    // A snapshot that was used before the longest life of a call, and of its record, is read by nobody.
    f.sql("UPDATE call_snapshots SET used_at = used_at - 5184000000")
        .await;
    assert_eq!(retired(&f, 9).await, 0);
    leased(claim_one(&f, &waiting).await);
    f.sql("UPDATE call_snapshots SET used_at = used_at - 172800000")
        .await;
    assert_eq!(retired(&f, 9).await, 1);
    // The next call keeps it again.
    let next = target.accept(&f, CallOptions::default()).await;
    f.store.call_request(&next).await.expect("kept");
}

/// A key that somebody answers for right now is left to him: waiting for it could end in a circle.
#[tokio::test]
async fn postgres_does_not_wait_for_what_is_in_use() {
    let f = Fixture::postgres().await;
    let target = Target::new(&f, "a").await;
    for key in ["in use", "old"] {
        let begin = BeginKeyed {
            fn_id: target.func.id.clone(),
            key: key.to_owned(),
            fingerprint: bytes::Bytes::new(),
            call_id: new_id(),
            hold: LEASE,
        };
        f.store.begin_keyed(begin).await.expect("fresh");
    }
    target.accept(&f, CallOptions::default()).await;
    f.sql("UPDATE call_keys SET hold_until = 1; UPDATE call_snapshots SET used_at = 1")
        .await;
    let mut other = sqlx::PgConnection::connect(&f.url).await.expect("answers");
    sqlx::raw_sql(
        "BEGIN; SELECT 1 FROM call_keys WHERE idempotency_key = 'in use' FOR UPDATE;
         SELECT 1 FROM call_snapshots FOR UPDATE",
    )
    .execute(&mut other)
    .await
    .expect("locked");
    assert_eq!(retired(&f, 9).await, 1);
    sqlx::raw_sql("COMMIT")
        .execute(&mut other)
        .await
        .expect("done");
    assert_eq!(retired(&f, 9).await, 2);
}
