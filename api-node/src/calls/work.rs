//! What runners ask about calls, answered in this process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::call::{AttemptEnd, AttemptOutcome, CallResult, Fault, LeaseRef};
use domain::{ApiError, ErrorCode};
use hybrid_client::{Dequeue, LogChunk, WorkSource};

use super::Calls;
use super::writes::{ANSWER_LIMIT, FINISH_LIMIT};

#[async_trait]
impl WorkSource for Calls {
    async fn dequeue(&self, runner_id: Arc<str>, capacity: u32) -> Result<Dequeue, ApiError> {
        if self.0.stop.token().is_cancelled() {
            return Err(ErrorCode::ServerBusy.into());
        }
        Ok(self.0.dispatcher.dequeue(runner_id, capacity))
    }

    async fn start(&self, runner_id: &str, lease: LeaseRef) -> Result<(), ApiError> {
        self.0.activity.note();
        let start = (Arc::from(runner_id), lease.clone());
        if self.0.starts.submit(start, ANSWER_LIMIT).await? {
            self.0.dispatcher.started(&lease);
            Ok(())
        } else {
            self.0.dispatcher.over(&lease);
            Err(ErrorCode::CallLeaseLost.into())
        }
    }

    async fn renew(
        &self,
        runner_id: &str,
        leases: Vec<LeaseRef>,
    ) -> Result<(Vec<LeaseRef>, Duration), ApiError> {
        self.0.activity.note();
        let renewal = (Arc::from(runner_id), leases);
        let held = self.0.renewals.submit(renewal, ANSWER_LIMIT).await?;
        self.0.dispatcher.renewed(&held);
        Ok((held, self.0.settings.lease))
    }

    async fn finish(&self, runner_id: &str, mut end: AttemptEnd) -> Result<bool, ApiError> {
        self.0.activity.note();
        if let AttemptOutcome::Answered { result, .. } = &mut end.outcome {
            cut(result, self.0.settings.max_result);
        }
        let could_not_run = matches!(
            end.outcome,
            AttemptOutcome::Returned
                | AttemptOutcome::Failed {
                    fault: Fault::Platform,
                    ..
                }
        );
        let lease = end.lease.clone();
        // Before it is due again.
        if could_not_run {
            self.0.dispatcher.failed(&lease);
        }
        let ended = (end, runner_id.to_owned());
        let counts = self.0.ends.submit(ended, FINISH_LIMIT).await?;
        self.0.dispatcher.over(&lease);
        Ok(counts)
    }

    async fn append_logs(&self, _runner_id: &str, chunks: Vec<LogChunk>) -> Result<(), ApiError> {
        self.0.logs.append(chunks).await
    }
}

/// Keeps as much of the answer as is to be kept.
fn cut(result: &mut CallResult, most: usize) {
    if result.body.len() > most {
        result.body.truncate(most);
        result.truncated = true;
    }
}
