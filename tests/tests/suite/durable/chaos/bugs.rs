//! The tests of the test: with each of these bugs planted, the judge finds fault. The search for
//! silent calls, which would mend what some of them break, comes too late on purpose.

use std::time::Duration;

use super::troubles::{Severity, Trouble, Victim};
use super::{Scale, run};

/// A small chaos of troubles that this bug does not survive.
fn scale(bug: &'static str, troubles: &'static [(Victim, Trouble)]) -> Scale {
    Scale {
        calls: 150,
        clients: 16,
        longest_pause: 1_500,
        kills: 0,
        severity: Severity {
            troubles,
            links: false,
            pause: (200, 1_000),
            longest_halt: 8_000,
            longest_absence: 1_500,
        },
        abort_at: "",
        bug: Some(bug),
        silence: "1h",
        patience: Duration::from_secs(90),
    }
}

/// A fault is found of which this is true.
async fn is_found(scale: Scale, expected: impl Fn(&str) -> bool) {
    let (evidence, count) = run(&scale).await;
    let faults = evidence.faults();
    println!("{count:?}\n{}", faults.join("\n"));
    assert!(
        faults.iter().any(|fault| expected(fault)),
        "{:?} is not found",
        scale.bug
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doorbell_that_is_acknowledged_before_the_claim_is_found() {
    let scale = Scale {
        abort_at: "delivery-before-claim:0.05",
        ..scale("ack-before-commit", &[(Victim::Api, Trouble::Dies)])
    };
    is_found(scale, |fault| fault.contains("is in flight")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_counts_without_a_lease_is_found() {
    // The sleepwalker reports what others have taken over.
    let scale = Scale {
        calls: 300,
        longest_pause: 3_000,
        ..scale("no-epoch-check", &[(Victim::Lb, Trouble::Dies)])
    };
    is_found(scale, |fault| {
        fault.contains("is over, and an attempt of it is not")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_waits_for_no_confirm_is_found() {
    let scale = scale(
        "relay-without-confirms",
        &[(Victim::Broker, Trouble::Drowns)],
    );
    is_found(scale, |fault| fault.contains("is in flight")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_never_renewed_is_found() {
    let scale = scale("lease-never-renewed", &[(Victim::Lb, Trouble::Dies)]);
    // It is taken from runner after runner, though none has died.
    is_found(scale, |fault| {
        fault.contains("is in flight") && fault.matches("lease_lost").count() > 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doorbell_that_is_forgotten_before_it_is_confirmed_is_found() {
    let scale = scale(
        "forgotten-before-confirm",
        &[(Victim::Broker, Trouble::Drowns)],
    );
    is_found(scale, |fault| fault.contains("is in flight")).await;
}
