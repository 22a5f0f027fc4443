//! Two moves of one call at once: one of them is first, and the other one sees it.

use std::sync::Arc;
use std::time::Duration;

use domain::call::{AttemptEnd, AttemptState, CallOptions, LeaseRef, Refused};
use domain::{CallId, CallState, ErrorCode};
use tokio::task::JoinSet;

use super::super::super::{Claimed, Ended, Store};
use super::super::{Fixture, contract};
use super::{LEASE, RUNNER, Target, answered, call, leased, new_id};

contract!(
    a_call_is_claimed_once,
    a_cancelled_call_is_not_claimed,
    an_end_and_a_lease_that_ran_out_do_not_both_count,
    a_renewed_lease_is_not_taken_back,
    a_dead_call_has_one_successor,
    batches_in_any_order_do_not_stop_each_other,
);

const ROUNDS: usize = 8;

/// Two stores on one database, as two API nodes have them.
async fn stores(f: &Fixture) -> [Arc<dyn Store>; 2] {
    [
        Arc::clone(&f.store),
        f.open_again().await.expect("a second store"),
    ]
}

async fn waiting(f: &Fixture, target: &Target, count: usize) -> Vec<CallId> {
    let all: Vec<_> = (0..count)
        .map(|_| target.acceptance(CallOptions::default()))
        .collect();
    let answers = f.store.accept(all).await.expect("answers");
    let ids = answers
        .into_iter()
        .map(|answer| answer.expect("accepted").accepted.id);
    ids.collect()
}

async fn a_call_is_claimed_once(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let stores = stores(&f).await;
    let ids = waiting(&f, &target, 20).await;
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let (store, mut ids) = (Arc::clone(&stores[n % 2]), ids.clone());
        // Nobody names them in the same order.
        ids.rotate_left(n * 2);
        tasks.spawn(async move {
            let runner = format!("runner-{n}");
            store.claim(ids, &runner, LEASE).await.expect("answers")
        });
    }
    let answers = tasks.join_all().await.concat();
    let mut won: Vec<LeaseRef> = Vec::new();
    for answer in answers {
        match answer {
            Claimed::Leased(leased) => won.push(leased.lease),
            other => assert_eq!(other, Claimed::Refused(Refused::Running)),
        }
    }
    won.sort_by(|a, b| a.call_id.cmp(&b.call_id));
    let expected = ids
        .into_iter()
        .map(|call_id| LeaseRef { call_id, epoch: 1 });
    assert_eq!(won, expected.collect::<Vec<_>>());
}

async fn a_cancelled_call_is_not_claimed(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let [one, two] = stores(&f).await;
    for id in waiting(&f, &target, ROUNDS).await {
        let wanted = vec![id.clone()];
        let (claimed, cancelled) = tokio::join!(one.claim(wanted, RUNNER, LEASE), two.cancel(&id));
        let claimed = claimed.expect("an answer").remove(0);
        let cancelled = cancelled.expect("nothing ends it otherwise");
        assert!(cancelled.changed);
        match claimed {
            // The claim was first: whoever cancelled knows whom to tell.
            Claimed::Leased(leased) => {
                let was_running = Some((leased.lease, RUNNER.to_owned()));
                assert_eq!(cancelled.was_running, was_running);
            }
            other => {
                assert_eq!(other, Claimed::Refused(Refused::Over));
                assert_eq!(cancelled.was_running, None);
            }
        }
        assert_eq!(call(&f, &id).await.status, CallState::Cancelled);
    }
}

async fn an_end_and_a_lease_that_ran_out_do_not_both_count(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let [one, two] = stores(&f).await;
    for id in waiting(&f, &target, ROUNDS).await {
        let claimed = one.claim(vec![id.clone()], RUNNER, Duration::ZERO).await;
        let lease = leased(claimed.expect("an answer").remove(0)).lease;
        let end = AttemptEnd {
            lease,
            outcome: answered(200),
        };
        let (ended, recovered) = tokio::join!(
            one.finish(vec![(end, RUNNER.to_owned())], 0),
            two.recover_leases(9)
        );
        let ended = ended.expect("an answer").remove(0);
        let recovered = recovered.expect("an answer");
        let record = call(&f, &id).await;
        let attempts = f.store.call_attempts(&id).await.expect("kept");
        if recovered.is_empty() {
            assert!(matches!(ended, Ended::Accepted { .. }));
            assert_eq!(record.status, CallState::Success);
            assert_eq!(attempts[0].status, AttemptState::Success);
        } else {
            assert_eq!(ended, Ended::Refused(Refused::NotRunning));
            assert_eq!(record.status, CallState::Queued);
            assert_eq!(attempts[0].status, AttemptState::LeaseLost);
        }
    }
}

async fn a_renewed_lease_is_not_taken_back(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let [one, two] = stores(&f).await;
    for id in waiting(&f, &target, ROUNDS).await {
        let claimed = one.claim(vec![id.clone()], RUNNER, Duration::ZERO).await;
        let lease = leased(claimed.expect("an answer").remove(0)).lease;
        let (held, recovered) = tokio::join!(
            one.renew(vec![lease.clone()], RUNNER, LEASE),
            two.recover_leases(9)
        );
        let held = held.expect("an answer");
        let recovered = recovered.expect("an answer");
        assert_eq!(held.len() + recovered.len(), 1);
        let running = call(&f, &id).await.status == CallState::Running;
        assert_eq!(running, recovered.is_empty());
    }
}

async fn a_dead_call_has_one_successor(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let stores = stores(&f).await;
    let ids = waiting(&f, &target, 4).await;
    f.sql("UPDATE doorbells SET expires_at = 1").await;
    assert_eq!(f.store.expire(9).await.expect("a count"), 4);
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let (store, mut ids) = (Arc::clone(&stores[n % 2]), ids.clone());
        ids.rotate_left(n % 4);
        tasks.spawn(async move {
            let wishes = ids.iter().map(|id| (id.clone(), new_id())).collect();
            let answers = store.redrive(wishes).await.expect("answers");
            let made = answers
                .into_iter()
                .map(|one| one.expect("redriven").accepted.id);
            ids.into_iter().zip(made).collect::<Vec<_>>()
        });
    }
    let mut made = tasks.join_all().await.concat();
    made.sort();
    made.dedup();
    assert_eq!(made.len(), ids.len(), "{made:?}");
    for (old, new) in made {
        assert_eq!(call(&f, &new).await.origin_id, Some(old));
    }
    let filter = super::super::super::CallFilter {
        states: vec![CallState::Queued],
        ..Default::default()
    };
    let page = super::super::page(None, 100);
    let queued = f.store.calls(&filter, &page).await.expect("a page");
    assert_eq!(queued.items.len(), ids.len());
}

async fn batches_in_any_order_do_not_stop_each_other(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let stores = stores(&f).await;
    let ids = waiting(&f, &target, 60).await;
    let claimed = f.store.claim(ids.clone(), RUNNER, Duration::ZERO).await;
    let leases: Vec<LeaseRef> = claimed
        .expect("answers")
        .into_iter()
        .map(|one| leased(one).lease)
        .collect();
    let mut tasks = JoinSet::new();
    for n in 0..12 {
        let (store, mut leases) = (Arc::clone(&stores[n % 2]), leases.clone());
        leases.rotate_left(n * 5);
        if n % 2 == 0 {
            leases.reverse();
        }
        tasks.spawn(async move {
            match n % 6 {
                0 => store.start(leases, RUNNER, LEASE).await.map(drop),
                1 => store.renew(leases, RUNNER, LEASE).await.map(drop),
                2 => store.confirm_doorbells(leases).await,
                3 => store.recover_leases(60).await.map(drop),
                4 => match store.cancel(&leases[0].call_id).await {
                    Err(error) if error.code() == ErrorCode::CallNotCancellable => Ok(()),
                    other => other.map(drop),
                },
                _ => {
                    let end = |lease| AttemptEnd {
                        lease,
                        outcome: answered(200),
                    };
                    let ends = leases
                        .into_iter()
                        .map(|lease| (end(lease), RUNNER.to_owned()));
                    store.finish(ends.collect(), 0).await.map(drop)
                }
            }
        });
    }
    for result in tasks.join_all().await {
        result.expect("an answer");
    }
    // Whatever was first: a call runs exactly as long as its attempt does, and waits exactly as long
    // as it has a doorbell, which may have been confirmed.
    let again = f
        .store
        .ring_again(Duration::ZERO..=Duration::ZERO, 100)
        .await;
    again.expect("a count");
    let doorbells = f
        .store
        .due_doorbells(100, 100, LEASE, &[])
        .await
        .expect("an answer");
    for id in ids {
        let status = call(&f, &id).await.status;
        let attempts = f.store.call_attempts(&id).await.expect("kept");
        let running = attempts
            .iter()
            .any(|one| one.status == AttemptState::Running);
        assert_eq!(running, status == CallState::Running);
        let waits = doorbells.iter().any(|one| one.lease.call_id == id);
        assert_eq!(waits, status == CallState::Queued);
    }
}
