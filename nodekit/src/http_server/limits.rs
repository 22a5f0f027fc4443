//! What a listener puts up with.

use std::time::Duration;

use crate::config::NodeConfig;

/// The smallest limit of a request head that the parser can work with.
const MIN_HEADER_BYTES: usize = 8192;

/// The limits of a listener. A time that is `None` is no limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time for a request head, from its first byte or from the start of the connection.
    pub header_read_timeout: Option<Duration>,
    /// Time between two requests of one connection.
    pub idle_timeout: Option<Duration>,
    /// Time for a whole request body.
    pub body_read_timeout: Option<Duration>,
    /// Longest pause within a request body, while somebody waits for more of it.
    pub body_stall_timeout: Option<Duration>,
    /// Time from the end of a request head to the end of its answer.
    pub write_timeout: Option<Duration>,
    /// Longest time in which a client takes nothing of an answer that is there for it.
    pub write_stall_timeout: Option<Duration>,
    /// Largest request head in bytes; further ones are answered 431.
    pub max_header_bytes: usize,
    /// Largest request body in bytes.
    pub max_body_bytes: Option<u64>,
    /// Most connections at a time. Further ones wait, unaccepted, in the system's queue: the
    /// time-outs above free places, and a client that waits is better off than one turned away.
    pub max_connections: usize,
    /// How long a shutdown waits for requests that are being answered.
    pub shutdown_timeout: Option<Duration>,
}

impl Limits {
    /// The limits that a node is configured with.
    pub fn new(config: &NodeConfig) -> Self {
        let max_header = usize::try_from(config.max_request_header_size).unwrap_or(usize::MAX);
        Self {
            header_read_timeout: config.request_header_read_timeout,
            idle_timeout: config.http_idle_timeout,
            body_read_timeout: config.request_body_read_timeout,
            body_stall_timeout: config.request_body_stall_timeout,
            write_timeout: config.response_write_timeout,
            write_stall_timeout: config.response_stall_timeout,
            max_header_bytes: max_header.max(MIN_HEADER_BYTES),
            max_body_bytes: Some(config.max_request_size).filter(|&max| max > 0),
            max_connections: usize::try_from(config.max_connections)
                .unwrap_or(usize::MAX)
                .max(1),
            shutdown_timeout: config.shutdown_timeout,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&NodeConfig::default())
    }
}
