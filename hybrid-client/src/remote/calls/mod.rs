//! Calls over gRPC: front doors hand them in, runners get them, all by way of any API node that
//! works.
//!
//! Whatever is asked here may be asked twice: calls, claims and keys have names, and parts of logs
//! have their places.

mod batches;
mod dequeue;
mod log_pieces;
mod plane;
mod start;
mod work;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::ApiError;
use domain::call::new_call::DEFAULT_MAX_BODY;
use proto::calls::calls_client::CallsClient;
use proto::calls_messages::{Malformed, max_message};
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use self::batches::Batches;
use self::log_pieces::Logs;
use self::start::Start;
use super::api_nodes::ApiNodes;
use super::failover::Patience;

/// No link between nodes is slower for long, in bytes per second.
const SLOWEST: u64 = 1 << 20;
/// How often a large message may have to be sent before the time is over.
const SENDINGS: u32 = 2;
/// Messages that are larger count among those of which there are not too many under way.
const LARGE: usize = 64 << 10;
/// How much of large messages may be under way, in KiB: neither this node nor an API node is to run
/// out of memory when many clients hand in large calls at once.
const LARGE_KIB: usize = 64 << 10;

/// How calls are handed to API nodes.
#[derive(Debug, Clone)]
pub struct RemoteCallsSettings {
    /// The largest input of a call, and the largest output that is kept, in bytes.
    pub max_body: usize,
    /// How long one API node may take for a short request before the next one is asked.
    pub attempt_timeout: Duration,
    /// How long a short request may take with all its attempts.
    pub total_timeout: Duration,
    /// The same for the acceptance of a call, whose client is to be told soon that it fails.
    pub accept_timeout: Duration,
}

impl Default for RemoteCallsSettings {
    fn default() -> Self {
        Self {
            max_body: DEFAULT_MAX_BODY,
            attempt_timeout: Duration::from_secs(3),
            total_timeout: Duration::from_secs(8),
            accept_timeout: Duration::from_millis(1500),
        }
    }
}

/// The calls of the API nodes. Starts, and parts of logs, that are handed in at the same time
/// travel together.
pub struct RemoteCalls {
    nodes: CallNodes,
    starts: Batches<Start>,
    logs: Batches<Logs>,
}

impl RemoteCalls {
    /// Calls of `nodes`; must be called within a runtime.
    pub fn new(nodes: ApiNodes, settings: RemoteCallsSettings) -> Self {
        let nodes = CallNodes(Arc::new(Shared {
            nodes,
            settings,
            large: Semaphore::new(LARGE_KIB),
        }));
        Self {
            starts: start::batches(nodes.clone()),
            logs: log_pieces::batches(nodes.clone()),
            nodes,
        }
    }
}

impl fmt::Debug for RemoteCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteCalls")
            .field(&self.nodes.0.nodes)
            .finish()
    }
}

/// The API nodes, and how they are asked about calls.
#[derive(Clone)]
struct CallNodes(Arc<Shared>);

struct Shared {
    nodes: ApiNodes,
    settings: RemoteCallsSettings,
    large: Semaphore,
}

impl CallNodes {
    /// Sends `request`, which is about `bytes` long, by `method` until a node answers. A large one
    /// waits for others before its time begins to count.
    async fn ask<Q, R, F>(
        &self,
        bytes: usize,
        request: Q,
        method: impl Fn(CallsClient<Channel>, Request<Q>) -> F + Send + Sync,
    ) -> Result<R, ApiError>
    where
        Q: Clone + Send + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let patience = self.patience(bytes);
        self.ask_patiently(patience, bytes, request, method).await
    }

    async fn ask_patiently<Q, R, F>(
        &self,
        patience: Patience,
        bytes: usize,
        request: Q,
        method: impl Fn(CallsClient<Channel>, Request<Q>) -> F + Send + Sync,
    ) -> Result<R, ApiError>
    where
        Q: Clone + Send + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let _place = match bytes {
            0..=LARGE => None,
            _ => {
                let kib = u32::try_from(bytes.div_ceil(1 << 10).min(LARGE_KIB));
                let place = self.0.large.acquire_many(kib.unwrap_or(u32::MAX)).await;
                Some(place.map_err(ApiError::internal)?)
            }
        };
        let client = |channel| self.client(channel);
        self.0.nodes.ask(patience, client, request, method).await
    }

    fn client(&self, channel: Channel) -> CallsClient<Channel> {
        let largest = max_message(self.0.settings.max_body);
        CallsClient::new(channel).max_decoding_message_size(largest)
    }

    /// A large message takes its time.
    fn patience(&self, bytes: usize) -> Patience {
        self.patience_of(bytes, self.0.settings.total_timeout)
    }

    /// The same for a call that is to be accepted.
    fn accept_patience(&self, bytes: usize) -> Patience {
        self.patience_of(bytes, self.0.settings.accept_timeout)
    }

    fn patience_of(&self, bytes: usize, total: Duration) -> Patience {
        let settings = &self.0.settings;
        let sending = Duration::from_millis((bytes as u64).saturating_mul(1000) / SLOWEST);
        Patience {
            // Half of it, so that another node is asked when one says nothing.
            attempt: settings
                .attempt_timeout
                .min(total / 2)
                .saturating_add(sending),
            total: total.saturating_add(sending.saturating_mul(SENDINGS)),
        }
    }
}

/// What an API node answered is not what the protocol says.
fn malformed(error: Malformed) -> ApiError {
    ApiError::internal(format_args!("answer of an API node: {error}"))
}
