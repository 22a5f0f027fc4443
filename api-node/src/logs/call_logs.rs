//! The store of logs on any place for their parts: checks ids, keeps the limits of size and time, and
//! tells those who follow a log.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, CallId, ErrorCode};
use hybrid_client::LogChunk;
use tokio::time::timeout;

use super::parts::LogParts;
use super::{LogCursor, LogPage, LogStore, LogWatch, Watchers, assembly};

/// The longest that an operation takes; the places have shorter limits of their own.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Logs of calls.
pub struct CallLogs {
    parts: Arc<dyn LogParts>,
    watchers: Watchers,
}

impl CallLogs {
    /// Logs that are kept in `parts`.
    pub fn new(parts: Arc<dyn LogParts>) -> Self {
        Self {
            parts,
            watchers: Watchers::default(),
        }
    }
}

#[async_trait]
impl LogStore for CallLogs {
    async fn append(&self, chunks: Vec<LogChunk>) -> Result<(), ApiError> {
        // An id becomes a name of a file: no other text may get there.
        let known = |chunk: &LogChunk| is_id(&chunk.lease.call_id) && chunk.lease.epoch >= 0;
        if !chunks.iter().all(known) {
            return Err(ErrorCode::CallNotFound.into());
        }
        let parts = assembly::cut(chunks);
        let mut calls: Vec<_> = parts.iter().map(|(id, _)| id.clone()).collect();
        calls.dedup();
        if calls.is_empty() {
            return Ok(());
        }
        let result = in_time(self.parts.put_parts(parts)).await;
        // Some may be there even if it failed.
        for id in &calls {
            self.watchers.changed(id);
        }
        result
    }

    async fn read_from(&self, id: &CallId, cursor: LogCursor) -> Result<Option<LogPage>, ApiError> {
        if !is_id(id) {
            return Ok(None);
        }
        in_time(async {
            let found = self.parts.list_parts(id).await?;
            if found.is_empty() {
                return Ok(None);
            }
            let plan = assembly::plan(found, cursor);
            let parts = match plan.keys.as_slice() {
                [] => Vec::new(),
                keys => self.parts.get_parts(id, keys).await?,
            };
            Ok(Some(assembly::page(&plan, &parts, cursor)))
        })
        .await
    }

    fn watch(&self, id: &CallId) -> LogWatch {
        self.watchers.watch(id)
    }

    async fn delete(&self, ids: &[CallId]) -> Result<(), ApiError> {
        let ids: Vec<_> = ids.iter().filter(|id| is_id(id)).cloned().collect();
        in_time(self.parts.delete_parts(&ids)).await
    }

    async fn prune(&self, unix_millis: u64, limit: usize) -> Result<usize, ApiError> {
        in_time(self.parts.prune_parts(unix_millis, limit)).await
    }
}

fn is_id(id: &CallId) -> bool {
    id.made_at().is_some()
}

async fn in_time<T>(operation: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    match timeout(OPERATION_TIMEOUT, operation).await {
        Ok(result) => result,
        Err(elapsed) => Err(ApiError::from(ErrorCode::StoreUnavailable).detail(elapsed)),
    }
}
