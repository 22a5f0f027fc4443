//! Doorbells: what is due and in which order, what was rung, what is silent, what has expired.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::call::{CallOptions, LeaseRef};
use domain::{CallId, CallState, DeadReason, FnId};

use super::super::{Fixture, contract};
use super::{Target, call, claim_one, due_now, leased};

contract!(
    what_is_due_comes_in_order,
    no_function_gets_more_than_its_share,
    what_is_full_is_not_in_the_way_of_others,
    a_delayed_call_becomes_queued_when_it_is_due,
    what_was_rung_is_counted_until_it_is_claimed,
    what_was_rung_in_vain_is_rung_again,
    what_waits_for_long_is_rung_again_less_often,
    what_has_expired_is_given_up,
);

/// No call gains priority while a test runs.
const NEVER: Duration = Duration::from_secs(3600);

const AT_ONCE: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::ZERO;

fn priority(priority: i32) -> CallOptions {
    CallOptions {
        priority: Some(priority),
        ..CallOptions::default()
    }
}

async fn due(f: &Fixture, per_fn: u32, limit: u32, ageing: Duration) -> Vec<CallId> {
    let due = f.store.due_doorbells(per_fn, limit, ageing, &[]).await;
    let due = due.expect("an answer").into_iter();
    due.map(|doorbell| doorbell.lease.call_id).collect()
}

/// The call has been due for so many milliseconds.
async fn due_since(f: &Fixture, id: &CallId, millis: i64) {
    let at = super::super::super::wall_clock()().unix_millis() - millis;
    f.sql(&format!(
        "UPDATE calls SET due_at = {at} WHERE id = '{id}'; UPDATE doorbells SET due_at = {at} WHERE call_id = '{id}'"
    ))
    .await;
}

async fn what_is_due_comes_in_order(f: Fixture) {
    let (one, two) = (Target::new(&f, "a").await, Target::new(&f, "b").await);
    let old = one.accept(&f, priority(0)).await;
    let high = two.accept(&f, priority(5)).await;
    let older = two.accept(&f, priority(0)).await;
    let middle = one.accept(&f, priority(3)).await;
    due_since(&f, &old, 50_000).await;
    due_since(&f, &older, 70_000).await;
    let by_priority = [&high, &middle, &older, &old].map(Clone::clone);
    assert_eq!(due(&f, 9, 9, NEVER).await, by_priority);
    assert_eq!(due(&f, 9, 2, NEVER).await, by_priority[..2]);
    // A step for every ten seconds: 7 for the older one, 5 for the old one.
    let aged = [&older, &old, &high, &middle].map(Clone::clone);
    assert_eq!(due(&f, 9, 9, Duration::from_secs(10)).await, aged);
    let doorbells = f
        .store
        .due_doorbells(9, 1, NEVER, &[])
        .await
        .expect("an answer");
    assert_eq!(doorbells[0].priority, 5);
    assert_eq!(doorbells[0].fn_id, two.func.id);
    assert_eq!(doorbells[0].due_at, call(&f, &high).await.due_at);
    assert_eq!(
        f.store.next_doorbell().await.expect("an answer"),
        Some(Duration::ZERO)
    );
}

async fn no_function_gets_more_than_its_share(f: Fixture) {
    let (hog, other) = (Target::new(&f, "a").await, Target::new(&f, "b").await);
    let mut hogs = Vec::new();
    for n in 0..6 {
        let id = hog.accept(&f, priority(n % 2)).await;
        due_since(&f, &id, 100_000 - i64::from(n)).await;
        hogs.push(id);
    }
    let last = other.accept(&f, priority(0)).await;
    let expected = [&hogs[1], &last, &hogs[3]].map(Clone::clone);
    assert_eq!(due(&f, 2, 9, NEVER).await, expected);
    assert_eq!(due(&f, 9, 9, NEVER).await.len(), 7);
}

/// Of more functions than a look takes, those that can ring are found.
async fn what_is_full_is_not_in_the_way_of_others(f: Fixture) {
    let mut full = Vec::new();
    for name in ["a", "b", "c"] {
        let hog = Target::new(&f, name).await;
        for level in [0, 9] {
            let id = hog.accept(&f, priority(level)).await;
            due_since(&f, &id, 100_000).await;
        }
        full.push(hog.func.id);
    }
    let other = Target::new(&f, "d").await;
    let delayed = CallOptions {
        delay_seconds: Some(100),
        ..CallOptions::default()
    };
    let id = other.accept(&f, delayed).await;
    due_since(&f, &id, 1).await;
    let found = |full: Vec<FnId>, limit| {
        let store = &f.store;
        async move {
            let due = store.due_doorbells(9, limit, NEVER, &full).await;
            let due = due.expect("an answer").into_iter();
            due.map(|doorbell| doorbell.fn_id).collect::<Vec<_>>()
        }
    };
    assert_eq!(
        found(full.clone(), 3).await,
        std::slice::from_ref(&other.func.id)
    );
    // Each has its first one before any has its second one, whatever the priorities.
    assert_eq!(found(vec![], 4).await[3], other.func.id);
    assert_eq!(found(full[1..].to_vec(), 9).await.len(), 3);
}

async fn a_delayed_call_becomes_queued_when_it_is_due(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let delayed = CallOptions {
        delay_seconds: Some(100),
        ..CallOptions::default()
    };
    assert_eq!(f.store.next_doorbell().await.expect("an answer"), None);
    let id = target.accept(&f, delayed.clone()).await;
    let cancelled = target.accept(&f, delayed).await;
    assert_eq!(due(&f, 9, 9, NEVER).await, []);
    let next = f.store.next_doorbell().await.expect("an answer");
    let next = next.expect("there is one");
    assert!(next > Duration::ZERO && next <= Duration::from_secs(100));
    f.store.cancel(&cancelled).await.expect("cancelled");
    due_now(&f, &id).await;
    assert_eq!(due(&f, 9, 9, NEVER).await, std::slice::from_ref(&id));
    assert_eq!(call(&f, &id).await.status, CallState::Queued);
    // It stays until it is confirmed.
    assert_eq!(due(&f, 9, 9, NEVER).await, std::slice::from_ref(&id));
    leased(claim_one(&f, &id).await);
    assert_eq!(due(&f, 9, 9, NEVER).await, []);
}

async fn what_was_rung_is_counted_until_it_is_claimed(f: Fixture) {
    let (one, two) = (Target::new(&f, "a").await, Target::new(&f, "b").await);
    let first = one.accept(&f, CallOptions::default()).await;
    let second = one.accept(&f, CallOptions::default()).await;
    let third = two.accept(&f, CallOptions::default()).await;
    let rung = |id: &CallId, epoch| LeaseRef {
        call_id: id.clone(),
        epoch,
    };
    let confirmed = vec![
        rung(&first, 0),
        rung(&second, 0),
        // Another claim than the doorbell's, and a call that nobody knows.
        rung(&third, 1),
        rung(&CallId::from("unknown"), 0),
    ];
    f.store.confirm_doorbells(confirmed).await.expect("noted");
    assert_eq!(due(&f, 9, 9, NEVER).await, std::slice::from_ref(&third));
    let fns = [&one.func.id, &two.func.id, &FnId::from("unknown")].map(Clone::clone);
    let counts = || async { f.store.rung_calls(fns.to_vec()).await.expect("counts") };
    assert_eq!(counts().await, BTreeMap::from([(one.func.id.clone(), 2)]));
    let lease = leased(claim_one(&f, &first).await).lease;
    assert_eq!(counts().await, BTreeMap::from([(one.func.id.clone(), 1)]));
    // A confirmation that comes late finds no doorbell; a call that is given back has a new one.
    let late = vec![rung(&first, 0)];
    f.store
        .confirm_doorbells(late.clone())
        .await
        .expect("noted");
    let returned = domain::call::AttemptOutcome::Returned;
    super::finish_one(&f, &lease, returned).await;
    f.store.confirm_doorbells(late).await.expect("noted");
    let mut waiting = due(&f, 9, 9, NEVER).await;
    waiting.sort();
    assert_eq!(waiting, [first, third]);
}

async fn what_was_rung_in_vain_is_rung_again(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let mut rung = Vec::new();
    for _ in 0..3 {
        let call_id = target.accept(&f, CallOptions::default()).await;
        rung.push(LeaseRef { call_id, epoch: 0 });
    }
    f.store
        .confirm_doorbells(rung.clone())
        .await
        .expect("noted");
    leased(claim_one(&f, &rung[2].call_id).await);
    assert_eq!(due(&f, 9, 9, NEVER).await, []);
    assert_eq!(
        f.store.ring_again(NEVER..=NEVER, 9).await.expect("a count"),
        0
    );
    assert_eq!(f.store.ring_again(AT_ONCE, 1).await.expect("a count"), 1);
    assert_eq!(f.store.ring_again(AT_ONCE, 9).await.expect("a count"), 1);
    assert_eq!(due(&f, 9, 9, NEVER).await.len(), 2);
    f.store.confirm_doorbells(rung).await.expect("noted");
    assert_eq!(due(&f, 9, 9, NEVER).await, []);
}

async fn what_waits_for_long_is_rung_again_less_often(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let minute = 60_000;
    let now = super::super::super::wall_clock()().unix_millis();
    // Since when each was due when it was rung for, five minutes ago.
    let mut rung = Vec::new();
    for minutes in [1, 4, 6, 600] {
        let id = target.accept(&f, CallOptions::default()).await;
        f.sql(&format!(
            "UPDATE doorbells SET rung_at = {at}, due_at = {at} - {waited} WHERE call_id = '{id}'",
            at = now - 5 * minute,
            waited = minutes * minute,
        ))
        .await;
        rung.push(id);
    }
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for (silence, again) in [
        (minutes(6)..=minutes(15), 0..0),
        (minutes(1)..=minutes(15), 0..2),
        (minutes(1)..=minutes(3), 2..4),
    ] {
        let count = f.store.ring_again(silence, 9).await.expect("a count");
        assert_eq!(count, again.len() as u64);
        let mut unrung = due(&f, 9, 9, NEVER).await;
        unrung.sort();
        let mut expected = rung[..again.end].to_vec();
        expected.sort();
        assert_eq!(unrung, expected);
    }
}

async fn what_has_expired_is_given_up(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let running = target.running(&f, CallOptions::default()).await.call_id;
    let first = target.accept(&f, CallOptions::default()).await;
    let second = target.accept(&f, CallOptions::default()).await;
    let kept = target.accept(&f, CallOptions::default()).await;
    for id in [&running, &first, &second] {
        f.sql(&format!(
            "UPDATE calls SET expires_at = 1 WHERE id = '{id}'; UPDATE doorbells SET expires_at = 1 WHERE call_id = '{id}'"
        ))
        .await;
    }
    assert_eq!(f.store.expire(1).await.expect("a count"), 1);
    assert_eq!(f.store.expire(9).await.expect("a count"), 1);
    assert_eq!(f.store.expire(9).await.expect("a count"), 0);
    for id in [&first, &second] {
        let record = call(&f, id).await;
        assert_eq!(record.status, CallState::Dead);
        assert_eq!(record.reason, Some(DeadReason::Expired));
    }
    assert_eq!(call(&f, &running).await.status, CallState::Running);
    assert_eq!(due(&f, 9, 9, NEVER).await, [kept]);
}
