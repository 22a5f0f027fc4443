//! How attempts end, and how that is reported.

use domain::call::Fault;
use domain::{ApiError, ErrorCode};

use super::*;
use crate::driver::Exit;
use crate::driver::fake::Step;

fn failure(outcome: AttemptOutcome) -> (Fault, bool, String) {
    match outcome {
        AttemptOutcome::Failed {
            fault,
            crashed,
            error,
            ..
        } => (fault, crashed, error),
        other => panic!("{other:?}"),
    }
}

fn text(code: ErrorCode) -> String {
    code.text().to_owned()
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart() {
    let stage = Stage::new(2);
    assert_eq!(
        failure(stage.outcome("1", "fail").await),
        (Fault::Function, false, text(ErrorCode::FunctionFailed))
    );
    assert_eq!(
        failure(stage.outcome("2", "crash").await),
        (
            Fault::Function,
            true,
            text(ErrorCode::FunctionResponseError)
        )
    );
    let mut slow = leased("3", 1, "hang");
    slow.snapshot = snapshot("slow", 1);
    stage.source.send(slow).await;
    assert_eq!(
        failure(stage.source.end_of("3").await),
        (Fault::Timeout, false, text(ErrorCode::CallTimeout))
    );
    stage.bench.script(|script| {
        script.prepare_image = Arc::new(|_| {
            let error = ApiError::from(ErrorCode::ImagePullFailed).status_override(404);
            Step::Fail(Duration::ZERO, error.detail("the registry's words"))
        });
    });
    let mut missing = leased("4", 1, "echo");
    missing.snapshot = snapshot("missing", 300);
    stage.source.send(missing).await;
    assert_eq!(
        failure(stage.source.end_of("4").await),
        (Fault::Permanent, false, text(ErrorCode::ImagePullFailed))
    );
    stage.end().await;
}

#[tokio::test]
async fn an_exhausted_memory_limit_is_told_in_the_record() {
    let stage = Stage::new(1);
    stage.bench.script(|script| {
        let run = Arc::clone(&script.run);
        script.run = Arc::new(move |process| {
            let running = run(process);
            Box::pin(async move {
                Exit {
                    out_of_memory: true,
                    ..running.await
                }
            })
        });
    });
    assert_eq!(
        failure(stage.outcome("1", "crash").await),
        (Fault::Function, true, text(ErrorCode::OutOfMemory))
    );
    stage.end().await;
}

#[tokio::test]
async fn a_call_that_finds_no_room_in_time_is_given_back() {
    let stage = Stage::with(
        1,
        Settings {
            max_wait: Duration::from_millis(50),
            ..settings()
        },
    );
    stage.running("1", "wait").await;
    let mut other = leased("2", 1, "echo");
    other.snapshot = snapshot("other", 300);
    stage.source.send(other).await;
    assert_eq!(stage.source.end_of("2").await, AttemptOutcome::Returned);
    assert!(!stage.was_seen("2"));
    stage.end().await;
}

#[tokio::test]
async fn a_report_is_repeated_until_it_has_arrived() {
    let stage = Stage::new(1);
    stage.running("1", "wait").await;
    stage.source.set(|said| said.down = true);
    stage.bench.world.release("1");
    stage.source.until(|said| said.ends.len() >= 3).await;
    stage.source.set(|said| said.down = false);
    stage.holds(0).await;
    let said = stage.source.said.borrow();
    assert!(said.ends.iter().all(|end| *end == said.ends[0]));
    drop(said);
    stage.end().await;
}

#[tokio::test]
async fn a_report_that_does_not_count_is_not_repeated() {
    let stage = Stage::new(1);
    stage.running("1", "wait").await;
    stage.source.lose("1");
    stage.bench.world.release("1");
    stage.source.end_of("1").await;
    stage.holds(0).await;
    assert_eq!(stage.source.said.borrow().ends.len(), 1);
    assert_eq!(stage.metrics.lost.get(), 1);
    stage.end().await;
}

#[tokio::test]
async fn the_rest_of_a_long_answer_is_read_and_not_kept() {
    let stage = Stage::with(
        1,
        Settings {
            max_result_bytes: 7,
            ..settings()
        },
    );
    stage.source.send(leased("1", 1, "stream")).await;
    stage.bench.seen("1").await;
    stage.bench.world.release("1");
    let AttemptOutcome::Answered { result, .. } = stage.source.end_of("1").await else {
        panic!("answered");
    };
    assert_eq!((&*result.body, result.truncated), (&b"head,ta"[..], true));
    // The function could write all of it: its container goes on.
    stage.outcome("2", "echo").await;
    assert_eq!(
        stage.bench.world.container_of("1"),
        stage.bench.world.container_of("2")
    );
    stage.end().await;
}

#[tokio::test]
async fn a_node_whose_engine_fails_stops_asking_until_it_answers() {
    let stage = Stage::with(
        4,
        Settings {
            max_calls: Some(1),
            ..settings()
        },
    );
    stage.bench.script(|script| {
        script.create = Arc::new(|_| Step::Fail(Duration::ZERO, ErrorCode::ServerBusy.into()));
    });
    for id in ["1", "2", "3"] {
        let (fault, crashed, error) = failure(stage.outcome(id, "echo").await);
        assert_eq!((fault, crashed), (Fault::Platform, false));
        assert!(error.contains("container"), "{error}");
    }
    stage.holds(0).await;
    assert_eq!(stage.source.said.borrow().credits, 0);
    stage
        .bench
        .script(|script| script.create = Arc::new(|_| Step::OK));
    // The engine answers: after the pause there is one more.
    let outcome = stage.outcome("4", "echo").await;
    assert!(matches!(outcome, AttemptOutcome::Answered { .. }));
    stage.end().await;
}

#[tokio::test]
async fn an_answer_that_is_refused_for_good_is_the_functions_failure() {
    let stage = Stage::new(1);
    stage.source.set(|said| said.answers_refused = true);
    stage.source.send(leased("1", 1, "echo")).await;
    let is_failure = |outcome: &AttemptOutcome| matches!(outcome, AttemptOutcome::Failed { .. });
    stage
        .source
        .until(|said| said.ends.iter().any(|end| is_failure(&end.outcome)))
        .await;
    let (fault, crashed, error) = failure(stage.source.end_of("1").await);
    assert_eq!((fault, crashed), (Fault::Function, false));
    assert!(error.contains("could not be kept"), "{error}");
    stage.holds(0).await;
    assert_eq!(stage.source.said.borrow().ends.len(), 3);
    stage.end().await;
}
