//! Any history of calls is the one that the machine tells: the store is compared, step by step, with
//! calls in memory that make the machine's moves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::call::{AttemptOutcome, AttemptState, CallOptions, Fault, LeaseRef, Progress, Refused};
use domain::{CallId, CallState, DeadReason, ErrorCode, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::super::super::{Claimed, Ended};
use super::super::Fixture;
use super::{LEASE, Target, answered, call, failed};

const RUNNERS: [&str; 2] = ["one", "two"];
/// No pause is over before a step says so.
const FAR: i64 = i64::MAX / 4;

#[derive(Debug, Clone)]
enum Step {
    /// Delayed; attempts; a key.
    Accept(bool, u32, Option<usize>),
    AcceptAgain(usize),
    /// The call twice in one batch with another one; the runner; whether the lease holds.
    Claim(usize, usize, usize, bool),
    Start(usize, usize, i64),
    Renew(usize, usize, i64),
    Finish(usize, usize, i64, usize),
    Cancel(usize),
    Recover,
    /// Every pause is over.
    TimePasses,
    Expire(usize),
    Ring(usize),
    RingAgain,
}

fn step() -> impl Strategy<Value = Step> {
    let call = || 0..6usize;
    let runner = || prop_oneof![9 => Just(0usize), 1 => Just(1usize)];
    let late = || prop_oneof![9 => Just(0i64), 1 => Just(1i64)];
    prop_oneof![
        4 => (prop::bool::weighted(0.2), 1..4u32, prop::option::weighted(0.3, 0..2usize))
            .prop_map(|(delayed, max, key)| Step::Accept(delayed, max, key)),
        1 => call().prop_map(Step::AcceptAgain),
        8 => (call(), call(), runner(), prop::bool::weighted(0.7))
            .prop_map(|(a, b, runner, holds)| Step::Claim(a, b, runner, holds)),
        2 => (call(), runner(), late()).prop_map(|(call, by, late)| Step::Start(call, by, late)),
        2 => (call(), runner(), late()).prop_map(|(call, by, late)| Step::Renew(call, by, late)),
        6 => (call(), runner(), late(), 0..6usize)
            .prop_map(|(call, by, late, how)| Step::Finish(call, by, late, how)),
        1 => call().prop_map(Step::Cancel),
        2 => Just(Step::Recover),
        3 => Just(Step::TimePasses),
        1 => call().prop_map(Step::Expire),
        2 => (0..4usize).prop_map(Step::Ring),
        1 => Just(Step::RingAgain),
    ]
}

/// A call in memory.
struct Model {
    progress: Progress,
    runner: Option<usize>,
    lease_holds: bool,
    /// Whether its function has begun to run.
    started: bool,
    /// Whether its doorbell was rung, if it has one.
    bell: Option<bool>,
    attempts: Vec<AttemptState>,
}

impl Model {
    fn make(&mut self, step: domain::call::Move) {
        if let Some(status) = step.attempt {
            *self.attempts.last_mut().expect("it runs") = status;
            self.runner = None;
        }
        self.progress = step.next;
        self.bell = step.ring.then_some(false);
    }
}

fn outcome(how: usize) -> AttemptOutcome {
    let crash = AttemptOutcome::Failed {
        fault: Fault::Function,
        crashed: true,
        retry_after: None,
        error: "crashed".to_owned(),
    };
    [
        answered(200),
        answered(500),
        failed(Fault::Platform),
        failed(Fault::Permanent),
        crash,
        AttemptOutcome::Returned,
    ][how]
        .clone()
}

/// The store and what it should hold.
struct World {
    f: Fixture,
    target: Target,
    calls: BTreeMap<CallId, Model>,
    /// All ids in the order in which they came, and how to hand them in again.
    given: Vec<super::Acceptance>,
    keys: BTreeMap<usize, CallId>,
}

impl World {
    fn id(&self, which: usize) -> CallId {
        match self.given.get(which) {
            Some(given) => given.call.id.clone(),
            None => CallId::from("unknown"),
        }
    }

    fn lease(&self, which: usize, late: i64) -> LeaseRef {
        let call_id = self.id(which);
        let epoch = self
            .calls
            .get(&call_id)
            .map_or(1, |call| call.progress.epoch);
        LeaseRef {
            call_id,
            epoch: epoch - late,
        }
    }

    /// Whether the lease is the one that the call has.
    fn holds(&self, lease: &LeaseRef, by: usize) -> bool {
        self.calls.get(&lease.call_id).is_some_and(|call| {
            call.progress.check_lease(lease.epoch).is_ok() && call.runner == Some(by)
        })
    }

    async fn accept(&mut self, delayed: bool, max_attempts: u32, key: Option<usize>) {
        let given = self.target.acceptance(CallOptions {
            delay_seconds: delayed.then_some(1000),
            max_attempts: Some(max_attempts),
            idempotency_key: key.map(|key| format!("k{key}")),
            ..CallOptions::default()
        });
        let id = given.call.id.clone();
        let accepted = super::accept_one(&self.f, given.clone()).await.accepted;
        if let Some(first) = key.and_then(|key| self.keys.get(&key)) {
            assert_eq!((&accepted.id, accepted.replayed), (first, true));
            return;
        }
        assert_eq!((&accepted.id, accepted.replayed), (&id, false));
        self.keys.extend(key.map(|key| (key, id.clone())));
        let now = now();
        let due = if delayed { at(FAR) } else { now };
        let progress = Progress::accepted(now, due, at(FAR + 1), max_attempts);
        self.calls.insert(
            id,
            Model {
                progress,
                runner: None,
                lease_holds: false,
                started: false,
                bell: Some(false),
                attempts: Vec::new(),
            },
        );
        self.given.push(given);
    }

    async fn claim(&mut self, a: usize, b: usize, runner: usize, holds: bool) {
        let ids = [self.id(a), self.id(b), self.id(a)];
        let lease = if holds { LEASE } else { Duration::ZERO };
        let claimed = self
            .f
            .store
            .claim(ids.to_vec(), RUNNERS[runner], lease)
            .await;
        for (id, claimed) in ids.iter().zip(claimed.expect("answers")) {
            let Some(call) = self.calls.get_mut(id) else {
                assert_eq!(claimed, Claimed::Unknown);
                continue;
            };
            match call.progress.claim(now()) {
                Ok(step) => {
                    let attempt = call.progress.attempts + 1;
                    call.make(step);
                    call.attempts.push(AttemptState::Running);
                    (call.runner, call.lease_holds) = (Some(runner), holds);
                    call.started = false;
                    let leased = super::leased(claimed);
                    assert_eq!(leased.lease.epoch, call.progress.epoch);
                    assert_eq!(leased.attempt, attempt);
                }
                Err(refused) => {
                    if refused == Refused::Expired {
                        let step = call.progress.give_up(DeadReason::Expired);
                        call.make(step.expect("it waits"));
                    }
                    assert_eq!(claimed, Claimed::Refused(refused));
                }
            }
        }
    }

    async fn finish(&mut self, which: usize, by: usize, late: i64, how: usize) {
        let lease = self.lease(which, late);
        let end = domain::call::AttemptEnd {
            lease: lease.clone(),
            outcome: outcome(how),
        };
        let ends = vec![(end.clone(), RUNNERS[by].to_owned())];
        let ended = self
            .f
            .store
            .finish(ends, 7)
            .await
            .expect("answers")
            .remove(0);
        let Some(call) = self.calls.get_mut(&lease.call_id) else {
            assert_eq!(ended, Ended::Unknown);
            return;
        };
        let step = call.progress.finish(lease.epoch, &end.outcome, now(), 7);
        match step {
            Ok(_) if call.runner != Some(by) => {
                assert_eq!(ended, Ended::Refused(Refused::Stale));
            }
            Ok(step) => {
                call.make(step);
                assert!(matches!(ended, Ended::Accepted { .. }), "{ended:?}");
            }
            Err(refused) => assert_eq!(ended, Ended::Refused(refused)),
        }
    }

    async fn cancel(&mut self, which: usize) {
        let id = self.id(which);
        let cancelled = self.f.store.cancel(&id).await;
        let Some(call) = self.calls.get_mut(&id) else {
            super::super::refused(cancelled, ErrorCode::CallNotFound);
            return;
        };
        match call.progress.cancel() {
            Ok(step) => {
                call.make(step);
                assert!(cancelled.expect("cancelled").changed);
            }
            Err(_) if call.progress.state == CallState::Cancelled => {
                assert!(!cancelled.expect("before").changed);
            }
            Err(_) => super::super::refused(cancelled, ErrorCode::CallNotCancellable),
        }
    }

    async fn recover(&mut self) {
        let recovered = self.f.store.recover_leases(100).await.expect("answers");
        let mut expected = BTreeSet::new();
        for (id, call) in &mut self.calls {
            if call.progress.state == CallState::Running && !call.lease_holds {
                let step = call
                    .progress
                    .lease_lost(call.progress.epoch, call.started, now(), 7);
                call.make(step.expect("it runs"));
                if call.bell.is_some() {
                    expected.insert((id.clone(), call.progress.epoch));
                }
            }
        }
        let recovered = recovered
            .into_iter()
            .map(|one| (one.lease.call_id, one.lease.epoch));
        assert_eq!(recovered.collect::<BTreeSet<_>>(), expected);
    }

    async fn time_passes(&mut self) {
        self.f
            .sql("UPDATE calls SET due_at = 1 WHERE state IN ('delayed', 'queued'); UPDATE doorbells SET due_at = 1")
            .await;
        for call in self.calls.values_mut() {
            if call.bell.is_some() {
                call.progress.due_at = at(1);
            }
        }
    }

    async fn expire(&mut self, which: usize) {
        let id = self.id(which);
        self.f
            .sql(&format!(
                "UPDATE calls SET expires_at = 1 WHERE id = '{id}'; UPDATE doorbells SET expires_at = 1 WHERE call_id = '{id}'"
            ))
            .await;
        let expired = self.f.store.expire(100).await.expect("a count");
        let mut expected = 0;
        if let Some(call) = self.calls.get_mut(&id) {
            call.progress.expires_at = at(1);
            if let Ok(step) = call.progress.give_up(DeadReason::Expired) {
                call.make(step);
                expected = 1;
            }
        }
        assert_eq!(expired, expected);
    }

    async fn ring(&mut self, count: usize) {
        let due = self
            .f
            .store
            .due_doorbells(100, 100, LEASE, &[])
            .await
            .expect("doorbells");
        let now = now();
        let mut expected = BTreeSet::new();
        for (id, call) in &mut self.calls {
            if call.bell == Some(false) && call.progress.due_at <= now {
                expected.insert((id.clone(), call.progress.epoch));
                call.progress.state = CallState::Queued;
            }
        }
        let found = due
            .iter()
            .map(|one| (one.lease.call_id.clone(), one.lease.epoch));
        assert_eq!(found.collect::<BTreeSet<_>>(), expected);
        let rung: Vec<LeaseRef> = due.into_iter().take(count).map(|one| one.lease).collect();
        for lease in &rung {
            if let Some(call) = self.calls.get_mut(&lease.call_id) {
                call.bell = Some(true);
            }
        }
        self.f.store.confirm_doorbells(rung).await.expect("noted");
    }

    async fn ring_again(&mut self) {
        let rung = self
            .f
            .store
            .ring_again(Duration::ZERO..=Duration::ZERO, 100)
            .await
            .expect("a count");
        let mut expected = 0;
        for call in self
            .calls
            .values_mut()
            .filter(|call| call.bell == Some(true))
        {
            call.bell = Some(false);
            expected += 1;
        }
        assert_eq!(rung, expected);
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Accept(delayed, max, key) => self.accept(delayed, max, key).await,
            Step::AcceptAgain(which) => {
                if let Some(given) = self.given.get(which) {
                    let again = super::accept_one(&self.f, given.clone()).await;
                    assert_eq!(again.accepted.id, given.call.id);
                    assert!(!again.accepted.replayed && again.doorbell.is_none());
                }
            }
            Step::Claim(a, b, runner, holds) => self.claim(a, b, runner, holds).await,
            Step::Start(which, by, late) => {
                let lease = self.lease(which, late);
                let held = self
                    .f
                    .store
                    .start(vec![lease.clone()], RUNNERS[by], LEASE)
                    .await;
                let holds = held.expect("an answer") == [lease.clone()];
                let in_time = self.calls.get(&lease.call_id);
                let in_time = in_time.is_some_and(|call| call.lease_holds);
                assert_eq!(holds, self.holds(&lease, by) && in_time);
                if let Some(call) = self.calls.get_mut(&lease.call_id).filter(|_| holds) {
                    call.started = true;
                }
            }
            Step::Renew(which, by, late) => {
                let lease = self.lease(which, late);
                let held = self
                    .f
                    .store
                    .renew(vec![lease.clone()], RUNNERS[by], LEASE)
                    .await;
                let holds = held.expect("an answer") == [lease.clone()];
                assert_eq!(holds, self.holds(&lease, by));
                if let Some(call) = self.calls.get_mut(&lease.call_id).filter(|_| holds) {
                    call.lease_holds = true;
                }
            }
            Step::Finish(which, by, late, how) => self.finish(which, by, late, how).await,
            Step::Cancel(which) => self.cancel(which).await,
            Step::Recover => self.recover().await,
            Step::TimePasses => self.time_passes().await,
            Step::Expire(which) => self.expire(which).await,
            Step::Ring(count) => self.ring(count).await,
            Step::RingAgain => self.ring_again().await,
        }
    }

    /// Every call is as it should be.
    async fn check(&mut self) {
        let now = now();
        for (id, model) in &mut self.calls {
            let record = call(&self.f, id).await;
            let progress = &mut model.progress;
            assert_eq!(record.status, progress.state);
            assert_eq!(record.reason, progress.reason);
            assert_eq!(record.epoch, progress.epoch);
            assert_eq!(record.attempts, progress.attempts);
            let runner = model.runner.map(|runner| RUNNERS[runner].to_owned());
            assert_eq!(record.runner_id, runner);
            assert_eq!(record.completed_at.is_unset(), !progress.state.is_final());
            let attempts = self.f.store.call_attempts(id).await.expect("kept");
            let attempts = attempts.iter().map(|one| one.status);
            assert_eq!(attempts.collect::<Vec<_>>(), model.attempts);
            let waits = matches!(progress.state, CallState::Delayed | CallState::Queued);
            assert_eq!(model.bell.is_some(), waits);
            // A pause that the store chose ends when a step says so.
            if waits && progress.due_at > now && progress.due_at != at(FAR) {
                progress.due_at = at(FAR);
            }
        }
        let far = format!(
            "UPDATE calls SET due_at = {FAR} WHERE due_at > {now}; UPDATE doorbells SET due_at = {FAR} WHERE due_at > {now};
             UPDATE calls SET expires_at = {FAR} + 1 WHERE expires_at > 1; UPDATE doorbells SET expires_at = {FAR} + 1 WHERE expires_at > 1",
            now = now.unix_millis()
        );
        self.f.sql(&far).await;
        let rung = self.calls.values().filter(|call| call.bell == Some(true));
        let rung = rung.count() as u64;
        let fns = vec![self.target.func.id.clone()];
        let counted = self.f.store.rung_calls(fns).await.expect("counts");
        assert_eq!(counted.values().sum::<u64>(), rung);
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn now() -> Timestamp {
    super::super::super::wall_clock()()
}

async fn follow(f: Fixture, steps: Vec<Step>) {
    let target = Target::new(&f, "a").await;
    let mut world = World {
        f,
        target,
        calls: BTreeMap::new(),
        given: Vec::new(),
        keys: BTreeMap::new(),
    };
    for step in steps {
        world.take(step).await;
        world.check().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_machine_does(steps in vec(step(), 1..40)) {
        Runtime::new().expect("a runtime").block_on(async {
            follow(Fixture::sqlite().await, steps).await;
        });
    }

    #[test]
    fn postgres_does_what_the_machine_does(steps in vec(step(), 1..40)) {
        Runtime::new().expect("a runtime").block_on(async {
            follow(Fixture::postgres().await, steps).await;
        });
    }
}
