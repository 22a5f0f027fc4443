//! The hybrid service and its client over real connections: one suite for the control plane in the
//! same process and over gRPC, and what happens when API nodes come and go.

mod calls;
mod changes;
mod contract;
mod node;
mod outage;
mod requests;
mod roles;
mod runners;

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// No wait of a test is longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at something that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let holds = async {
        while !condition().await {
            sleep(LOOK).await;
        }
    };
    let in_time = timeout(DEADLINE, holds).await.is_ok();
    assert!(in_time, "not in time: {what}");
}
