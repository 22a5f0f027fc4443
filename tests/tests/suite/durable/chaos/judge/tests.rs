//! Each rule of the judge has a history that breaks it.

use std::time::Duration;

use domain::call::AttemptState as A;
use domain::{CallKind, CallRecord, Timestamp};

use super::super::clients::Told;
use super::super::plan::{Cancel, Door, Plan};
use super::*;

const ID: &str = "01M0CA11000000000000000000";

fn plan(function: usize) -> Plan {
    Plan {
        call: 7,
        function,
        door: Door::Detached,
        key: None,
        delay: None,
        expiry: None,
        priority: None,
        max_attempts: None,
        cancel: Cancel::Never,
        pause: Duration::ZERO,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000 + seconds * 1_000)
}

fn call(status: CallState, reason: Option<DeadReason>, attempts: &[A]) -> History {
    let claims = i64::try_from(attempts.len()).expect("few");
    let attempt = |(number, status): (i64, &A)| Attempt {
        epoch: number,
        status: *status,
        runner_id: "runner".to_owned(),
        claimed_at: at(number),
        started_at: at(number),
        ended_at: match status {
            A::Running => Timestamp::default(),
            _ => at(number),
        },
        error: None,
        result_status: None,
    };
    let failed = attempts
        .iter()
        .filter(|status| matches!(status, A::Error | A::Timeout));
    let call = CallRecord {
        id: ID.to_owned().into(),
        status,
        kind: CallKind::Async,
        app_id: "app".to_owned().into(),
        fn_id: "fn".to_owned().into(),
        trigger_id: None,
        path: "/invoke/fn".to_owned(),
        method: "POST".to_owned(),
        url: String::new(),
        image: String::new(),
        priority: 0,
        tags: [("call".to_owned(), "7".to_owned())].into(),
        attempts: u32::try_from(failed.count()).expect("few"),
        max_attempts: 3,
        epoch: claims + i64::from(attempts.last() == Some(&A::Cancelled)),
        reason,
        error: None,
        origin_id: None,
        callback_url: None,
        runner_id: None,
        result_status: None,
        created_at: at(0),
        due_at: Timestamp::default(),
        expires_at: Timestamp::default(),
        started_at: Timestamp::default(),
        completed_at: at(9),
    };
    let attempts = (1..).zip(attempts).map(attempt).collect();
    History { call, attempts }
}

/// One call of the function with this number, that ended so after so many runs.
fn evidence(function: usize, history: &History, begun: usize, ended: usize) -> Evidence {
    let plan = plan(function);
    let nature = plan.nature();
    let books: Books = [(ID.to_owned(), history.clone())].into();
    let runs = Runs { begun, ended };
    Evidence {
        accounts: vec![Account {
            plan,
            told: Told::Accepted(ID.to_owned()),
            looked: Some(http::StatusCode::OK),
            cancel: None,
        }],
        first: books.clone(),
        second: books,
        executions: [(ID.to_owned(), runs)]
            .into_iter()
            .filter(|(_, runs)| runs.begun > 0)
            .collect(),
        left: vec![("doorbells", 0)],
        natures: [("fn".to_owned(), nature)].into(),
    }
}

#[track_caller]
fn finds(evidence: &Evidence, expected: &str) {
    let found = evidence.faults().join("\n");
    assert!(found.contains(expected), "{expected}: {found}");
}

const SUCCEEDS: usize = 0;
const FAILS: usize = 13;

fn good() -> Evidence {
    let history = call(CallState::Success, None, &[A::Success]);
    evidence(SUCCEEDS, &history, 1, 1)
}

fn change(mut evidence: Evidence, change: impl Fn(&mut History)) -> Evidence {
    for books in [&mut evidence.first, &mut evidence.second] {
        books.values_mut().for_each(&change);
    }
    evidence
}

#[test]
fn what_may_happen_is_no_fault() {
    let exhausted = Some(DeadReason::RetriesExhausted);
    let histories = [
        (SUCCEEDS, call(CallState::Success, None, &[A::Success]), 1),
        (
            SUCCEEDS,
            call(
                CallState::Success,
                None,
                &[A::LeaseLost, A::Returned, A::Success],
            ),
            3,
        ),
        // An execution of a lost lease may not have come to the function.
        (
            SUCCEEDS,
            call(CallState::Success, None, &[A::LeaseLost, A::Success]),
            1,
        ),
        (
            FAILS,
            call(
                CallState::Dead,
                exhausted,
                &[A::Error, A::LeaseLost, A::Error, A::Error],
            ),
            4,
        ),
    ];
    for (function, history, begun) in histories {
        let found = evidence(function, &history, begun, 1).faults();
        assert_eq!(found, [""; 0]);
    }
    let mut cancelled = evidence(
        SUCCEEDS,
        &call(CallState::Cancelled, None, &[A::Cancelled]),
        1,
        0,
    );
    cancelled.accounts[0].cancel = Some(CancelTold::Cancelled);
    assert_eq!(cancelled.faults(), [""; 0]);
    let mut expired = evidence(
        SUCCEEDS,
        &call(CallState::Dead, Some(DeadReason::Expired), &[]),
        0,
        0,
    );
    expired.accounts[0].plan.expiry = Some(1);
    assert_eq!(expired.faults(), [""; 0]);
}

#[test]
fn lost_and_unknown_calls_are_found() {
    let mut lost = good();
    lost.first.clear();
    lost.second.clear();
    finds(&lost, "is lost");
    finds(&lost, "nobody knows it");
    let mut hidden = good();
    hidden.accounts[0].looked = Some(http::StatusCode::NOT_FOUND);
    finds(&hidden, "not found");
    let queued = call(CallState::Queued, None, &[]);
    finds(&evidence(SUCCEEDS, &queued, 0, 0), "is in flight");
    let mut left = good();
    left.left = vec![("doorbells", 2)];
    finds(&left, "2 doorbells are left");
    let mut foreign = good();
    foreign
        .second
        .values_mut()
        .for_each(|history| history.call.tags.clear());
    finds(&foreign, "is nobody's");
}

#[test]
fn a_final_state_that_changes_is_found() {
    let mut changed = good();
    let dead = call(
        CallState::Dead,
        Some(DeadReason::RetriesExhausted),
        &[A::Error],
    );
    changed.first.insert(ID.to_owned(), dead);
    finds(&changed, "has changed");
    let mut gone = good();
    gone.second.clear();
    finds(&gone, "is gone");
    let mut late = good();
    late.first.clear();
    finds(&late, "was not there a moment ago");
}

#[test]
fn illegal_histories_are_found() {
    let of =
        |state, reason, attempts: &[A]| evidence(SUCCEEDS, &call(state, reason, attempts), 1, 1);
    let success = |attempts: &[A]| of(CallState::Success, None, attempts);
    finds(
        &change(good(), |history| history.attempts[0].epoch = 2),
        "wrong numbers",
    );
    finds(
        &change(good(), |history| history.call.epoch = 3),
        "another epoch",
    );
    finds(
        &success(&[A::Running, A::Success]),
        "an attempt of it is not",
    );
    finds(&success(&[A::Success, A::Success]), "went on after its end");
    finds(&success(&[A::LeaseLost]), "does not end as");
    finds(&success(&[]), "does not end as");
    finds(&of(CallState::Dead, None, &[A::Error]), "does not end as");
    finds(
        &change(good(), |history| history.call.attempts = 1),
        "has used 1 attempts",
    );
}

#[test]
fn executions_without_a_reason_are_found() {
    let once = call(CallState::Success, None, &[A::Success]);
    finds(
        &evidence(SUCCEEDS, &once, 2, 2),
        "ran 2 times, and 1 attempts were started",
    );
    finds(&evidence(SUCCEEDS, &once, 0, 0), "never ran to its end");
    let unstarted = change(evidence(SUCCEEDS, &once, 1, 1), |history| {
        history.attempts[0].started_at = Timestamp::default();
    });
    finds(&unstarted, "0 attempts were started");
    let never = call(CallState::Cancelled, None, &[]);
    let mut ran = evidence(SUCCEEDS, &never, 1, 1);
    ran.accounts[0].cancel = Some(CancelTold::Cancelled);
    finds(&ran, "ran 1 times");
}

#[test]
fn broken_promises_to_clients_are_found() {
    let mut cancelled = good();
    cancelled.accounts[0].cancel = Some(CancelTold::Cancelled);
    finds(&cancelled, "was cancelled, and is");
    let by_nobody = call(CallState::Cancelled, None, &[]);
    finds(&evidence(SUCCEEDS, &by_nobody, 0, 0), "cancelled by nobody");
    let mut twice = good();
    let mut other = twice.second[ID].clone();
    other.call.id = "other".to_owned().into();
    twice.second.insert("other".to_owned(), other);
    finds(&twice, "was made 2 times");
}

#[test]
fn ends_against_the_nature_of_a_function_are_found() {
    let dead = call(
        CallState::Dead,
        Some(DeadReason::RetriesExhausted),
        &[A::Error, A::Error, A::Error],
    );
    finds(
        &evidence(SUCCEEDS, &dead, 3, 0),
        "of a function that succeeds",
    );
    assert_eq!(evidence(FAILS, &dead, 3, 3).faults(), [""; 0]);
    let success = call(CallState::Success, None, &[A::Success]);
    finds(&evidence(FAILS, &success, 1, 1), "of a function that fails");
    let expired = call(CallState::Dead, Some(DeadReason::Expired), &[]);
    finds(
        &evidence(SUCCEEDS, &expired, 0, 0),
        "of a function that succeeds",
    );
}

#[test]
fn the_ledger_is_read() {
    let lines = ["begin a 1", "begin a 2", "end a 2", "begin b 1"].map(str::to_owned);
    let read = executions(&lines);
    assert_eq!(read["a"], Runs { begun: 2, ended: 1 });
    assert_eq!(read["b"], Runs { begun: 1, ended: 0 });
}
