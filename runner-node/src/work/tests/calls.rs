//! One call: its fence, its container, its lease.

use domain::call::AttemptOutcome;
use hybrid_client::Work;

use super::*;
use crate::agent::tests::call;
use crate::driver::contract::eventually;

#[tokio::test]
async fn a_call_is_run_and_its_answer_is_reported() {
    let stage = Stage::new(1);
    let outcome = stage.outcome("1", "echo").await;
    let AttemptOutcome::Answered { status, result, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(status, 200);
    assert_eq!(&*result.body, b"input of 1");
    assert!(!result.truncated);
    assert_eq!(
        result.headers.get("container"),
        Some(&*stage.bench.world.container_of("1"))
    );
    assert_eq!(stage.source.said.borrow().starts, [lease("1", 1)]);
    assert_eq!(stage.metrics.started.get(), 1);
    stage.end().await;
}

/// The same container serves calls of clients and durable ones.
#[tokio::test]
async fn durable_calls_share_hot_containers_with_those_of_clients() {
    let stage = Stage::new(2);
    stage.outcome("1", "echo").await;
    let function = target(&snapshot("f", 300));
    let (container, _) = stage.bench.call(&function, "2").await;
    assert_eq!(container, stage.bench.world.container_of("1"));
    stage.end().await;
}

#[tokio::test]
async fn a_function_sees_nothing_before_the_lease_is_confirmed() {
    let stage = Stage::new(1);
    stage.source.set(|said| said.start_held = true);
    stage.source.send(leased("1", 1, "echo")).await;
    stage.source.until(|said| said.starts.len() == 1).await;
    assert_eq!(stage.bench.driver.state().started, 1);
    assert!(!stage.was_seen("1"));
    stage.source.set(|said| said.start_held = false);
    stage.source.end_of("1").await;
    assert!(stage.was_seen("1"));
    stage.end().await;
}

#[tokio::test]
async fn a_lost_lease_leaves_the_container_as_it_was() {
    let stage = Stage::new(1);
    stage.source.lose("1");
    stage.source.send(leased("1", 1, "echo")).await;
    stage.source.until(|said| said.starts.len() == 1).await;
    stage.holds(0).await;
    let outcome = stage.outcome("2", "echo").await;
    assert!(matches!(outcome, AttemptOutcome::Answered { .. }));
    assert!(!stage.was_seen("1"));
    assert_eq!(stage.bench.driver.state().created, 1);
    assert_eq!(stage.source.said.borrow().ends.len(), 1);
    assert_eq!(stage.metrics.lost.get(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_at_the_fence_leaves_the_container_as_it_was() {
    let stage = Stage::new(1);
    stage.source.set(|said| said.start_held = true);
    stage.source.send(leased("1", 1, "echo")).await;
    stage.source.until(|said| said.starts.len() == 1).await;
    stage.source.tell(Work::Cancelled(lease("1", 1))).await;
    stage.holds(0).await;
    stage.source.set(|said| said.start_held = false);
    stage.outcome("2", "echo").await;
    assert!(!stage.was_seen("1"));
    assert_eq!(stage.bench.driver.state().created, 1);
    stage.end().await;
}

/// The container serves others while it is not known whether the call may run.
#[tokio::test]
async fn a_call_whose_lease_cannot_be_confirmed_waits_without_its_container() {
    let stage = Stage::new(1);
    stage.source.until(|said| said.credits > 0).await;
    stage.source.set(|said| said.down = true);
    stage.source.send(leased("1", 1, "echo")).await;
    stage.source.until(|said| !said.starts.is_empty()).await;
    let function = target(&snapshot("f", 300));
    stage.bench.call(&function, "client").await;
    assert!(!stage.was_seen("1"));
    stage.source.set(|said| said.down = false);
    let outcome = stage.source.end_of("1").await;
    assert!(matches!(outcome, AttemptOutcome::Answered { .. }));
    assert_eq!(stage.bench.driver.state().created, 1);
    stage.end().await;
}

#[tokio::test]
async fn a_call_whose_lease_was_never_confirmed_is_never_run() {
    let stage = Stage::new(1);
    stage.source.until(|said| said.credits > 0).await;
    stage.source.set(|said| said.down = true);
    let mut call = leased("1", 1, "echo");
    call.lease_for = SHORT;
    stage.source.send(call).await;
    stage.source.until(|said| !said.starts.is_empty()).await;
    stage.holds(0).await;
    assert!(!stage.was_seen("1"));
    assert!(stage.source.said.borrow().ends.is_empty());
    assert_eq!(stage.metrics.lost.get(), 1);
    stage.source.set(|said| said.down = false);
    stage.end().await;
}

#[tokio::test]
async fn a_running_call_is_renewed() {
    let stage = Stage::new(1);
    let mut call = leased("1", 1, "wait");
    call.lease_for = SHORT;
    stage.source.send(call).await;
    stage.source.until(|said| !said.renewals.is_empty()).await;
    stage.bench.world.release("1");
    let outcome = stage.source.end_of("1").await;
    assert!(matches!(outcome, AttemptOutcome::Answered { .. }));
    stage.end().await;
}

/// Whether it is told that the lease is lost, or nothing.
#[tokio::test]
async fn a_running_call_without_a_lease_is_stopped_with_its_container() {
    for told in [true, false] {
        let stage = Stage::new(1);
        let mut call = leased("1", 1, "hang");
        call.lease_for = SHORT;
        stage.source.send(call).await;
        stage.bench.seen("1").await;
        let container = stage.bench.world.container_of("1");
        stage.source.set(|said| match told {
            true => {
                said.lost.insert(lease("1", 1));
            }
            false => said.down = true,
        });
        soon(
            stage
                .bench
                .driver
                .until(|state| !state.containers.contains_key(&container)),
        )
        .await;
        stage.holds(0).await;
        assert!(stage.source.said.borrow().ends.is_empty());
        assert_eq!(stage.metrics.lost.get(), 1);
        stage.source.set(|said| said.down = false);
        stage.end().await;
    }
}

#[tokio::test]
async fn a_cancelled_call_is_stopped_with_its_container() {
    let stage = Stage::new(1);
    stage.running("1", "hang").await;
    let container = stage.bench.world.container_of("1");
    stage.in_hand("2", "echo").await;
    for id in ["2", "1"] {
        stage.source.tell(Work::Cancelled(lease(id, 1))).await;
    }
    soon(
        stage
            .bench
            .driver
            .until(|state| !state.containers.contains_key(&container)),
    )
    .await;
    stage.holds(0).await;
    assert!(!stage.was_seen("2"));
    assert!(stage.source.said.borrow().ends.is_empty());
    stage.end().await;
}

#[tokio::test]
async fn a_claim_that_comes_twice_is_run_once() {
    let stage = Stage::new(2);
    stage.running("1", "wait").await;
    stage.source.send(leased("1", 1, "wait")).await;
    stage.outcome("2", "echo").await;
    stage.bench.world.release("1");
    stage.source.end_of("1").await;
    let seen = stage.bench.world.seen.borrow().clone();
    assert_eq!(seen.iter().filter(|(id, _)| id == "1").count(), 1);
    stage.end().await;
}

#[tokio::test]
async fn calls_of_clients_go_first() {
    let stage = Stage::new(1);
    stage.running("0", "wait").await;
    stage.in_hand("1", "echo").await;
    stage.in_hand("2", "echo").await;
    let function = target(&snapshot("f", 300));
    let client = stage.bench.start(&function, "client", "echo");
    eventually("three calls that wait", async || {
        stage.bench.metrics.queued.get() == 3
    })
    .await;
    stage.bench.world.release("0");
    soon(client).await.expect("no panic").expect("an answer");
    for id in ["1", "2"] {
        stage.source.end_of(id).await;
    }
    let seen = stage.bench.world.seen.borrow().clone();
    let order: Vec<_> = seen.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(order[..2], ["0", "client"]);
    stage.end().await;
}

/// The answer to the client is one of the agent, too.
#[tokio::test]
async fn a_client_and_a_durable_call_do_not_meet_in_a_container() {
    let stage = Stage::new(2);
    let function = target(&snapshot("f", 300));
    for n in 0..30 {
        stage.source.send(leased(&format!("d{n}"), 1, "nap")).await;
        let client = stage
            .bench
            .agent
            .submit(call(&function, &format!("c{n}"), "nap"));
        soon(client).await.expect("an answer");
    }
    for n in 0..30 {
        stage.source.end_of(&format!("d{n}")).await;
    }
    // Two calls in one container would be found at the end.
    stage.end().await;
}
