//! From the claim to the end: leases, attempts, results and retries.

use std::time::Duration;

use domain::call::machine::MAX_LEASE_LOSSES;
use domain::call::{
    AttemptEnd, AttemptOutcome, AttemptState, CallOptions, Fault, LeaseRef, Refused,
};
use domain::{CallId, CallState, DeadReason};

use super::super::super::{Claimed, Ended};
use super::super::{Fixture, contract};
use super::{
    LEASE, RUNNER, Target, accept_one, answer, answered, attempts, call, claim_one, due_now,
    failed, finish_one, leased,
};

contract!(
    a_call_runs_and_is_answered,
    a_claim_says_why_not,
    a_call_without_its_request_is_given_up,
    a_failed_attempt_is_repeated,
    of_many_attempts_the_last_ones_are_shown,
    a_lost_lease_changes_nothing,
    a_lease_that_ran_out_is_taken_back,
    a_call_that_loses_its_runners_is_given_up,
    a_lease_that_is_renewed_holds,
    the_start_needs_the_lease_and_renews_it,
);

async fn a_call_runs_and_is_answered(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let given = target.acceptance(CallOptions::default());
    let id = given.call.id.clone();
    accept_one(&f, given.clone()).await;
    let leased = leased(claim_one(&f, &id).await);
    assert_eq!(leased.lease.epoch, 1);
    assert_eq!((leased.attempt, leased.lease_for), (1, LEASE));
    assert_eq!(leased.snapshot, target.snapshot);
    assert_eq!(
        (&leased.headers, &leased.body),
        (&given.call.headers, &given.call.body)
    );
    let record = call(&f, &id).await;
    assert_eq!(record.status, CallState::Running);
    assert_eq!(record.runner_id.as_deref(), Some(RUNNER));
    assert!(record.started_at.is_unset());
    let held = f
        .store
        .start(vec![leased.lease.clone()], RUNNER, LEASE)
        .await;
    assert_eq!(
        held.expect("an answer"),
        std::slice::from_ref(&leased.lease)
    );
    let started = call(&f, &id).await.started_at;
    assert!(!started.is_unset());
    let held = f
        .store
        .start(vec![leased.lease.clone()], RUNNER, LEASE)
        .await;
    assert_eq!(
        held.expect("an answer"),
        std::slice::from_ref(&leased.lease)
    );
    let ended = finish_one(&f, &leased.lease, answered(201)).await;
    let record = call(&f, &id).await;
    let expected = Ended::Accepted {
        call: Box::new(record.clone()),
        doorbell: None,
    };
    assert_eq!(ended, expected);
    assert_eq!(record.status, CallState::Success);
    assert_eq!(record.result_status, Some(201));
    assert_eq!((record.runner_id, record.error), (None, None));
    assert_eq!(record.started_at, started);
    assert!(record.completed_at >= started);
    assert!(record.due_at.is_unset());
    assert_eq!(f.store.call_result(&id).await.expect("kept"), answer(201));
    let all = f.store.call_attempts(&id).await.expect("kept");
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].epoch, all[0].status), (1, AttemptState::Success));
    assert_eq!(all[0].runner_id, RUNNER);
    assert_eq!(all[0].started_at, started);
    assert_eq!(all[0].ended_at, record.completed_at);
    assert_eq!(all[0].result_status, Some(201));
    // The end again, and another one: nothing changes.
    for outcome in [answered(201), failed(Fault::Function)] {
        let again = finish_one(&f, &leased.lease, outcome).await;
        assert_eq!(again, Ended::Refused(Refused::Over));
    }
    assert_eq!(call(&f, &id).await.status, CallState::Success);
    assert_eq!(f.store.call_attempts(&id).await.expect("kept"), all);
    assert_eq!(claim_one(&f, &id).await, Claimed::Refused(Refused::Over));
}

async fn a_claim_says_why_not(f: Fixture) {
    let (target, gone) = (Target::new(&f, "a").await, Target::new(&f, "b").await);
    let delayed = CallOptions {
        delay_seconds: Some(60),
        ..CallOptions::default()
    };
    let due = target.accept(&f, CallOptions::default()).await;
    let early = target.accept(&f, delayed).await;
    let late = target.accept(&f, CallOptions::default()).await;
    let orphan = gone.accept(&f, CallOptions::default()).await;
    f.store.delete_fn(&gone.func.id).await.expect("deleted");
    f.sql(&format!(
        "UPDATE calls SET expires_at = 1 WHERE id = '{late}'"
    ))
    .await;
    let unknown = CallId::from("unknown");
    let wanted = [&orphan, &due, &unknown, &early, &due, &late];
    let wanted = wanted.into_iter().cloned().collect();
    let mut answers = f
        .store
        .claim(wanted, RUNNER, LEASE)
        .await
        .expect("an answer");
    assert!(matches!(answers.remove(1), Claimed::Leased(_)));
    let expected = [
        Claimed::FunctionDeleted,
        Claimed::Unknown,
        Claimed::Refused(Refused::NotDue),
        Claimed::Refused(Refused::Running),
        Claimed::Refused(Refused::Expired),
    ];
    assert_eq!(answers, expected);
    let reasons = [
        (&orphan, DeadReason::FunctionDeleted),
        (&late, DeadReason::Expired),
    ];
    for (id, reason) in reasons {
        let record = call(&f, id).await;
        assert_eq!(
            (record.status, record.reason),
            (CallState::Dead, Some(reason))
        );
        assert!(!record.completed_at.is_unset());
    }
    assert_eq!(call(&f, &early).await.status, CallState::Delayed);
}

async fn a_call_without_its_request_is_given_up(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let id = target.accept(&f, CallOptions::default()).await;
    f.sql("DELETE FROM call_requests").await;
    assert_eq!(claim_one(&f, &id).await, Claimed::Unknown);
    let record = call(&f, &id).await;
    assert_eq!(
        (record.status, record.reason),
        (CallState::Dead, Some(DeadReason::Permanent))
    );
    let error = "its request or its function's snapshot is lost";
    assert_eq!(record.error.as_deref(), Some(error));
    assert_eq!(f.store.next_doorbell().await.expect("an answer"), None);
}

async fn a_failed_attempt_is_repeated(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let lease = target.running(&f, attempts(2)).await;
    let ended = finish_one(&f, &lease, failed(Fault::Function)).await;
    let Ended::Accepted {
        call: record,
        doorbell,
    } = ended
    else {
        panic!("refused: {ended:?}");
    };
    assert_eq!(doorbell, None, "it has a pause first");
    assert_eq!((record.status, record.attempts), (CallState::Queued, 1));
    assert_eq!(record.error.as_deref(), Some("it failed\u{fffd}"));
    assert_eq!(*record, call(&f, &lease.call_id).await);
    let next = f.store.next_doorbell().await.expect("an answer");
    assert!(next.is_some_and(|next| next > Duration::ZERO));
    assert_eq!(
        claim_one(&f, &lease.call_id).await,
        Claimed::Refused(Refused::NotDue)
    );
    due_now(&f, &lease.call_id).await;
    let second = leased(claim_one(&f, &lease.call_id).await);
    assert_eq!((second.lease.epoch, second.attempt), (2, 2));
    let ended = finish_one(&f, &second.lease, answered(503)).await;
    assert!(matches!(ended, Ended::Accepted { .. }));
    let record = call(&f, &lease.call_id).await;
    assert_eq!(record.status, CallState::Dead);
    assert_eq!(record.reason, Some(DeadReason::RetriesExhausted));
    assert_eq!(record.result_status, Some(503));
    let all = f.store.call_attempts(&lease.call_id).await.expect("kept");
    let all: Vec<_> = all.iter().map(|one| (one.epoch, one.status)).collect();
    assert_eq!(all, [(1, AttemptState::Error), (2, AttemptState::Error)]);
    // What a runner gives back is due at once.
    let lease = target.running(&f, attempts(2)).await;
    let ended = finish_one(&f, &lease, AttemptOutcome::Returned).await;
    let Ended::Accepted {
        call: record,
        doorbell,
    } = ended
    else {
        panic!("refused: {ended:?}");
    };
    assert_eq!(record.attempts, 0);
    assert_eq!(doorbell.expect("at once").lease, lease);
    // The second time in a row it waits.
    let second = leased(claim_one(&f, &lease.call_id).await).lease;
    let ended = finish_one(&f, &second, AttemptOutcome::Returned).await;
    assert!(matches!(ended, Ended::Accepted { doorbell: None, .. }));
}

async fn of_many_attempts_the_last_ones_are_shown(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let lease = target.running(&f, CallOptions::default()).await;
    let rows: Vec<String> = (2..=1005)
        .map(|epoch| format!("('{}', {epoch}, 'returned', 'r', 1, 1)", lease.call_id))
        .collect();
    f.sql(&format!(
        "INSERT INTO call_attempts (call_id, epoch, status, runner_id, claimed_at, lease_until) VALUES {}",
        rows.join(", ")
    ))
    .await;
    let all = f.store.call_attempts(&lease.call_id).await.expect("kept");
    let epochs: Vec<i64> = all.iter().map(|one| one.epoch).collect();
    assert_eq!(epochs, (6..=1005).collect::<Vec<_>>());
}

async fn a_lost_lease_changes_nothing(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let lease = target.running(&f, CallOptions::default()).await;
    let before = call(&f, &lease.call_id).await;
    let stale = LeaseRef {
        epoch: 0,
        ..lease.clone()
    };
    assert_eq!(
        finish_one(&f, &stale, answered(200)).await,
        Ended::Refused(Refused::Stale)
    );
    let unknown = LeaseRef {
        call_id: CallId::from("unknown"),
        epoch: 1,
    };
    assert_eq!(
        finish_one(&f, &unknown, answered(200)).await,
        Ended::Unknown
    );
    let all = vec![stale.clone(), lease.clone(), unknown];
    let held = f.store.start(all.clone(), "another", LEASE).await;
    assert_eq!(held.expect("an answer"), []);
    let held = f.store.renew(all.clone(), "another", LEASE).await;
    assert_eq!(held.expect("an answer"), []);
    assert_eq!(call(&f, &lease.call_id).await, before);
    let held = f.store.renew(all.clone(), RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), std::slice::from_ref(&lease));
    let held = f.store.start(all, RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), std::slice::from_ref(&lease));
    let end = AttemptEnd {
        lease: lease.clone(),
        outcome: answered(200),
    };
    let ends = vec![(end.clone(), "another".to_owned())];
    let ended = f.store.finish(ends, 0).await.expect("an answer");
    assert_eq!(ended, [Ended::Refused(Refused::Stale)]);
    // Twice in one batch: the first one counts.
    let twice = vec![(end.clone(), RUNNER.to_owned()), (end, RUNNER.to_owned())];
    let ended = f.store.finish(twice, 0).await.expect("an answer");
    assert!(matches!(ended[0], Ended::Accepted { .. }));
    assert_eq!(ended[1], Ended::Refused(Refused::Over));
    let held = f.store.start(vec![lease.clone()], RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), []);
    let held = f.store.renew(vec![lease], RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), []);
}

async fn a_lease_that_ran_out_is_taken_back(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let id = target.accept(&f, CallOptions::default()).await;
    let ids = vec![id.clone()];
    let first = f.store.claim(ids, RUNNER, Duration::ZERO).await;
    let first = leased(first.expect("an answer").remove(0)).lease;
    let doorbells = f.store.recover_leases(10).await.expect("an answer");
    assert_eq!(doorbells.len(), 1);
    assert_eq!(doorbells[0].lease, first);
    assert_eq!(f.store.recover_leases(10).await.expect("an answer"), []);
    let record = call(&f, &id).await;
    assert_eq!((record.status, record.attempts), (CallState::Queued, 0));
    assert_eq!(record.runner_id, None);
    let held = f.store.start(vec![first.clone()], RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), []);
    let all = f.store.call_attempts(&id).await.expect("kept");
    assert_eq!(all[0].status, AttemptState::LeaseLost);
    let second = leased(claim_one(&f, &id).await).lease;
    assert_eq!(second.epoch, 2);
    assert_eq!(
        finish_one(&f, &first, answered(200)).await,
        Ended::Refused(Refused::Stale)
    );
    assert_eq!(f.store.recover_leases(10).await.expect("an answer"), []);
}

/// The lease of the call runs out at once.
async fn lease_runs_out(f: &Fixture, id: &CallId) {
    f.sql(&format!(
        "UPDATE call_attempts SET lease_until = 1 WHERE call_id = '{id}' AND status = 'running'"
    ))
    .await;
    f.store.recover_leases(10).await.expect("an answer");
}

async fn a_call_that_loses_its_runners_is_given_up(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let id = target.accept(&f, CallOptions::default()).await;
    for lost in 1..=MAX_LEASE_LOSSES {
        // Before its function has begun to run nothing is held against it.
        for starts in [false, true] {
            assert_eq!(call(&f, &id).await.status, CallState::Queued, "{lost}");
            due_now(&f, &id).await;
            let lease = leased(claim_one(&f, &id).await).lease;
            if starts {
                let held = f.store.start(vec![lease.clone()], RUNNER, LEASE).await;
                assert_eq!(held.expect("an answer"), [lease]);
            }
            lease_runs_out(&f, &id).await;
        }
    }
    let record = call(&f, &id).await;
    assert_eq!(
        (record.status, record.reason, record.attempts),
        (CallState::Dead, Some(DeadReason::Poison), 0)
    );
}

async fn a_lease_that_is_renewed_holds(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let id = target.accept(&f, CallOptions::default()).await;
    let ids = vec![id.clone()];
    let claimed = f.store.claim(ids, RUNNER, Duration::ZERO).await;
    let lease = leased(claimed.expect("an answer").remove(0)).lease;
    let held = f.store.renew(vec![lease.clone()], RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), [lease]);
    assert_eq!(f.store.recover_leases(10).await.expect("an answer"), []);
    assert_eq!(call(&f, &id).await.status, CallState::Running);
}

async fn the_start_needs_the_lease_and_renews_it(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let id = target.accept(&f, CallOptions::default()).await;
    let claimed = f.store.claim(vec![id.clone()], RUNNER, Duration::ZERO);
    let lease = leased(claimed.await.expect("an answer").remove(0)).lease;
    // It has run out, though nobody has taken it back.
    let held = f.store.start(vec![lease.clone()], RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), []);
    assert!(call(&f, &id).await.started_at.is_unset());
    // What begins to run has a whole lease before it, which no later word makes shorter.
    let soon = super::super::super::wall_clock()().unix_millis() + 30_000;
    f.sql(&format!("UPDATE call_attempts SET lease_until = {soon}"))
        .await;
    let held = f.store.start(vec![lease.clone()], RUNNER, 2 * LEASE).await;
    assert_eq!(held.expect("an answer"), std::slice::from_ref(&lease));
    let held = f
        .store
        .renew(vec![lease.clone()], RUNNER, Duration::ZERO)
        .await;
    assert_eq!(held.expect("an answer"), std::slice::from_ref(&lease));
    f.sql("UPDATE call_attempts SET lease_until = lease_until - 60000")
        .await;
    assert_eq!(f.store.recover_leases(10).await.expect("an answer"), []);
    let held = f.store.start(vec![lease.clone()], RUNNER, LEASE).await;
    assert_eq!(held.expect("an answer"), [lease]);
}
