//! Keeps a runner registered: the lease is renewed until the registration is closed or dropped, and
//! then given up.

use std::time::Duration;

use domain::{ApiError, RegisteredRunner};
use proto::hybrid::{DeregisterRequest, RegisterReply, RegisterRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::api_nodes::ApiNodes;

/// No API node is asked more often, whatever it says.
const MIN_RENEWAL: Duration = Duration::from_millis(100);
/// How long a renewal that is under way may hold up the end. Were it cut off, it could come after
/// the farewell.
const LAST_RENEWAL: Duration = Duration::from_secs(1);
/// How long the farewell may take; after it the lease runs out by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// A runner on the list of runners. When this is dropped it is taken off the list in the background;
/// [`Registration::close`] waits for it.
#[derive(Debug)]
pub struct Registration {
    runner: watch::Sender<RegisteredRunner>,
    registered: watch::Receiver<bool>,
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Registration {
    /// Registers `runner`, and goes on trying while no API node can be reached; must be called
    /// within a runtime.
    pub fn start(nodes: ApiNodes, runner: RegisteredRunner) -> Self {
        let stop = CancellationToken::new();
        let (runner, current) = watch::channel(runner);
        let (state, registered) = watch::channel(false);
        let keeper = Keeper {
            nodes,
            current,
            state,
            stop: stop.clone(),
            lease_until: None,
        };
        Self {
            runner,
            registered,
            task: tokio::spawn(keeper.run()),
            stop: stop.drop_guard(),
        }
    }

    /// Tells load balancers whether the runner takes no new calls.
    pub fn set_draining(&self, draining: bool) {
        self.runner.send_if_modified(|runner| {
            std::mem::replace(&mut runner.draining, draining) != draining
        });
    }

    /// Whether the runner holds a lease.
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.clone()
    }

    /// Takes the runner off the list; a few seconds at most.
    pub async fn close(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the registration failed");
        }
    }
}

struct Keeper {
    nodes: ApiNodes,
    current: watch::Receiver<RegisteredRunner>,
    state: watch::Sender<bool>,
    stop: CancellationToken,
    lease_until: Option<Instant>,
}

impl Keeper {
    async fn run(mut self) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let runner = self.current.borrow_and_update().clone();
            let stop = self.stop.clone();
            let late = async {
                stop.cancelled().await;
                sleep(LAST_RENEWAL).await;
            };
            let began = Instant::now();
            let renewed = tokio::select! {
                renewed = register(&self.nodes, runner) => renewed,
                () = late => break,
            };
            let wait = match renewed {
                Ok(reply) => {
                    failures = 0;
                    // Not longer than it holds for the API nodes.
                    self.lease_until = Some(began + Duration::from_millis(reply.lease_ms));
                    Duration::from_millis(reply.renew_after_ms).max(MIN_RENEWAL)
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(?error, "the runner cannot be registered");
                    }
                    self.nodes.failover().pause(failures).max(MIN_RENEWAL)
                }
            };
            let holds = self.lease_until.is_some_and(|until| Instant::now() < until);
            self.state.send_if_modified(|known| {
                let news = *known != holds;
                *known = holds;
                news
            });
            tokio::select! {
                () = self.stop.cancelled() => {}
                // The owner is gone when this fails, and has cancelled.
                _ = self.current.changed() => {}
                () = sleep(wait) => {}
            }
        }
        let id = self.current.borrow().id.to_string();
        match timeout(FAREWELL, deregister(&self.nodes, id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(?error, "the runner stays listed until its lease ends")
            }
            Err(_) => tracing::warn!("the runner stays listed until its lease ends"),
        }
        self.state.send_replace(false);
    }
}

async fn register(nodes: &ApiNodes, runner: RegisteredRunner) -> Result<RegisterReply, ApiError> {
    let request = RegisterRequest {
        runner_id: runner.id.to_string(),
        address: runner.address.to_string(),
        version: runner.version.to_string(),
        draining: runner.draining,
    };
    let answer = nodes.call(request, |mut client, request| async move {
        client.register(request).await
    });
    answer.await
}

async fn deregister(nodes: &ApiNodes, runner_id: String) -> Result<(), ApiError> {
    let answer = nodes.call(
        DeregisterRequest { runner_id },
        |mut client, request| async move { client.deregister(request).await },
    );
    answer.await.map(drop)
}
