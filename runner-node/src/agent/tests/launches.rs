//! Starts of containers: who hears of a failure, and that nobody who waits is forgotten.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::ApiError;

use super::*;
use crate::driver::Exit;

fn busy() -> ApiError {
    ErrorCode::ServerBusy.into()
}

/// spec/11 11.5 BadContainer1, 2.
#[tokio::test]
async fn a_container_that_exits_before_it_listens_fails_its_call() {
    let bench = Bench::new(1);
    let f = starting("f", "exit");
    assert_eq!(
        bench.error(&f, "1", "echo").await,
        ErrorCode::ContainerInitFailed
    );
    assert_eq!(bench.metric("fn_container_uds_init_latency_count"), 1);
    bench.end().await;
}

/// spec/11 11.5 HungFDK.
#[tokio::test]
async fn a_container_that_never_listens_fails_its_call_when_the_time_is_up() {
    let bench = Bench::with(
        1,
        Settings {
            hot_start_timeout: Some(Duration::from_millis(50)),
            ..settings()
        },
    );
    let f = starting("f", "hang");
    assert_eq!(
        bench.error(&f, "1", "echo").await,
        ErrorCode::ContainerInitTimeout
    );
    assert_eq!(bench.metrics.timeouts.get(), 1);
    bench.end().await;
}

/// spec/11 11.5 DockerPullHungRepo.
#[tokio::test]
async fn a_pull_that_hangs_fails_its_call_when_the_time_is_up() {
    let bench = Bench::with(
        1,
        Settings {
            hot_pull_timeout: Some(Duration::from_millis(50)),
            ..settings()
        },
    );
    bench.script(|script| script.prepare_image = Arc::new(|_| Step::Hang));
    assert_eq!(
        bench.error(&function("f"), "1", "echo").await,
        ErrorCode::ImagePullTimeout
    );
    bench.end().await;
}

/// spec/11 11.5 SlotErrorRetention.
#[tokio::test]
async fn an_error_of_the_driver_goes_to_its_call_and_does_not_stick() {
    let bench = Bench::new(1);
    let f = function("f");
    let fail = Step::Fail(Duration::ZERO, ErrorCode::SyslogUnavailable.into());
    for round in 0..3 {
        bench.script(|script| match round {
            0 => {
                script.prepare_image = Arc::new({
                    let fail = fail.clone();
                    move |_| fail.clone()
                })
            }
            1 => {
                script.create = Arc::new({
                    let fail = fail.clone();
                    move |_| fail.clone()
                })
            }
            _ => {
                script.start = Arc::new({
                    let fail = fail.clone();
                    move |_| fail.clone()
                })
            }
        });
        assert_eq!(
            bench.error(&f, "1", "echo").await,
            ErrorCode::SyslogUnavailable
        );
        assert!(bench.driver.state().containers.is_empty());
        bench.script(|_| ());
        let (container, _) = bench.call(&f, "2").await;
        bench.world.kill(&container);
        bench.until(|state| state.containers.is_empty()).await;
    }
    bench.end().await;
}

/// Else each of them would wait for a pull of its own, one after the other.
#[tokio::test]
async fn all_who_wait_hear_that_there_is_no_image() {
    let bench = Bench::with(
        9,
        Settings {
            hot_poll: NEVER,
            processors: 1,
            ..settings()
        },
    );
    let f = function("f");
    let pull = Arc::new(AtomicBool::new(true));
    bench.script({
        let pull = Arc::clone(&pull);
        |script| {
            script.prepare_image = Arc::new(move |_| match pull.swap(false, Ordering::SeqCst) {
                true => Step::Fail(Duration::from_millis(50), ErrorCode::ImagePullFailed.into()),
                false => Step::Hang,
            });
        }
    });
    let mut calls = Vec::new();
    for nth in 1..=3 {
        calls.push(bench.waiting(&f, &nth.to_string(), "echo", nth).await);
    }
    for call in calls {
        assert_eq!(refused(call).await, ErrorCode::ImagePullFailed);
    }
    bench.end().await;
}

#[tokio::test]
async fn a_running_container_still_serves_those_who_cannot_get_another() {
    let bench = Bench::new(9);
    let f = function("f");
    bench.call(&f, "1").await;
    let running = bench.start(&f, "2", "wait");
    bench.seen("2").await;
    let pull = AtomicBool::new(true);
    bench.script(|script| {
        script.prepare_image = Arc::new(move |_| match pull.swap(false, Ordering::SeqCst) {
            true => Step::Fail(Duration::from_millis(50), ErrorCode::ImagePullFailed.into()),
            false => Step::Hang,
        });
    });
    let first = bench.waiting(&f, "3", "echo", 1).await;
    let second = bench.waiting(&f, "4", "echo", 2).await;
    assert_eq!(refused(first).await, ErrorCode::ImagePullFailed);
    bench.world.release("2");
    answered(running).await;
    answered(second).await;
    bench.end().await;
}

#[tokio::test]
async fn others_do_not_hear_of_a_failed_start_and_get_a_start_of_their_own() {
    // Only a failure or an end makes the launcher look again.
    let bench = Bench::with(
        2,
        Settings {
            hot_poll: NEVER,
            processors: 1,
            ..settings()
        },
    );
    let f = function("f");
    let fails = AtomicBool::new(true);
    bench.script(|script| {
        script.create = Arc::new(move |_| match fails.swap(false, Ordering::SeqCst) {
            true => Step::Fail(Duration::from_millis(50), busy()),
            false => Step::OK,
        });
    });
    let first = bench.waiting(&f, "1", "echo", 1).await;
    let second = bench.waiting(&f, "2", "echo", 2).await;
    assert_eq!(refused(first).await, ErrorCode::ServerBusy);
    answered(second).await;
    assert_eq!(bench.driver.state().created, 1);
    bench.end().await;
}

/// The younger call's container goes to the older one, whose own container then fails.
#[tokio::test]
async fn a_call_whose_container_went_to_an_older_call_gets_another() {
    let bench = Bench::new(3);
    let f = function("f");
    let first = AtomicBool::new(true);
    let world = Arc::clone(&bench.world);
    bench.script(|script| {
        script.run = Arc::new(move |process| {
            let world = Arc::clone(&world);
            let fails = first.swap(false, Ordering::SeqCst);
            Box::pin(async move {
                if fails {
                    world.may_start().await;
                    return Exit {
                        code: 1,
                        out_of_memory: false,
                    };
                }
                function::run(process, world).await
            })
        });
    });
    let older = bench.waiting(&f, "1", "wait", 1).await;
    bench.until(|state| state.started == 1).await;
    let younger = bench.start(&f, "2", "echo");
    bench.seen("1").await;
    bench.world.let_start();
    answered(younger).await;
    bench.world.release("1");
    answered(older).await;
    bench.end().await;
}

/// It is not the poll that serves a call whose function has lost its only container.
#[tokio::test]
async fn a_waiting_call_gets_a_container_as_soon_as_the_busy_one_is_gone() {
    let one = Settings {
        hot_poll: NEVER,
        processors: 1,
        ..settings()
    };
    let bench = Bench::with(1, one);
    let f = function("f");
    let running = bench.running(&f, "1", "hang").await;
    let waiting = bench.waiting(&f, "2", "echo", 1).await;
    bench.world.kill(&bench.world.container_of("1"));
    assert_eq!(refused(running).await, ErrorCode::FunctionResponseError);
    answered(waiting).await;
    bench.end().await;
}

#[tokio::test]
async fn a_long_call_is_a_reason_for_another_container() {
    let bench = Bench::with(
        2,
        Settings {
            processors: 1,
            ..settings()
        },
    );
    let f = function("f");
    let long = bench.running(&f, "1", "wait").await;
    // Served while the long one still runs.
    bench.call(&f, "2").await;
    bench.world.release("1");
    answered(long).await;
    bench.end().await;
}

/// One call wakes the only container, another one comes meanwhile.
#[tokio::test]
async fn a_container_that_was_handed_out_does_not_count_as_free() {
    let bench = Bench::with(
        2,
        Settings {
            hot_poll: NEVER,
            freeze_idle: Some(Duration::ZERO),
            ..settings()
        },
    );
    let f = starting("f", "wait");
    // Nothing is known of the function but that it has started.
    let gone = bench.waiting(&f, "0", "echo", 1).await;
    bench.until(|state| state.started == 1).await;
    gone.abort();
    bench.world.let_start();
    bench.until(|state| state.frozen == 1).await;
    eventually("it is idle", async || {
        bench.metric("fn_container_paused_total") == 1
    })
    .await;
    bench.script(|script| script.thaw = Arc::new(|_| Step::Succeed(Duration::from_millis(100))));
    let first = bench.start(&f, "1", "wait");
    let function = bench.agent.shared.function(&f);
    eventually("it is taken", async || {
        function.queue.idle_since(0).is_none()
    })
    .await;
    bench.call(&f, "2").await;
    bench.world.release("1");
    answered(first).await;
    assert_eq!(bench.driver.state().created, 2);
    bench.end().await;
}

#[tokio::test]
async fn a_full_node_makes_calls_wait_until_there_is_room_or_their_time_is_up() {
    let bench = Bench::new(1);
    let (f, g) = (
        Target::new(FnSpec {
            idle_timeout: Duration::ZERO,
            ..spec("f")
        }),
        function("g"),
    );
    let running = bench.running(&f, "1", "wait").await;
    let mut short = call(&g, "2", "echo");
    short.wait_deadline = Some(Instant::now() + Duration::from_millis(50));
    let error = soon(bench.agent.submit(short)).await.expect_err("busy");
    assert_eq!(error.code(), ErrorCode::ServerBusy);
    let patient = bench.waiting(&g, "3", "echo", 1).await;
    bench.world.release("1");
    answered(running).await;
    answered(patient).await;
    bench.end().await;
}

/// spec/11 11.5 NBIOResourceTracker.
#[tokio::test]
async fn a_full_node_that_must_not_be_waited_for_refuses_at_once() {
    let bench = Bench::with(
        4,
        Settings {
            non_blocking_resources: true,
            hot_poll: NEVER,
            ..settings()
        },
    );
    let calls: Vec<_> = (0..10)
        .map(|n| bench.start(&function(&format!("f{n}")), &n.to_string(), "wait"))
        .collect();
    eventually("refusals", async || bench.metrics.server_busy.get() == 6).await;
    bench.world.release_all();
    let mut served = 0;
    for handle in calls {
        match soon(handle).await.expect("no panic") {
            Ok(_) => served += 1,
            Err(error) => assert_eq!(error.code(), ErrorCode::ServerBusy),
        }
    }
    assert_eq!(served, 4);
    bench.end().await;
}

#[tokio::test]
async fn a_launch_that_nobody_waits_for_leaves_the_line_for_resources() {
    let bench = Bench::new(1);
    let f = function("f");
    let running = bench.running(&f, "1", "wait").await;
    let gone = bench.waiting(&function("g"), "2", "echo", 1).await;
    assert_eq!(bench.metric("fn_container_wait_total"), 1);
    gone.abort();
    eventually("the launch is given up", async || {
        bench.metric("fn_container_wait_total") == 0
    })
    .await;
    bench.world.release("1");
    answered(running).await;
    bench.end().await;
}

#[tokio::test]
async fn a_container_whose_caller_went_away_serves_the_next_call() {
    let bench = Bench::new(1);
    let f = starting("f", "wait");
    let gone = bench.waiting(&f, "1", "echo", 1).await;
    bench.until(|state| state.started == 1).await;
    gone.abort();
    bench.world.let_start();
    bench.call(&f, "2").await;
    assert_eq!(bench.driver.state().created, 1);
    bench.end().await;
}
