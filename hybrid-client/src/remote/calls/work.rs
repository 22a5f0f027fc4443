//! What runners ask about calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::call::{AttemptEnd, AttemptOutcome, LeaseRef};
use domain::{ApiError, ErrorCode};
use proto::calls::LeasesRequest;
use proto::calls_messages::{MAX_ITEMS, finish_message, lease_message, leases_of};

use super::start::Start;
use super::{RemoteCalls, dequeue, log_pieces, malformed};
use crate::calls::{Dequeue, LogChunk, WorkSource};

#[async_trait]
impl WorkSource for RemoteCalls {
    async fn dequeue(&self, runner_id: Arc<str>, capacity: u32) -> Result<Dequeue, ApiError> {
        dequeue::open(&self.nodes, &runner_id, capacity).await
    }

    async fn start(&self, runner_id: &str, lease: LeaseRef) -> Result<(), ApiError> {
        let runner_id = runner_id.into();
        match self.starts.send(Start { runner_id, lease }).await? {
            true => Ok(()),
            false => Err(ErrorCode::CallLeaseLost.into()),
        }
    }

    async fn renew(
        &self,
        runner_id: &str,
        leases: Vec<LeaseRef>,
    ) -> Result<(Vec<LeaseRef>, Duration), ApiError> {
        let mut held = Vec::with_capacity(leases.len());
        let mut holds = Duration::MAX;
        for some in leases.chunks(MAX_ITEMS) {
            let request = LeasesRequest {
                runner_id: runner_id.to_owned(),
                leases: some.iter().map(lease_message).collect(),
            };
            let answer = self
                .nodes
                .ask(0, request, |mut client, request| async move {
                    client.renew_calls(request).await
                });
            let reply = answer.await?;
            held.extend(leases_of(reply.held).map_err(malformed)?);
            holds = holds.min(Duration::from_millis(reply.lease_ms));
        }
        Ok((held, holds))
    }

    async fn finish(&self, runner_id: &str, end: AttemptEnd) -> Result<bool, ApiError> {
        let request = finish_message(runner_id, &end, self.nodes.0.settings.max_body);
        let bytes = match &end.outcome {
            AttemptOutcome::Answered { result, .. } => result.body.len(),
            _ => 0,
        };
        let answer = self
            .nodes
            .ask(bytes, request, |mut client, request| async move {
                client.finish_call(request).await
            });
        Ok(answer.await?.accepted)
    }

    /// Whoever appends to the log of one attempt waits for one part before the next.
    async fn append_logs(&self, runner_id: &str, chunks: Vec<LogChunk>) -> Result<(), ApiError> {
        for piece in log_pieces::pieces(runner_id, chunks) {
            self.logs.send(piece).await?;
        }
        Ok(())
    }
}
