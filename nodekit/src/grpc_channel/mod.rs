//! Channels to other nodes: what a node needs to call another one over gRPC, with the node's
//! certificates and time-outs.

mod address;
mod connector;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub use address::{AddressError, NodeAddress};
pub use connector::ConnectFailure;

use crate::config::GrpcConfig;
use crate::grpc_server::{CONNECTION_WINDOW, KeepAlive, STREAM_WINDOW};
use crate::tls::{NodeTls, Role};
use connector::Connector;

/// Largest head of an answer.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// A Hearth node: it is asked whether it is still there, even when nothing is under way.
    Hearth,
    /// Perhaps an original node. Servers in Go take pings that come more often than every five
    /// minutes for an attack, and close the connection with all its calls; so there are none, and
    /// only the system's probes notice a dead link.
    Unknown,
}

/// Makes channels to other nodes of one kind. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct GrpcChannels {
    connect_timeout: Option<Duration>,
    keep_alive: Option<KeepAlive>,
    connections: u16,
    tls: Option<NodeTls>,
    role: Role,
}

impl GrpcChannels {
    /// Connects as configured to nodes of the kind `role`, and with `tls` if there is some.
    pub fn new(config: &GrpcConfig, tls: Option<NodeTls>, role: Role) -> Self {
        Self {
            connect_timeout: config.grpc_connect_timeout,
            keep_alive: KeepAlive::new(config),
            connections: config.grpc_connections.max(1),
            tls,
            role,
        }
    }

    /// Reads an address; it must not ask for TLS without certificates, or for none with them.
    ///
    /// # Errors
    /// See [`NodeAddress::parse`].
    pub fn address(&self, text: &str) -> Result<NodeAddress, AddressError> {
        NodeAddress::parse(text, self.tls.is_some())
    }

    /// Channels to the node at `address`. Nothing is connected before the first call; a connection
    /// that breaks is replaced by the next call, with the certificates of then. Must be called
    /// within a runtime.
    ///
    /// A call waits for the connection before its own time-out begins to count: bound it from
    /// outside.
    ///
    /// # Errors
    /// The host of `address` is not one that a URI can have.
    pub fn connect(&self, address: NodeAddress, kind: PeerKind) -> Result<GrpcPeer, AddressError> {
        let uri = address.uri(self.tls.is_some())?;
        let connector = Connector::new(
            address.clone(),
            self.tls.clone().map(|tls| (tls, self.role)),
            self.connect_timeout,
            self.keep_alive,
        );
        let mut endpoint = Endpoint::from(uri)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADER_LIST);
        if let (PeerKind::Hearth, Some(keep_alive)) = (kind, self.keep_alive) {
            endpoint = endpoint
                .http2_keep_alive_interval(keep_alive.interval)
                .keep_alive_timeout(keep_alive.timeout)
                .keep_alive_while_idle(true);
        }
        let channels = (0..self.connections)
            .map(|_| endpoint.connect_with_connector_lazy(connector.clone()))
            .collect();
        Ok(GrpcPeer(Arc::new(Shared {
            address,
            channels,
            turn: AtomicUsize::new(0),
        })))
    }
}

/// Whether a call failed before anything of it was sent, so that it cannot have run: there was no
/// connection, or it was just being closed. Only such a call may be sent elsewhere.
pub fn was_never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let waited_in_vain = error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_canceled);
        if waited_in_vain || error.is::<ConnectFailure>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The connections to one node; they are closed with the last clone and the last call.
#[derive(Debug, Clone)]
pub struct GrpcPeer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: NodeAddress,
    /// At least one.
    channels: Box<[Channel]>,
    turn: AtomicUsize,
}

impl GrpcPeer {
    /// Where the node is.
    pub fn address(&self) -> &NodeAddress {
        &self.0.address
    }

    /// The channel whose turn it is: one connection, for one call or one long stream.
    pub fn channel(&self) -> Channel {
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        self.0.channels[turn % self.0.channels.len()].clone()
    }
}
