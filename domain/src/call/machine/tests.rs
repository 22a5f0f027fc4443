//! The rules of the machine, and what must hold in every history.

use proptest::prelude::*;

use super::*;
use crate::call::record::CallResult;

const NOW: Timestamp = Timestamp::from_unix_millis(1_000_000);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn queued(max_attempts: u32) -> Progress {
    Progress::accepted(NOW, NOW, at(i64::MAX), max_attempts)
}

fn running(max_attempts: u32) -> Progress {
    queued(max_attempts).claim(NOW).expect("queued").next
}

fn answered(status: u16) -> AttemptOutcome {
    AttemptOutcome::Answered {
        status,
        retry_after: None,
        result: CallResult::default(),
    }
}

fn failed(fault: Fault, crashed: bool) -> AttemptOutcome {
    AttemptOutcome::Failed {
        fault,
        crashed,
        retry_after: None,
        error: "failed".to_owned(),
    }
}

fn finish(call: &Progress, outcome: &AttemptOutcome) -> Move {
    call.finish(call.epoch, outcome, NOW, 0).expect("running")
}

#[test]
fn a_delayed_call_is_not_claimed_before_its_time() {
    let call = Progress::accepted(NOW, at(2_000_000), at(3_000_000), 1);
    assert_eq!(call.state, CallState::Delayed);
    assert_eq!(call.claim(at(1_999_999)), Err(Refused::NotDue));
    assert!(call.claim(at(2_000_000)).is_ok());
    assert_eq!(call.claim(at(3_000_000)), Err(Refused::Expired));
}

#[test]
fn a_stale_epoch_changes_nothing() {
    let call = running(3);
    let again = call.lease_lost(1, false, NOW, 0).expect("lost").next;
    assert_eq!(
        again.finish(1, &answered(200), NOW, 0),
        Err(Refused::NotRunning)
    );
    let again = again.claim(NOW).expect("queued").next;
    assert_eq!(again.finish(1, &answered(200), NOW, 0), Err(Refused::Stale));
    assert_eq!(
        finish(&again, &answered(200)).next.state,
        CallState::Success
    );
}

#[test]
fn attempts_are_used_up_by_the_function_only() {
    let end = |outcome| finish(&running(2), &outcome).next;
    assert_eq!(end(answered(404)).state, CallState::Success);
    for (outcome, used) in [
        (answered(500), 1),
        (failed(Fault::Function, false), 1),
        (failed(Fault::Timeout, false), 1),
        (failed(Fault::Platform, false), 0),
        (AttemptOutcome::Returned, 0),
    ] {
        let next = end(outcome.clone());
        assert_eq!(
            (next.state, next.attempts),
            (CallState::Queued, used),
            "{outcome:?}"
        );
    }
    let lost = running(2).lease_lost(1, true, NOW, 0).expect("lost").next;
    assert_eq!((lost.state, lost.attempts), (CallState::Queued, 0));
}

#[test]
fn the_last_attempt_decides_the_end() {
    let end = |max, outcome| {
        let next = finish(&running(max), &outcome).next;
        (next.state, next.reason)
    };
    let timeout = failed(Fault::Timeout, false);
    assert_eq!(end(1, timeout), (CallState::Timeout, None));
    assert_eq!(end(1, answered(503)), (CallState::Error, None));
    assert_eq!(
        end(1, failed(Fault::Function, true)),
        (CallState::Error, None)
    );
    let mut call = running(2);
    call.attempts = 1;
    let next = finish(&call, &answered(500)).next;
    assert_eq!(
        (next.state, next.reason),
        (CallState::Dead, Some(DeadReason::RetriesExhausted))
    );
    assert_eq!(
        end(9, failed(Fault::Permanent, false)),
        (CallState::Dead, Some(DeadReason::Permanent))
    );
}

/// The pauses of a call that comes back again and again by `back`.
fn pauses(back: impl Fn(&Progress) -> Move) -> Vec<i64> {
    let mut call = running(2);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let next = back(&call).next;
        assert_eq!(next.attempts, 0);
        pauses.push(next.due_at.unix_millis() - NOW.unix_millis());
        call = Progress {
            due_at: NOW,
            ..next
        };
        call = call.claim(NOW).expect("queued").next;
    }
    pauses
}

#[test]
fn what_the_platform_cannot_do_is_tried_less_and_less_often() {
    let platform = failed(Fault::Platform, false);
    let failed = pauses(|call| call.finish(call.epoch, &platform, NOW, 0).expect("running"));
    let doubled = [1000, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
    assert_eq!(failed, doubled);
    // Another runner may have at once what one gave back.
    let returned = AttemptOutcome::Returned;
    let returned = pauses(|call| call.finish(call.epoch, &returned, NOW, 0).expect("running"));
    assert_eq!((returned[0], &returned[1..]), (0, &doubled[..8]));
    // What the function did then is another matter.
    let mut call = running(9);
    call.setbacks = 9;
    let next = finish(&call, &answered(500)).next;
    assert_eq!((next.setbacks, next.due_at), (0, at(1_001_000)));
}

#[test]
fn a_call_that_kills_its_containers_is_poison() {
    let mut call = running(100);
    call.crashes = MAX_CRASHES - 1;
    let next = finish(&call, &failed(Fault::Function, true)).next;
    assert_eq!(
        (next.state, next.reason),
        (CallState::Dead, Some(DeadReason::Poison))
    );
}

#[test]
fn a_call_that_loses_its_runners_is_poison() {
    let mut call = running(1);
    for lost in 1..MAX_LEASE_LOSSES {
        // One that was lost before its function ran cannot have been the reason.
        for started in [false, true] {
            let next = call.lease_lost(call.epoch, started, NOW, 0).expect("lost");
            assert_eq!(next.next.state, CallState::Queued, "{lost}");
            call = Progress {
                due_at: NOW,
                ..next.next
            };
            call = call.claim(NOW).expect("queued").next;
        }
    }
    let next = call.lease_lost(call.epoch, true, NOW, 0).expect("lost");
    assert_eq!(
        (next.next.state, next.next.reason, next.attempt),
        (
            CallState::Dead,
            Some(DeadReason::Poison),
            Some(AttemptState::LeaseLost)
        )
    );
}

#[test]
fn no_attempt_is_promised_behind_the_expiry() {
    let call = Progress {
        expires_at: at(1_000_500),
        ..running(9)
    };
    let next = finish(&call, &answered(500)).next;
    assert_eq!(
        (next.state, next.reason),
        (CallState::Dead, Some(DeadReason::Expired))
    );
}

#[test]
fn what_the_function_asks_for_is_waited_for() {
    let outcome = AttemptOutcome::Answered {
        status: 503,
        retry_after: Some(Duration::from_secs(20)),
        result: CallResult::default(),
    };
    assert_eq!(finish(&running(9), &outcome).next.due_at, at(1_020_000));
}

#[test]
fn a_cancelled_call_takes_no_result() {
    let call = running(3);
    let cancelled = call.cancel().expect("running").next;
    assert_eq!(cancelled.state, CallState::Cancelled);
    assert!(cancelled.epoch > call.epoch);
    assert_eq!(
        cancelled.finish(call.epoch, &answered(200), NOW, 0),
        Err(Refused::Over)
    );
    assert_eq!(cancelled.cancel(), Err(Refused::Over));
    assert_eq!(
        queued(1).cancel().expect("queued").next.state,
        CallState::Cancelled
    );
}

#[derive(Debug, Clone)]
enum Step {
    Claim,
    Finish {
        behind: i64,
        outcome: AttemptOutcome,
    },
    LeaseLost {
        behind: i64,
        started: bool,
    },
    Cancel,
    GiveUp,
    Later(i64),
}

fn outcome() -> impl Strategy<Value = AttemptOutcome> {
    prop_oneof![
        (200u16..600).prop_map(answered),
        (0usize..4, any::<bool>()).prop_map(|(at, crashed)| {
            let faults = [
                Fault::Function,
                Fault::Timeout,
                Fault::Platform,
                Fault::Permanent,
            ];
            failed(faults[at], crashed)
        }),
        Just(AttemptOutcome::Returned),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Claim),
        4 => (0i64..2, outcome()).prop_map(|(behind, outcome)| Step::Finish { behind, outcome }),
        1 => (0i64..2, any::<bool>()).prop_map(|(behind, started)| Step::LeaseLost { behind, started }),
        1 => Just(Step::Cancel),
        1 => Just(Step::GiveUp),
        2 => (0i64..400_000).prop_map(Step::Later),
    ]
}

proptest! {
    #[test]
    fn every_history_is_legal(
        steps in proptest::collection::vec(step(), 0..60),
        max_attempts in 1u32..6,
        random: u64,
    ) {
        let mut now = NOW;
        let mut call = Progress::accepted(now, now, at(20_000_000), max_attempts);
        for step in steps {
            let made = match &step {
                Step::Claim => call.claim(now),
                Step::Finish { behind, outcome } => call.finish(call.epoch - behind, outcome, now, random),
                Step::LeaseLost { behind, started } => call.lease_lost(call.epoch - behind, *started, now, random),
                Step::Cancel => call.cancel(),
                Step::GiveUp => call.give_up(DeadReason::Expired),
                Step::Later(millis) => {
                    now = at(now.unix_millis() + millis);
                    continue;
                }
            };
            let Ok(Move { next, ring, attempt }) = made else {
                continue;
            };
            prop_assert!(call.state.can_become(next.state), "{:?} {:?}", call, step);
            prop_assert_eq!(call.state == CallState::Running, attempt.is_some());
            prop_assert_eq!(ring, next.state == CallState::Queued);
            prop_assert_eq!(next.reason.is_some(), next.state == CallState::Dead);
            prop_assert!(next.epoch >= call.epoch && next.attempts <= max_attempts);
            prop_assert!(!ring || (next.due_at >= now && next.due_at < next.expires_at));
            if next.state == CallState::Running {
                prop_assert_eq!(next.epoch, call.epoch + 1);
            }
            call = next;
        }
    }
}
