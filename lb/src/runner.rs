//! What a load balancer asks of a runner.

use async_trait::async_trait;
use nodekit::exchange::{CallRequest, CallResult};

/// A runner, in this process or behind a network.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Runs one call. Dropping the future, or the body of the answer before its end, cancels it;
    /// a detached call goes on.
    async fn run(&self, call: CallRequest) -> CallResult;

    /// Whether clients are told how long their calls waited (spec/07 7.3).
    fn tells_wait(&self) -> bool {
        false
    }
}
