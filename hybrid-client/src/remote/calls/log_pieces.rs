//! Parts of logs in pieces that fit a request, many in one.

use std::sync::Arc;

use domain::ApiError;
use proto::calls::AppendLogsRequest;

use super::CallNodes;
use super::batches::{Batched, Batches};
use crate::calls::LogChunk;
use crate::calls_messages::chunk_message;

/// What one request has of logs, in bytes.
const MOST_BYTES: usize = 1 << 20;
/// What a chunk weighs beside its bytes.
const CHUNK: usize = 128;

/// Parts that follow each other, small enough for one request.
pub(super) struct Logs {
    runner_id: Arc<str>,
    chunks: Vec<LogChunk>,
}

impl Batched for Logs {
    type Answer = ();

    fn weight(&self) -> usize {
        self.chunks.iter().map(weight).sum()
    }

    fn may_join(&self, first: &Self) -> bool {
        self.runner_id == first.runner_id
    }
}

fn weight(chunk: &LogChunk) -> usize {
    chunk.data.len() + CHUNK
}

/// `chunks` in their order; each of the results fits a request.
pub(super) fn pieces(runner_id: &str, chunks: Vec<LogChunk>) -> Vec<Logs> {
    let runner_id: Arc<str> = runner_id.into();
    let mut pieces: Vec<Logs> = Vec::new();
    let mut room = 0;
    for mut chunk in chunks {
        while !chunk.data.is_empty() {
            let first = chunk
                .data
                .split_to(chunk.data.len().min(MOST_BYTES - CHUNK));
            let piece = LogChunk {
                lease: chunk.lease.clone(),
                offset: chunk.offset,
                data: first,
            };
            chunk.offset += piece.data.len() as u64;
            let weight = weight(&piece);
            match pieces.last_mut() {
                Some(last) if weight <= room => last.chunks.push(piece),
                _ => {
                    room = MOST_BYTES;
                    pieces.push(Logs {
                        runner_id: Arc::clone(&runner_id),
                        chunks: vec![piece],
                    });
                }
            }
            room -= weight;
        }
    }
    pieces
}

pub(super) fn batches(nodes: CallNodes) -> Batches<Logs> {
    Batches::start(MOST_BYTES, move |logs| send(nodes.clone(), logs))
}

async fn send(nodes: CallNodes, logs: Vec<Logs>) -> Result<Vec<()>, ApiError> {
    let Some(first) = logs.first() else {
        return Ok(Vec::new());
    };
    let request = AppendLogsRequest {
        runner_id: first.runner_id.to_string(),
        chunks: logs
            .iter()
            .flat_map(|logs| &logs.chunks)
            .map(chunk_message)
            .collect(),
    };
    let bytes = logs.iter().map(Batched::weight).sum();
    let answer = nodes.ask(bytes, request, |mut client, request| async move {
        client.append_logs(request).await
    });
    answer.await?;
    Ok(vec![(); logs.len()])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::CallId;
    use domain::call::LeaseRef;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_the_whole_in_order(lengths in proptest::collection::vec(0usize..3 * MOST_BYTES, 0..4)) {
            let lease = LeaseRef { call_id: CallId::from("c"), epoch: 1 };
            let mut offset = 7;
            let chunks: Vec<_> = lengths
                .iter()
                .map(|length| {
                    let chunk = LogChunk { lease: lease.clone(), offset, data: Bytes::from(vec![0; *length]) };
                    offset += *length as u64;
                    chunk
                })
                .collect();
            let mut expected = 7;
            for piece in pieces("r", chunks) {
                prop_assert!(piece.weight() <= MOST_BYTES);
                for chunk in piece.chunks {
                    prop_assert!(!chunk.data.is_empty());
                    prop_assert_eq!(chunk.offset, expected);
                    expected += chunk.data.len() as u64;
                }
            }
            prop_assert_eq!(expected, offset);
        }
    }
}
