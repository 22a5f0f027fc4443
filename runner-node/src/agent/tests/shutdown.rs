//! The end of an agent, and of functions that nobody uses any more.

use super::*;

#[tokio::test]
async fn a_draining_agent_refuses_calls_and_finishes_those_that_run() {
    let bench = Bench::new(1);
    let f = function("f");
    let running = bench.running(&f, "1", "wait").await;
    let waiting = bench.waiting(&f, "2", "echo", 1).await;
    bench.agent.ready().await.expect("ready");
    bench.agent.drain();
    assert_eq!(refused(waiting).await, ErrorCode::ServerBusy);
    assert_eq!(bench.error(&f, "3", "echo").await, ErrorCode::ServerBusy);
    assert_eq!(
        bench.agent.ready().await.expect_err("closing").code(),
        ErrorCode::ServerBusy
    );
    let drained = tokio::spawn({
        let agent = bench.agent.clone();
        async move { agent.drained().await }
    });
    assert!(!drained.is_finished());
    bench.world.release("1");
    assert_eq!(answered(running).await.1, "input of 1");
    soon(drained).await.expect("no panic");
    bench.close().await;
}

#[tokio::test]
async fn an_answer_that_flows_is_a_running_call() {
    let bench = Bench::new(1);
    let response = soon(bench.agent.submit(call(&function("f"), "1", "stream")))
        .await
        .expect("a head");
    bench.agent.drain();
    let agent = bench.agent.clone();
    let mut drained = std::pin::pin!(agent.drained());
    let early = futures_util::future::poll_immediate(&mut drained).await;
    assert!(early.is_none(), "a call runs");
    bench.world.release("1");
    assert_eq!(text(response.body).await, "head,tail");
    soon(drained).await;
    bench.close().await;
}

/// However long the call may take.
#[tokio::test]
async fn closing_cuts_off_what_runs() {
    let bench = Bench::new(2);
    let f = Target::new(FnSpec {
        timeout: NEVER,
        ..spec("f")
    });
    let running = bench.running(&f, "1", "hang").await;
    let flowing = soon(bench.agent.submit(call(&f, "2", "stream")))
        .await
        .expect("a head");
    soon(bench.agent.close()).await;
    assert_eq!(refused(running).await, ErrorCode::FunctionResponseError);
    assert!(
        soon(flowing.body.collect()).await.is_err(),
        "never a silent cut"
    );
    bench.close().await;
}

#[tokio::test]
async fn closing_ends_starts_pulls_and_waits() {
    for stage in ["pull", "create", "start", "listen", "room", "thaw"] {
        let freeze_idle = (stage == "thaw").then_some(Duration::ZERO);
        let bench = Bench::with(
            1,
            Settings {
                freeze_idle,
                ..settings()
            },
        );
        let f = starting("f", if stage == "listen" { "hang" } else { "" });
        match stage {
            "pull" => bench.script(|script| script.prepare_image = Arc::new(|_| Step::Hang)),
            "create" => bench.script(|script| script.create = Arc::new(|_| Step::Hang)),
            "start" => bench.script(|script| script.start = Arc::new(|_| Step::Hang)),
            "room" => drop(bench.running(&function("g"), "0", "hang").await),
            "thaw" => {
                bench.call(&f, "0").await;
                bench.until(|state| state.frozen == 1).await;
                bench.script(|script| script.thaw = Arc::new(|_| Step::Hang));
            }
            _ => {}
        }
        let waiting = bench.start(&f, "1", "echo");
        let begun = match stage {
            "room" => "fn_container_wait_total",
            "thaw" => "fn_queued",
            _ => "fn_container_start_total",
        };
        eventually(stage, async || bench.metric(begun) == 1).await;
        soon(bench.agent.close()).await;
        assert_eq!(refused(waiting).await, ErrorCode::ServerBusy, "{stage}");
        bench.close().await;
    }
}

#[tokio::test]
async fn a_function_that_was_not_used_for_long_is_forgotten_and_may_come_back() {
    let bench = Bench::with(
        1,
        Settings {
            hot_launcher_timeout: Some(Duration::ZERO),
            ..settings()
        },
    );
    let f = Target::new(FnSpec {
        idle_timeout: Duration::from_millis(5),
        ..spec("f")
    });
    let known = || {
        bench
            .agent
            .shared
            .shard(&f.slot_key)
            .read()
            .expect("no panic")
            .len()
    };
    let running = bench.running(&f, "1", "wait").await;
    bench.agent.shared.retire_functions();
    assert_eq!(known(), 1, "it runs a call");
    bench.world.release("1");
    answered(running).await;
    bench.until(|state| state.removed == 1).await;
    eventually("it is forgotten", async || {
        bench.agent.shared.retire_functions();
        known() == 0
    })
    .await;
    // So are its metrics.
    eventually("no metrics", async || {
        !bench.registry.render().contains("fn_container_idle_total{")
    })
    .await;
    bench.call(&f, "2").await;
    bench.end().await;
}
