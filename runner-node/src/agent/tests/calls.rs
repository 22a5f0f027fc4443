//! Calls and their containers: which container a call gets, and what becomes of it afterwards.

use super::*;

/// The last one used serves next, so that the others can reach their idle time-out (spec/04 4.4).
#[tokio::test]
async fn the_most_recently_used_container_serves_next() {
    let bench = Bench::new(2);
    let f = function("f");
    let first = bench.running(&f, "1", "wait").await;
    let second = bench.running(&f, "2", "wait").await;
    bench.world.release("2");
    let (younger, _) = answered(second).await;
    bench.world.release("1");
    let (older, _) = answered(first).await;
    assert_ne!(older, younger);
    for id in ["3", "4", "5"] {
        assert_eq!(
            bench.call(&f, id).await,
            (older.clone(), format!("input of {id}"))
        );
    }
    assert_eq!(bench.driver.state().created, 2);
    bench.end().await;
}

#[tokio::test]
async fn waiting_calls_are_served_in_the_order_of_their_arrival() {
    let bench = Bench::new(1);
    let f = function("f");
    let mut calls = vec![bench.running(&f, "0", "wait").await];
    for n in 1..6 {
        calls.push(bench.waiting(&f, &n.to_string(), "echo", n).await);
    }
    bench.world.release("0");
    for handle in calls {
        answered(handle).await;
    }
    let seen: Vec<_> = bench
        .world
        .seen
        .borrow()
        .iter()
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5"]);
    bench.end().await;
}

/// spec/03 3.1: who is reused, and who is not.
#[tokio::test]
async fn a_container_is_kept_after_an_honest_failure_and_discarded_after_a_broken_call() {
    let bench = Bench::new(3);
    let f = function("f");
    let (first, _) = bench.call(&f, "0").await;
    assert_eq!(
        bench.error(&f, "1", "fail").await,
        ErrorCode::FunctionFailed
    );
    assert_eq!(bench.call(&f, "2").await.0, first);
    let mut last = first;
    for (what, code) in [
        ("invalid", ErrorCode::FunctionInvalidResponse),
        ("crash", ErrorCode::FunctionResponseError),
    ] {
        assert_eq!(bench.error(&f, what, what).await, code);
        assert_eq!(bench.world.container_of(what), last);
        let (next, _) = bench.call(&f, "next").await;
        assert_ne!(next, last, "{what}");
        bench
            .until(|state| !state.containers.contains_key(&last))
            .await;
        last = next;
    }
    assert_eq!(bench.metrics.completed.get(), 4);
    assert_eq!(bench.metrics.errors.get(), 3);
    bench.end().await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends_with_504_and_its_container_is_discarded() {
    let bench = Bench::new(1);
    let f = Target::new(FnSpec {
        timeout: Duration::from_millis(50),
        ..spec("f")
    });
    assert_eq!(bench.error(&f, "1", "hang").await, ErrorCode::CallTimeout);
    bench.call(&f, "2").await;
    assert_ne!(bench.world.container_of("1"), bench.world.container_of("2"));
    assert_eq!(bench.metrics.timeouts.get(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_call_whose_client_goes_away_costs_its_container_and_nothing_else() {
    let bench = Bench::new(1);
    let f = function("f");
    let running = bench.running(&f, "1", "hang").await;
    let waiting = bench.waiting(&f, "2", "echo", 1).await;
    waiting.abort();
    let patient = bench.waiting(&f, "3", "echo", 1).await;
    running.abort();
    answered(patient).await;
    assert_ne!(bench.world.container_of("1"), bench.world.container_of("3"));
    assert_eq!(bench.metrics.canceled.get(), 2);
    bench.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_its_answer_costs_the_container() {
    let bench = Bench::new(1);
    let f = function("f");
    let response = soon(bench.agent.submit(call(&f, "1", "stream")))
        .await
        .expect("a head");
    drop(response.body);
    bench.call(&f, "2").await;
    assert_ne!(bench.world.container_of("1"), bench.world.container_of("2"));
    assert_eq!(bench.metrics.canceled.get(), 1);
    bench.end().await;
}

#[tokio::test]
async fn an_answer_that_flows_holds_its_container_to_the_end() {
    let bench = Bench::new(1);
    let f = function("f");
    let response = soon(bench.agent.submit(call(&f, "1", "stream")))
        .await
        .expect("a head");
    let waiting = bench.waiting(&f, "2", "echo", 1).await;
    assert_eq!(bench.metrics.running.get(), 1);
    bench.world.release("1");
    assert_eq!(text(response.body).await, "head,tail");
    answered(waiting).await;
    assert_eq!(bench.world.container_of("1"), bench.world.container_of("2"));
    bench.end().await;
}

#[tokio::test]
async fn a_call_that_cannot_be_sent_gets_another_container() {
    let bench = Bench::new(2);
    let f = function("f");
    let (first, _) = bench.call(&f, "1").await;
    bench.world.deafen(&first).await;
    let (second, output) = bench.call(&f, "2").await;
    assert_ne!(second, first);
    assert_eq!(output, "input of 2");
    bench
        .until(|state| !state.containers.contains_key(&first))
        .await;
    // The call counts once.
    let metrics = &bench.metrics;
    assert_eq!(
        (
            metrics.calls.get(),
            metrics.completed.get(),
            metrics.errors.get()
        ),
        (2, 2, 0)
    );
    bench.end().await;
}

#[tokio::test]
async fn a_call_that_cannot_be_sent_to_a_new_container_is_answered_with_its_error() {
    let bench = Bench::new(1);
    let f = starting("f", "deaf");
    assert_eq!(
        bench.error(&f, "1", "echo").await,
        ErrorCode::FunctionResponseError
    );
    assert_eq!(bench.driver.state().created, 1);
    bench.end().await;
}

#[tokio::test]
async fn a_call_that_was_not_sent_waits_no_longer_than_it_may() {
    let bench = Bench::new(1);
    let f = function("f");
    let (first, _) = bench.call(&f, "1").await;
    bench.script(|script| script.start = Arc::new(|_| Step::Hang));
    bench.world.deafen(&first).await;
    let mut late = call(&f, "2", "echo");
    late.wait_deadline = Some(Instant::now() + Duration::from_millis(50));
    let error = soon(bench.agent.submit(late)).await.expect_err("busy");
    assert_eq!(error.code(), ErrorCode::ServerBusy);
    assert_eq!(bench.metrics.server_busy.get(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_container_that_dies_while_it_is_idle_is_removed_and_replaced() {
    let bench = Bench::new(1);
    let f = function("f");
    let (first, _) = bench.call(&f, "1").await;
    bench.world.kill(&first);
    let state = bench.until(|state| state.removed == 1).await;
    assert_eq!(state.created, 1);
    assert_ne!(bench.call(&f, "2").await.0, first);
    bench.end().await;
}

/// The process ends during a call that is answered all the same: its slot must not stay behind.
#[tokio::test]
async fn a_container_that_dies_during_its_call_is_not_kept() {
    let bench = Bench::new(1);
    let f = function("f");
    for n in 0..50 {
        // The answer may get out, or not.
        let _ = soon(bench.agent.submit(call(&f, &n.to_string(), "die"))).await;
        bench.until(|state| state.removed == n + 1).await;
    }
    eventually("all slots are gone", async || {
        bench.metric("fn_container_idle_total") == 0
    })
    .await;
    bench.call(&f, "last").await;
    bench.end().await;
}

#[tokio::test]
async fn a_detached_call_is_answered_at_its_start_and_runs_to_its_end() {
    let bench = Bench::new(1);
    let f = function("f");
    let detached = CallRequest {
        detached: true,
        ..call(&f, "1", "stream")
    };
    let response = soon(bench.agent.submit(detached)).await.expect("accepted");
    assert_eq!(text(response.body).await, "");
    bench.seen("1").await;
    let next = bench.waiting(&f, "2", "echo", 1).await;
    bench.world.release("1");
    answered(next).await;
    assert_eq!(bench.world.container_of("1"), bench.world.container_of("2"));
    assert_eq!(bench.metrics.completed.get(), 2);
    bench.end().await;
}

#[tokio::test]
async fn a_detached_call_that_finds_no_container_is_refused() {
    let bench = Bench::new(1);
    let f = starting("f", "exit");
    let detached = CallRequest {
        detached: true,
        ..call(&f, "1", "echo")
    };
    let error = soon(bench.agent.submit(detached))
        .await
        .expect_err("not accepted");
    assert_eq!(error.code(), ErrorCode::ContainerInitFailed);
    bench.end().await;
}

/// spec/11 11.5 GetCallReturnsResourceImpossibility.
#[tokio::test]
async fn a_function_that_is_larger_than_the_node_is_refused_at_once() {
    let bench = Bench::new(1);
    let f = Target::new(FnSpec {
        memory_mb: MEMORY_MB + 1,
        ..spec("f")
    });
    assert_eq!(
        bench.error(&f, "1", "echo").await,
        ErrorCode::ResourcesImpossible
    );
    assert_eq!(bench.driver.state().prepared, 0);
    bench.end().await;
}

#[tokio::test]
async fn the_first_call_of_a_container_tells_what_its_start_took() {
    let bench = Bench::new(1);
    let f = starting("f", "slow");
    let first = soon(bench.agent.submit(call(&f, "1", "echo")))
        .await
        .expect("an answer")
        .timings;
    assert!(
        first.container_init >= Duration::from_millis(20),
        "{first:?}"
    );
    let second = soon(bench.agent.submit(call(&f, "2", "echo")))
        .await
        .expect("an answer")
        .timings;
    assert!(
        second.container_init.is_zero() && second.container_create.is_zero(),
        "{second:?}"
    );
    bench.end().await;
}
