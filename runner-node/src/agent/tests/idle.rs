//! Idle containers: frozen, thawed, timed out.

use super::*;
use crate::driver::fake::FakeContainerState;

fn freezing(after: Duration) -> Settings {
    Settings {
        freeze_idle: Some(after),
        ..settings()
    }
}

fn short_lived() -> Arc<Target> {
    Target::new(FnSpec {
        idle_timeout: Duration::from_millis(50),
        ..spec("f")
    })
}

fn is_frozen(state: &FakeState) -> bool {
    state
        .containers
        .values()
        .all(|at| *at == FakeContainerState::Frozen)
}

#[tokio::test]
async fn an_idle_container_goes_when_its_time_is_up_whatever_the_freeze_delay() {
    for freeze_idle in [None, Some(NEVER), Some(Duration::ZERO)] {
        let bench = Bench::with(
            1,
            Settings {
                freeze_idle,
                ..settings()
            },
        );
        let f = short_lived();
        bench.call(&f, "1").await;
        let state = bench.until(|state| state.removed == 1).await;
        assert_eq!(
            state.frozen,
            usize::from(freeze_idle == Some(Duration::ZERO))
        );
        bench.call(&f, "2").await;
        assert_eq!(bench.driver.state().created, 2);
        bench.end().await;
    }
}

#[tokio::test]
async fn an_idle_container_is_frozen_thawed_for_a_call_and_frozen_again() {
    let bench = Bench::with(1, freezing(Duration::ZERO));
    let f = function("f");
    for n in 1..4 {
        bench.call(&f, &n.to_string()).await;
        bench
            .until(|state| state.frozen == n && is_frozen(state))
            .await;
        eventually("it is paused", async || {
            bench.metric("fn_container_paused_total") == 1
        })
        .await;
        assert_eq!(bench.metric("fn_container_idle_total"), 0);
        assert_eq!(bench.driver.state().thawed, n - 1);
    }
    assert_eq!(bench.driver.state().created, 1);
    bench.end().await;
}

#[tokio::test]
async fn a_container_that_cannot_be_frozen_is_discarded() {
    let bench = Bench::with(1, freezing(Duration::ZERO));
    let f = function("f");
    bench.script(|script| {
        let fail = ErrorCode::Internal;
        script.freeze = Arc::new(move |_| Step::Fail(Duration::ZERO, fail.into()));
    });
    bench.call(&f, "1").await;
    bench.until(|state| state.removed == 1).await;
    bench.script(|_| ());
    bench.call(&f, "2").await;
    bench.end().await;
}

#[tokio::test]
async fn a_call_whose_container_does_not_thaw_gets_another() {
    let bench = Bench::with(2, freezing(Duration::ZERO));
    let f = function("f");
    let (first, _) = bench.call(&f, "1").await;
    bench.until(|state| state.frozen == 1).await;
    bench.script(|script| {
        let fail = ErrorCode::Internal;
        script.thaw = Arc::new(move |_| Step::Fail(Duration::ZERO, fail.into()));
    });
    let (second, output) = bench.call(&f, "2").await;
    assert_ne!(second, first);
    assert_eq!(output, "input of 2");
    bench
        .until(|state| !state.containers.contains_key(&first))
        .await;
    bench.end().await;
}

#[tokio::test]
async fn a_call_waits_for_a_thaw_no_longer_than_it_may_and_may_go_away_meanwhile() {
    for goes_away in [false, true] {
        let bench = Bench::with(1, freezing(Duration::ZERO));
        let f = function("f");
        bench.call(&f, "1").await;
        bench.until(|state| state.frozen == 1).await;
        bench.script(|script| script.thaw = Arc::new(|_| Step::Hang));
        let mut late = call(&f, "2", "echo");
        late.wait_deadline = Some(Instant::now() + Duration::from_millis(50));
        if goes_away {
            let submit = bench.agent.submit(late);
            let gone = tokio::time::timeout(Duration::from_millis(5), submit).await;
            assert!(gone.is_err(), "it cannot be served");
        } else {
            let error = soon(bench.agent.submit(late)).await.expect_err("busy");
            assert_eq!(error.code(), ErrorCode::ServerBusy);
        }
        // Nobody knows whether it runs.
        bench.until(|state| state.removed == 1).await;
        bench.end().await;
    }
}
