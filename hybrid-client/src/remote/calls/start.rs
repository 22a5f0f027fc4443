//! Starts, many in one request: each is on the path of its call.

use std::collections::HashSet;
use std::sync::Arc;

use domain::ApiError;
use domain::call::LeaseRef;
use proto::calls::LeasesRequest;
use proto::calls_messages::{lease_message, leases_of};

use super::batches::{Batched, Batches, MOST};
use super::{CallNodes, malformed};

/// The function of `runner_id` is about to see the call.
pub(super) struct Start {
    pub(super) runner_id: Arc<str>,
    pub(super) lease: LeaseRef,
}

impl Batched for Start {
    /// Whether the lease holds.
    type Answer = bool;

    fn weight(&self) -> usize {
        1
    }

    fn may_join(&self, first: &Self) -> bool {
        self.runner_id == first.runner_id
    }
}

pub(super) fn batches(nodes: CallNodes) -> Batches<Start> {
    Batches::start(MOST, move |starts| send(nodes.clone(), starts))
}

async fn send(nodes: CallNodes, starts: Vec<Start>) -> Result<Vec<bool>, ApiError> {
    let Some(first) = starts.first() else {
        return Ok(Vec::new());
    };
    let request = LeasesRequest {
        runner_id: first.runner_id.to_string(),
        leases: starts
            .iter()
            .map(|start| lease_message(&start.lease))
            .collect(),
    };
    let answer = nodes.ask(0, request, |mut client, request| async move {
        client.start_calls(request).await
    });
    let held: HashSet<_> = leases_of(answer.await?.held)
        .map_err(malformed)?
        .into_iter()
        .collect();
    Ok(starts
        .iter()
        .map(|start| held.contains(&start.lease))
        .collect())
}
