//! The seam between the nodes when they share one process: the agent as the front door's runner.

use async_trait::async_trait;
use nodekit::exchange::{CallRequest, CallResult};
use runner_node::Agent;

/// The agent of the same process as a runner.
pub(crate) struct LocalRunner(pub(crate) Agent);

#[async_trait]
impl lb::Runner for LocalRunner {
    async fn run(&self, call: CallRequest) -> CallResult {
        self.0.submit(call).await
    }
}
