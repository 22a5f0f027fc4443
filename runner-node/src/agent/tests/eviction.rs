//! Room for a container of one function, made by an idle one of another.

use super::*;

/// spec/11 11.5 PlainDoEvict.
#[tokio::test]
async fn an_idle_neighbour_makes_room_frozen_or_not() {
    for freeze_idle in [None, Some(Duration::ZERO)] {
        let bench = Bench::with(
            1,
            Settings {
                freeze_idle,
                non_blocking_resources: true,
                ..settings()
            },
        );
        let (f, g) = (function("f"), function("g"));
        let (old, _) = bench.call(&f, "1").await;
        if freeze_idle.is_some() {
            eventually("it is paused", async || {
                bench.metric("fn_container_paused_total") == 1
            })
            .await;
        }
        bench.call(&g, "2").await;
        assert!(!bench.driver.state().containers.contains_key(&old));
        assert_eq!(bench.metric("fn_container_evictions"), 1);
        bench.end().await;
    }
}

/// spec/11 11.5 PlainNoEvict.
#[tokio::test]
async fn a_busy_neighbour_is_left_alone() {
    let bench = Bench::with(
        1,
        Settings {
            non_blocking_resources: true,
            ..settings()
        },
    );
    let (f, g) = (function("f"), function("g"));
    let running = bench.running(&f, "1", "wait").await;
    assert_eq!(bench.error(&g, "2", "echo").await, ErrorCode::ServerBusy);
    bench.world.release("1");
    answered(running).await;
    bench.call(&g, "3").await;
    bench.end().await;
}

#[tokio::test]
async fn a_call_that_waits_for_room_gets_that_of_a_neighbour_who_becomes_idle() {
    let bench = Bench::with(
        1,
        Settings {
            hot_poll: NEVER,
            ..settings()
        },
    );
    let (f, g) = (function("f"), function("g"));
    let running = bench.running(&f, "1", "wait").await;
    let waiting = bench.waiting(&g, "2", "echo", 1).await;
    bench.world.release("1");
    answered(running).await;
    answered(waiting).await;
    // And back again.
    bench.call(&f, "3").await;
    assert_eq!(bench.metric("fn_container_evictions"), 2);
    bench.end().await;
}

/// spec/11 11.5 HungFDKNoEvict, DockerPullHungNoEvict.
#[tokio::test]
async fn a_starting_neighbour_is_left_alone() {
    let bench = Bench::with(
        1,
        Settings {
            non_blocking_resources: true,
            ..settings()
        },
    );
    let (f, g) = (starting("f", "wait"), function("g"));
    let slow = bench.waiting(&f, "1", "echo", 1).await;
    bench.until(|state| state.started == 1).await;
    assert_eq!(bench.error(&g, "2", "echo").await, ErrorCode::ServerBusy);
    bench.world.let_start();
    answered(slow).await;
    bench.end().await;

    let bench = Bench::with(
        1,
        Settings {
            non_blocking_resources: true,
            ..settings()
        },
    );
    bench.script(|script| script.prepare_image = Arc::new(|_| Step::Hang));
    let pulling = bench.waiting(&function("f"), "1", "echo", 1).await;
    eventually("the pull", async || {
        bench.metric("fn_container_start_total") == 1
    })
    .await;
    assert_eq!(
        bench.error(&function("g"), "2", "echo").await,
        ErrorCode::ServerBusy
    );
    bench.agent.drain();
    assert_eq!(refused(pulling).await, ErrorCode::ServerBusy);
    bench.end().await;
}

#[tokio::test]
async fn a_function_whose_calls_never_pause_makes_room_for_another() {
    let bench = Bench::new(2);
    let (f, g) = (function("f"), function("g"));
    // Twice as many callers as there is room for: a free container always has a call that waits.
    let over = CancellationToken::new();
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (agent, f, over) = (bench.agent.clone(), Arc::clone(&f), over.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !over.is_cancelled() {
                    let id = format!("f{caller}-{calls}");
                    answer(
                        agent
                            .submit(call(&f, &id, "echo"))
                            .await
                            .expect("an answer"),
                    )
                    .await;
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    bench.until(|state| state.started == 2).await;
    bench.call(&g, "g1").await;
    // And the busy one goes on: with the rest of the node, and later with all of it.
    bench.seen_more().await;
    over.cancel();
    for caller in callers {
        assert!(soon(caller).await.expect("no panic") > 0);
    }
    bench.end().await;
}
