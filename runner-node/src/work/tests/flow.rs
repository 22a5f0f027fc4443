//! The flow of calls: connections, credits, and the end.

use domain::call::Fault;
use hybrid_client::Work;

use super::*;
use crate::agent::tests::function;

#[tokio::test]
async fn a_lost_connection_is_opened_again_and_its_credits_are_gone() {
    let stage = Stage::new(2);
    stage.running("1", "wait").await;
    stage.source.set(|said| said.down = true);
    stage.source.cut();
    stage.source.set(|said| said.down = false);
    stage
        .source
        .until(|said| said.opened == 2 && said.credits > 0)
        .await;
    // What was begun goes on.
    stage.bench.world.release("1");
    stage.source.end_of("1").await;
    stage.outcome("2", "echo").await;
    stage.end().await;
}

#[tokio::test]
async fn no_more_calls_are_asked_for_than_may_be_in_hand() {
    let stage = Stage::with(
        1,
        Settings {
            max_calls: Some(2),
            ..settings()
        },
    );
    stage.running("1", "wait").await;
    stage.in_hand("2", "echo").await;
    assert_eq!(stage.metrics.credits.get(), 0);
    assert_eq!(stage.source.said.borrow().credits, 0);
    stage.bench.world.release("1");
    stage.source.end_of("2").await;
    stage.source.until(|said| said.credits > 0).await;
    stage.end().await;
}

#[tokio::test]
async fn a_busy_node_asks_for_nothing_until_it_has_room() {
    let stage = Stage::with(
        2,
        Settings {
            high_water_percent: 50,
            max_calls: Some(1),
            ..settings()
        },
    );
    stage.running("1", "wait").await;
    // A client's call takes all that is left, and another one waits.
    let (g, h) = (function("g"), function("h"));
    let client = stage.bench.start(&g, "g", "wait");
    stage.bench.seen("g").await;
    stage.bench.world.release("1");
    stage.source.end_of("1").await;
    stage.holds(0).await;
    // The durable call's container is idle, so that half of the node is at work: no credit.
    let other = stage.bench.start(&h, "h", "wait");
    stage.bench.seen("h").await;
    assert_eq!(stage.source.said.borrow().credits, 0);
    for id in ["g", "h"] {
        stage.bench.world.release(id);
    }
    for client in [client, other] {
        let response = soon(client).await.expect("no panic").expect("an answer");
        drop(response);
    }
    stage.source.until(|said| said.credits > 0).await;
    stage.end().await;
}

#[tokio::test]
async fn a_draining_runner_gives_back_what_functions_have_not_seen() {
    let stage = Stage::new(1);
    stage.running("1", "wait").await;
    stage.in_hand("2", "echo").await;
    stage.work.drain();
    assert_eq!(stage.source.end_of("2").await, AttemptOutcome::Returned);
    stage.bench.world.release("1");
    let outcome = stage.source.end_of("1").await;
    assert!(matches!(outcome, AttemptOutcome::Answered { .. }));
    assert!(!stage.was_seen("2"));
    stage.end().await;
}

#[tokio::test]
async fn a_call_that_was_on_its_way_to_a_draining_runner_is_given_back() {
    let stage = Stage::new(1);
    stage.source.until(|said| said.credits > 0).await;
    let way = stage.source.way();
    stage.work.drain();
    let call = Box::new(leased("1", 1, "echo"));
    way.send(Work::Run(call)).await.expect("connected");
    assert_eq!(stage.source.end_of("1").await, AttemptOutcome::Returned);
    stage.end().await;
}

#[tokio::test]
async fn what_runs_beyond_the_deadline_is_cut_off_and_not_the_functions_fault() {
    let stage = Stage::new(1);
    stage.running("1", "hang").await;
    let container = stage.bench.world.container_of("1");
    soon(stage.work.close(Instant::now())).await;
    let AttemptOutcome::Failed { fault, crashed, .. } = stage.source.end_of("1").await else {
        panic!("cut off");
    };
    assert_eq!((fault, crashed), (Fault::Platform, false));
    soon(
        stage
            .bench
            .driver
            .until(|state| !state.containers.contains_key(&container)),
    )
    .await;
    stage.end().await;
}
