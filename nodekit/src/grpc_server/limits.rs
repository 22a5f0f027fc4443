//! What a gRPC listener puts up with.

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::{GrpcConfig, NodeConfig};

/// How it is noticed that a peer is gone without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence after which the peer is asked.
    pub interval: Duration,
    /// Time for its answer.
    pub timeout: Duration,
}

impl KeepAlive {
    /// As configured; `None` never asks.
    pub fn new(config: &GrpcConfig) -> Option<Self> {
        let interval = config.grpc_keepalive_interval?;
        Some(Self {
            interval,
            timeout: config.grpc_keepalive_timeout.unwrap_or(interval),
        })
    }
}

/// The limits of a gRPC listener. A time that is `None` is no limit.
#[derive(Debug, Clone)]
pub struct GrpcLimits {
    /// Time for a new connection to get through TLS and to its first HTTP/2 frame.
    pub handshake_timeout: Option<Duration>,
    /// Most connections at a time; further ones are closed.
    pub max_connections: usize,
    /// Most calls at a time on one connection.
    pub max_streams: u32,
    /// When a silent peer is given up.
    pub keep_alive: Option<KeepAlive>,
    /// How long a shutdown waits for running calls.
    pub shutdown_timeout: Option<Duration>,
}

impl GrpcLimits {
    /// The limits that a node is configured with.
    pub fn new(node: &NodeConfig, grpc: &GrpcConfig) -> Self {
        Self {
            handshake_timeout: grpc.grpc_handshake_timeout,
            max_connections: usize::try_from(grpc.grpc_max_connections)
                .unwrap_or(usize::MAX)
                .clamp(1, Semaphore::MAX_PERMITS),
            max_streams: grpc.grpc_max_streams.max(1),
            keep_alive: KeepAlive::new(grpc),
            shutdown_timeout: node.shutdown_timeout,
        }
    }
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self::new(&NodeConfig::default(), &GrpcConfig::default())
    }
}
