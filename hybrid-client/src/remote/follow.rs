//! A watch that is kept up: when its stream ends, another one is opened, at the next API node.

use std::future::Future;

use proto::hybrid::hybrid_client::HybridClient;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::api_nodes::ApiNodes;
use super::why::Why;

/// Opens streams by `open` and hands their messages to `receive`, for ever. The first message of
/// each stream says that the watch stands from there on.
pub(super) async fn follow<M, F>(
    what: &'static str,
    nodes: ApiNodes,
    open: impl Fn(HybridClient<Channel>) -> F,
    mut receive: impl FnMut(M),
) where
    F: Future<Output = Result<Response<Streaming<M>>, Status>>,
{
    let failover = nodes.failover();
    let mut failures = 0;
    loop {
        let node = failover.current();
        let watch = async {
            let opening = async {
                let mut stream = open(nodes.client(node)).await?.into_inner();
                let first = stream.message().await?;
                Ok((stream, first))
            };
            // A node that has nothing to say yet still opens the stream.
            let (mut stream, mut message) = timeout(failover.settings.total_timeout, opening)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no message in time")))?;
            if failures > 0 && message.is_some() {
                tracing::info!(node = nodes.name(node), "watching {what} again");
            }
            while let Some(news) = message {
                failures = 0;
                receive(news);
                message = stream.message().await?;
            }
            Err(Status::unavailable("the API node ended the watch"))
        };
        let lost: Result<(), Status> = watch.await;
        let why = lost.map_err(|status| Why(&status).to_string()).err();
        failures += 1;
        match failures {
            1 => tracing::warn!(node = nodes.name(node), why, "not watching {what}"),
            _ => tracing::debug!(node = nodes.name(node), why, "still not watching {what}"),
        }
        failover.leave(node);
        sleep(failover.pause(failures)).await;
    }
}
