//! What functions print, by the call during which they print it (spec/02 2.5, spec/03 3.1).
//!
//! ```text
//! container ─► driver ─► ContainerLog, one for each ─► Buffer ─► Sender ─► WorkSource::append_logs
//!                           ▲ begin, end
//!                         Agent
//! ```
//!
//! A container runs one call at a time, so that what it prints is of the call that runs. What is
//! printed travels another way than the answer, and may be a little later: see [`container_log`].

mod buffer;
mod container_log;
mod metrics;
mod sender;

use std::sync::Arc;

use domain::CallId;
use domain::call::LeaseRef;

use self::buffer::Buffer;

pub(crate) use self::buffer::Mark;
pub(crate) use self::container_log::ContainerLog;
pub use self::metrics::LogMetrics;
pub(crate) use self::sender::Sender;

use crate::config::RunnerConfig;

/// The epoch under which the log of a call is kept whose client waits for it.
const SYNC_EPOCH: i64 = 0;

/// What is kept of what functions print.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most of one call, in bytes.
    pub max_bytes: u64,
    /// Whether logs of calls are kept whose clients wait.
    pub sync_calls: bool,
}

impl Settings {
    /// As configured; none if no logs are kept.
    pub fn new(config: &RunnerConfig) -> Option<Self> {
        config.call_logs.then_some(Self {
            max_bytes: config.max_log_size_bytes,
            sync_calls: config.sync_call_logs,
        })
    }
}

/// The logs of this runner's calls on their way to the API nodes. Clones share them.
#[derive(Debug, Clone)]
pub struct CallLogs {
    settings: Settings,
    buffer: Arc<Buffer>,
}

impl CallLogs {
    /// No logs yet.
    pub fn new(settings: Settings, metrics: LogMetrics) -> Self {
        Self {
            settings,
            buffer: Arc::new(Buffer::new(metrics)),
        }
    }

    /// The log of a call whose client waits for it; none if it is not kept.
    pub(crate) fn sync_call(&self, id: &CallId) -> Option<LeaseRef> {
        self.settings.sync_calls.then(|| LeaseRef {
            call_id: id.clone(),
            epoch: SYNC_EPOCH,
        })
    }

    /// The log of a new container.
    pub(crate) fn container(&self) -> Arc<ContainerLog> {
        Arc::new(ContainerLog::new(
            Arc::clone(&self.buffer),
            self.settings.max_bytes,
        ))
    }

    /// Sends away what comes in.
    pub(crate) fn sender(&self) -> Sender {
        Sender::new(Arc::clone(&self.buffer))
    }

    /// What has come in so far.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<hybrid_client::LogChunk> {
        let (parts, mark) = self.buffer.take();
        self.buffer.gone(mark);
        parts
    }

    /// Waits until what was written up to `mark` has been sent, or given up.
    pub(crate) async fn sent(&self, mark: Mark) {
        self.buffer.sent(mark).await;
    }
}
