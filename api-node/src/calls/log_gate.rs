//! Whose logs are taken: a runner writes to those of attempts that it had, and of calls whose clients
//! waited; not to those of others, and not ahead of anybody.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::call::LeaseRef;
use domain::{ApiError, CallKind, ErrorCode};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hybrid_client::LogChunk;

use crate::store::CallStore;

/// The epoch of calls whose clients wait: they have no attempts.
const SYNC: i64 = 0;
/// Questions to the store at once.
const PARALLEL: usize = 8;
/// What is known is forgotten when it is so much.
const MAX_MEMORY: usize = 10_000;

/// What this node has found out.
#[derive(Debug, Default)]
pub(super) struct LogGate(Mutex<HashSet<(LeaseRef, Arc<str>)>>);

impl LogGate {
    /// Those of `chunks` that `runner` may write.
    pub(super) async fn let_through(
        &self,
        store: &dyn CallStore,
        runner: &str,
        mut chunks: Vec<LogChunk>,
    ) -> Result<Vec<LogChunk>, ApiError> {
        let runner: Arc<str> = runner.into();
        let mut unknown: Vec<LeaseRef> = vec![];
        for chunk in &chunks {
            let key = (chunk.lease.clone(), Arc::clone(&runner));
            if !self.known().contains(&key) && unknown.last() != Some(&chunk.lease) {
                unknown.push(chunk.lease.clone());
            }
        }
        if unknown.is_empty() {
            return Ok(chunks);
        }
        let asked = unknown.into_iter().map(|lease| {
            let runner = Arc::clone(&runner);
            async move {
                let may = may_write(store, &runner, &lease).await?;
                Ok::<_, ApiError>(may.then_some((lease, runner)))
            }
        });
        let found: Vec<_> = stream::iter(asked)
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        let mut known = self.known();
        if known.len() > MAX_MEMORY {
            // Those that are asked about again are found again.
            let asked = chunks.iter().map(|chunk| &chunk.lease);
            let asked: HashSet<_> = asked.collect();
            known.retain(|(lease, _)| asked.contains(lease));
        }
        known.extend(found.into_iter().flatten());
        let all = chunks.len();
        chunks.retain(|chunk| known.contains(&(chunk.lease.clone(), Arc::clone(&runner))));
        if chunks.len() < all {
            let dropped = all - chunks.len();
            tracing::warn!(%runner, dropped, "logs of calls that this runner never had");
        }
        Ok(chunks)
    }

    fn known(&self) -> MutexGuard<'_, HashSet<(LeaseRef, Arc<str>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn may_write(
    store: &dyn CallStore,
    runner: &str,
    lease: &LeaseRef,
) -> Result<bool, ApiError> {
    let unknown = |error: &ApiError| error.code() == ErrorCode::CallNotFound;
    if lease.epoch == SYNC {
        // Most have no record yet, or never get one.
        return match store.call(&lease.call_id).await {
            Ok(call) => Ok(call.kind == CallKind::Sync),
            Err(error) if unknown(&error) => Ok(true),
            Err(error) => Err(error),
        };
    }
    match store.call_attempts(&lease.call_id).await {
        Ok(attempts) => Ok(attempts
            .iter()
            .any(|attempt| attempt.epoch == lease.epoch && attempt.runner_id == runner)),
        Err(error) if unknown(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
