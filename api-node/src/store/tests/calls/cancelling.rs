//! Cancelling, and the callbacks that tell of every end.

use std::time::Duration;

use domain::call::{AttemptState, CallOptions, Fault, Refused};
use domain::{CallId, CallState, ErrorCode};

use super::super::super::{CallbackDelivery, Claimed, Ended};
use super::super::{Fixture, contract, refused};
use super::{LEASE, RUNNER, Target, answered, attempts, call, claim_one, failed, finish_one};

contract!(
    what_waits_never_runs,
    what_runs_loses_its_lease,
    what_is_over_stays,
    an_end_is_called_back_until_it_is_told,
);

async fn what_waits_never_runs(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let delayed = CallOptions {
        delay_seconds: Some(60),
        ..CallOptions::default()
    };
    for options in [CallOptions::default(), delayed] {
        let id = target.accept(&f, options).await;
        let cancelled = f.store.cancel(&id).await.expect("cancelled");
        assert!(cancelled.changed && cancelled.was_running.is_none());
        assert_eq!(cancelled.call, call(&f, &id).await);
        assert_eq!(cancelled.call.status, CallState::Cancelled);
        assert!(!cancelled.call.completed_at.is_unset());
        assert_eq!(claim_one(&f, &id).await, Claimed::Refused(Refused::Over));
        let again = f.store.cancel(&id).await.expect("cancelled before");
        assert!(!again.changed && again.was_running.is_none());
        assert_eq!(again.call, cancelled.call);
    }
    assert_eq!(f.store.next_doorbell().await.expect("an answer"), None);
    refused(
        f.store.cancel(&CallId::from("unknown")).await,
        ErrorCode::CallNotFound,
    );
}

async fn what_runs_loses_its_lease(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let lease = target.running(&f, CallOptions::default()).await;
    let id = &lease.call_id;
    f.store
        .start(vec![lease.clone()], RUNNER, LEASE)
        .await
        .expect("an answer");
    let started = call(&f, id).await.started_at;
    let cancelled = f.store.cancel(id).await.expect("cancelled");
    assert!(cancelled.changed);
    let was_running = Some((lease.clone(), RUNNER.to_owned()));
    assert_eq!(cancelled.was_running, was_running);
    assert_eq!(cancelled.call.epoch, 2);
    assert_eq!(cancelled.call.started_at, started);
    assert_eq!(cancelled.call, call(&f, id).await);
    assert_eq!(
        finish_one(&f, &lease, answered(200)).await,
        Ended::Refused(Refused::Over)
    );
    let held = f.store.renew(vec![lease.clone()], RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), []);
    let all = f.store.call_attempts(id).await.expect("kept");
    assert_eq!((all.len(), all[0].status), (1, AttemptState::Cancelled));
    assert_eq!(all[0].ended_at, cancelled.call.completed_at);
    refused(f.store.call_result(id).await, ErrorCode::CallResultNotFound);
}

async fn what_is_over_stays(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let lease = target.running(&f, CallOptions::default()).await;
    finish_one(&f, &lease, answered(200)).await;
    let before = call(&f, &lease.call_id).await;
    refused(
        f.store.cancel(&lease.call_id).await,
        ErrorCode::CallNotCancellable,
    );
    assert_eq!(call(&f, &lease.call_id).await, before);
}

async fn due_callbacks(f: &Fixture, limit: u32) -> Vec<CallbackDelivery> {
    let due = f.store.due_callbacks(LEASE, limit).await;
    due.expect("an answer")
}

/// Every lease and pause of a callback is over.
async fn callbacks_are_due(f: &Fixture) {
    f.sql("UPDATE callbacks SET due_at = 1").await;
}

async fn an_end_is_called_back_until_it_is_told(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let told = |options: CallOptions| CallOptions {
        callback_url: Some("http://x/back".to_owned()),
        ..options
    };
    let first = target.running(&f, told(attempts(2))).await;
    target.accept(&f, told(CallOptions::default())).await;
    let silent = target.accept(&f, CallOptions::default()).await;
    f.store.cancel(&silent).await.expect("cancelled");
    finish_one(&f, &first, failed(Fault::Platform)).await;
    assert_eq!(due_callbacks(&f, 9).await, [], "nothing is over");
    super::due_now(&f, &first.call_id).await;
    let again = super::leased(claim_one(&f, &first.call_id).await).lease;
    finish_one(&f, &again, answered(200)).await;
    let cancelled = target.accept(&f, told(CallOptions::default())).await;
    f.store.cancel(&cancelled).await.expect("cancelled");
    assert_eq!(due_callbacks(&f, 1).await.len(), 1);
    assert_eq!(due_callbacks(&f, 9).await.len(), 1, "one is leased");
    callbacks_are_due(&f).await;
    let mut due = due_callbacks(&f, 9).await;
    due.sort_by(|a, b| a.call.id.cmp(&b.call.id));
    let expected = [&first.call_id, &cancelled];
    for (delivery, id) in due.iter().zip(expected) {
        assert_eq!(delivery.call, call(&f, id).await);
        assert_eq!(delivery.url, "http://x/back");
        assert_eq!(delivery.tries, 1);
    }
    let (one, two) = (&due[0].id, &due[1].id);
    assert_ne!(one, two);
    // One is told; the other is tried later, and then given up.
    let end = async |id: &str, delivered, again, error| {
        let ended = f.store.end_callback(id, delivered, again, error).await;
        ended.expect("noted");
    };
    end(one, true, None, None).await;
    end(two, false, Some(Duration::from_secs(60)), Some("no\0")).await;
    assert_eq!(due_callbacks(&f, 9).await, []);
    callbacks_are_due(&f).await;
    let due = due_callbacks(&f, 9).await;
    assert_eq!((due.len(), &due[0].id, due[0].tries), (1, two, 2));
    end(two, false, None, Some("gone")).await;
    callbacks_are_due(&f).await;
    assert_eq!(due_callbacks(&f, 9).await, []);
    // A callback changes no call.
    assert_eq!(call(&f, &cancelled).await.status, CallState::Cancelled);
}
