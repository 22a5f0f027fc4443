//! Durable calls on this runner: it asks API nodes for as many as it has room for, runs each under
//! its lease, and reports what came of it.
//!
//! ```text
//! WorkSource::dequeue ─► Feed ─► Job, a task for each call ─► Agent::submit_fenced ─► function
//!      credits ◄─ room ──╯         │ start, right before the function sees the call
//!                        Leases ───┤ renew; a call whose lease is not known to hold is stopped
//!                                  ╰► finish, until it is known whether it counts
//! ```
//!
//! A function never sees a call whose lease was not confirmed after its container was found. Calls of
//! clients go first: durable ones stand behind them in the queue of their function, and none is asked
//! for while clients' calls wait for memory or CPU, or while the node is busier than its high
//! water.

mod call;
mod credits;
mod engine;
mod feed;
mod held;
mod leases;
mod metrics;
mod outcome;
pub(crate) mod pause;
mod settings;
mod targets;

use std::sync::Arc;

use hybrid_client::WorkSource;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::call::LAST_REPORTS;
use self::engine::Engine;
use self::held::HeldCalls;
use self::leases::Leases;
use self::targets::Targets;
use crate::agent::Agent;
use crate::call_log::CallLogs;

pub use self::metrics::{OutcomeLabels, WorkMetrics};
pub use self::settings::Settings;

/// What the tasks of the loop share.
struct Shared {
    agent: Agent,
    source: Arc<dyn WorkSource>,
    settings: Settings,
    runner_id: Arc<str>,
    metrics: WorkMetrics,
    targets: Targets,
    leases: Leases,
    engine: Engine,
    held: HeldCalls,
    calls: TaskTracker,
    /// No more work; calls that functions have not seen are given back.
    draining: CancellationToken,
    /// Everything ends now.
    closing: CancellationToken,
}

/// The running loop.
///
/// A stop in good order: [`WorkLoop::drain`], then that of the agent, then [`WorkLoop::close`], and at
/// last the end of the agent: it must outlive the calls.
pub struct WorkLoop {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl WorkLoop {
    /// Starts to take calls from `source` for `agent`, which API nodes know as `runner_id`.
    pub fn start(
        agent: Agent,
        source: Arc<dyn WorkSource>,
        settings: Settings,
        runner_id: Arc<str>,
        metrics: WorkMetrics,
    ) -> Self {
        let shared = Arc::new(Shared {
            leases: Leases::new(metrics.clone()),
            held: HeldCalls::new(metrics.held.clone()),
            engine: Engine::new(),
            targets: Targets::default(),
            calls: TaskTracker::new(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            agent,
            source,
            settings,
            runner_id,
            metrics,
        });
        let tasks = TaskTracker::new();
        tasks.spawn(feed::run(Arc::clone(&shared)));
        let keeping = shared
            .leases
            .clone()
            .keep(Arc::clone(&shared.source), Arc::clone(&shared.runner_id));
        let ended = ended(Arc::clone(&shared));
        tasks.spawn(async move {
            tokio::select! {
                () = keeping => {}
                () = ended => {}
            }
        });
        if shared.agent.logs().is_some() {
            tasks.spawn(send_logs(Arc::clone(&shared)));
        }
        Self { shared, tasks }
    }

    /// Asks for no more calls, and gives back those that functions have not seen; others go on.
    pub fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Waits for the calls that run, and for their reports, until `deadline`; what runs then is cut
    /// off, and reported as the platform's doing. Returns when nothing of the loop is left.
    pub async fn close(&self, deadline: Instant) {
        self.drain();
        self.shared.calls.close();
        let ending = tokio::time::timeout_at(deadline, self.shared.calls.wait());
        if ending.await.is_err() {
            warn!("some durable calls did not finish in time and are cut off");
        }
        self.shared.closing.cancel();
        self.shared.leases.close();
        self.tasks.close();
        self.tasks.wait().await;
        // What came at the very last is given back.
        self.shared.calls.wait().await;
    }
}

/// Logs are sent until no call is in hand, and what is left then.
async fn send_logs(shared: Arc<Shared>) {
    let Some(mut sender) = shared.agent.logs().map(CallLogs::sender) else {
        return;
    };
    let (source, runner_id) = (&*shared.source, &*shared.runner_id);
    tokio::select! {
        () = sender.run(source, runner_id) => {}
        () = ended(Arc::clone(&shared)) => {}
    }
    let rest = sender.finish(source, runner_id);
    if tokio::time::timeout(LAST_REPORTS, rest).await.is_err() {
        warn!("some logs of calls could not be sent");
    }
}

/// Leases are kept until no call is in hand.
async fn ended(shared: Arc<Shared>) {
    shared.closing.cancelled().await;
    shared.calls.wait().await;
}

#[cfg(test)]
pub(crate) mod tests;
