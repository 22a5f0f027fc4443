//! The store of logs on any place for their parts: checks ids, keeps the limits of size and time, and
//! tells those who follow a log.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::{ApiError, CallId, ErrorCode};
use hybrid_client::LogChunk;
use tokio::time::timeout;

use super::parts::{LogParts, PartKey};
use super::{LogCursor, LogPage, LogStore, LogWatch, READ_LIMIT, Watchers, assembly};

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

    /// The page behind `cursor` of a log that has the parts `found`.
    async fn page(
        &self,
        id: &CallId,
        found: Vec<PartKey>,
        cursor: LogCursor,
    ) -> Result<LogPage, ApiError> {
        let plan = assembly::plan(found, cursor);
        let parts = match plan.keys.as_slice() {
            [] => Vec::new(),
            keys => self.parts.get_parts(id, keys).await?,
        };
        Ok(assembly::page(&plan, &parts, cursor))
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
            self.page(id, found, cursor).await.map(Some)
        })
        .await
    }

    async fn read(&self, id: &CallId) -> Result<Option<Bytes>, ApiError> {
        if !is_id(id) {
            return Ok(None);
        }
        in_time(async {
            // Asked for once: a list may take longer than a page.
            let found = self.parts.list_parts(id).await?;
            if found.is_empty() {
                return Ok(None);
            }
            let mut page = self.page(id, found.clone(), LogCursor::default()).await?;
            if !page.more {
                return Ok(Some(page.data));
            }
            let mut log = BytesMut::from(page.data);
            while page.more && log.len() < READ_LIMIT {
                page = self.page(id, found.clone(), page.next).await?;
                log.extend_from_slice(&page.data);
            }
            log.truncate(READ_LIMIT);
            Ok(Some(log.freeze()))
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

    fn deletes_at_once(&self) -> usize {
        self.parts.deletes_at_once()
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

#[cfg(test)]
mod tests {
    use domain::call::LeaseRef;
    use object_store::memory::InMemory;
    use tokio::time::Instant;

    use super::super::objects::ObjectParts;
    use super::super::parts::Part;
    use super::*;

    /// A place that never answers.
    struct Silent;

    #[async_trait]
    impl LogParts for Silent {
        async fn put_parts(&self, _: Vec<(CallId, Part)>) -> Result<(), ApiError> {
            std::future::pending().await
        }
        async fn list_parts(&self, _: &CallId) -> Result<Vec<PartKey>, ApiError> {
            std::future::pending().await
        }
        async fn get_parts(&self, _: &CallId, _: &[PartKey]) -> Result<Vec<Part>, ApiError> {
            std::future::pending().await
        }
        async fn delete_parts(&self, _: &[CallId]) -> Result<(), ApiError> {
            std::future::pending().await
        }
        async fn prune_parts(&self, _: u64, _: usize) -> Result<usize, ApiError> {
            std::future::pending().await
        }
    }

    fn id() -> CallId {
        CallId::from("01D0S0000000000000000000A7")
    }

    fn chunk() -> LogChunk {
        LogChunk {
            lease: LeaseRef {
                call_id: id(),
                epoch: 1,
            },
            offset: 0,
            data: Bytes::from_static(b"x"),
        }
    }

    fn unavailable<T>(result: Result<T, ApiError>) -> bool {
        result.is_err_and(|error| error.code() == ErrorCode::StoreUnavailable)
    }

    #[tokio::test(start_paused = true)]
    async fn no_operation_waits_for_a_place_that_is_silent() {
        let logs = CallLogs::new(Arc::new(Silent));
        assert!(unavailable(logs.append(vec![chunk()]).await));
        assert!(unavailable(logs.read(&id()).await));
        assert!(unavailable(logs.delete(&[id()]).await));
        assert!(unavailable(logs.prune(0, 1).await));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_follows_is_told_at_once_of_what_comes_here_and_looks_for_the_rest() {
        let parts = ObjectParts::new(Arc::new(InMemory::new()), None);
        let logs = CallLogs::new(Arc::new(parts));
        let mut watch = logs.watch(&id());
        // The clock moves only when everything waits.
        let begin = Instant::now();
        logs.append(vec![chunk()]).await.expect("appended");
        watch.changed().await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        watch.changed().await;
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }
}
