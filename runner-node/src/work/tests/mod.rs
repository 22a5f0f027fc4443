//! The loop over the agent with the driver without an engine, and a scripted source of work.

mod calls;
mod ends;
mod flow;
mod logs;
pub(crate) mod source;

use std::sync::Arc;
use std::time::Duration;

use domain::app::AppDraft;
use domain::call::lease::Snapshot;
use domain::call::{AttemptOutcome, CallHeaders, LeaseRef, LeasedCall};
use domain::func::FuncDraft;
use domain::{App, FnSpec, Func, Timestamp};
use nodekit::exchange::Target;
use nodekit::metrics::Metrics;
use tokio::time::Instant;

use self::source::Source;
use super::{Settings, WorkLoop, WorkMetrics};
use crate::agent::tests::{Bench, MEMORY_MB, NEVER, PATIENCE, settings as agent_settings, soon};

/// The function `name` of an app, with a time limit in seconds that tells its versions apart.
pub(crate) fn snapshot(name: &str, timeout: i64) -> Arc<Snapshot> {
    let now = Timestamp::from_unix_millis(1);
    let app = AppDraft {
        name: "app".into(),
        ..AppDraft::default()
    };
    let func = FuncDraft {
        app_id: "app-id".into(),
        name: name.into(),
        image: "image".into(),
        memory: MEMORY_MB,
        timeout,
        idle_timeout: 3600,
        ..FuncDraft::default()
    };
    Arc::new(Snapshot {
        app: App::create(app, "app-id".into(), now).expect("valid"),
        func: Func::create(func, None, name.into(), now).expect("valid"),
    })
}

pub(crate) fn lease(id: &str, epoch: i64) -> LeaseRef {
    LeaseRef {
        call_id: id.into(),
        epoch,
    }
}

/// A call of `f` that does `what`.
pub(crate) fn leased(id: &str, epoch: i64, what: &str) -> LeasedCall {
    let mut headers = CallHeaders::default();
    headers.push("do", what.as_bytes());
    LeasedCall {
        lease: lease(id, epoch),
        lease_for: NEVER,
        attempt: 1,
        snapshot: snapshot("f", 300),
        headers,
        body: format!("input of {id}").into(),
        created_at: Timestamp::from_unix_millis(1),
    }
}

/// What front doors call to get the same function.
fn target(snapshot: &Snapshot) -> Arc<Target> {
    Target::new(FnSpec::new(&snapshot.app, &snapshot.func))
}

fn settings() -> Settings {
    Settings {
        high_water_percent: 100,
        max_calls: Some(8),
        max_wait: NEVER,
        max_result_bytes: 1 << 20,
    }
}

struct Stage {
    bench: Bench,
    source: Arc<Source>,
    work: WorkLoop,
    metrics: WorkMetrics,
}

impl Stage {
    /// With room for `containers`.
    fn new(containers: u64) -> Self {
        Self::with(containers, settings())
    }

    fn with(containers: u64, settings: Settings) -> Self {
        let bench = Bench::with(containers, agent_settings());
        let source = Source::new(NEVER);
        let metrics = WorkMetrics::new(&mut Metrics::new());
        let work = WorkLoop::start(
            bench.agent.clone(),
            source.clone(),
            settings,
            "runner".into(),
            metrics.clone(),
        );
        Self {
            bench,
            source,
            work,
            metrics,
        }
    }

    /// Sends a call of `f`, and waits until its function has received it.
    async fn running(&self, id: &str, what: &str) {
        self.source.send(leased(id, 1, what)).await;
        self.bench.seen(id).await;
    }

    /// Sends a call of `f`, and waits until it is in hand.
    async fn in_hand(&self, id: &str, what: &str) {
        let before = self.metrics.held.get();
        self.source.send(leased(id, 1, what)).await;
        self.holds(before + 1).await;
    }

    async fn holds(&self, calls: i64) {
        crate::driver::contract::eventually("calls in hand", async || {
            self.metrics.held.get() == calls
        })
        .await;
    }

    /// A whole call of `f`.
    async fn outcome(&self, id: &str, what: &str) -> AttemptOutcome {
        self.source.send(leased(id, 1, what)).await;
        self.source.end_of(id).await
    }

    fn was_seen(&self, id: &str) -> bool {
        let seen = self.bench.world.seen.borrow();
        seen.iter().any(|(call, _)| call == id)
    }

    /// Ends everything, and sees to it that nothing is left.
    async fn end(self) {
        self.bench.world.release_all();
        soon(self.work.close(Instant::now() + PATIENCE)).await;
        assert_eq!(self.metrics.held.get(), 0);
        assert_eq!(self.metrics.credits.get(), 0);
        self.bench.end().await;
    }
}

/// Short enough that a test can wait for its end.
const SHORT: Duration = Duration::from_millis(300);
