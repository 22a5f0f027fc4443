//! Connecting to one node: TCP, then mutual TLS if there are certificates.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls;
use tower::Service;

use super::address::NodeAddress;
use crate::grpc_server::KeepAlive;
use crate::tls::{NodeTls, Role};

/// How long a failed attempt answers for the next ones. A channel connects when it is called, and
/// calls that queued up behind a dead address would else wait for one time-out after the other.
const FAILURE_LASTS: Duration = Duration::from_millis(100);

/// Why a node cannot be reached. It is shared by the calls that wait for the same attempt.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot connect to {address}: {reason}")]
pub struct ConnectFailure {
    address: Arc<NodeAddress>,
    reason: Arc<str>,
}

/// Makes the connections to one node. Clones share what they know of failures.
#[derive(Clone)]
pub(super) struct Connector {
    address: Arc<NodeAddress>,
    tcp: HttpConnector,
    tls: Option<(NodeTls, Role)>,
    limit: Duration,
    last_failure: Arc<Mutex<Option<(Instant, ConnectFailure)>>>,
}

impl Connector {
    pub(super) fn new(
        address: NodeAddress,
        tls: Option<(NodeTls, Role)>,
        limit: Option<Duration>,
        keep_alive: Option<KeepAlive>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        if let Some(keep_alive) = keep_alive {
            // The system's own probes go unseen by the peer: they are there even where the peer
            // must not be sent HTTP/2 pings.
            tcp.set_keepalive(Some(keep_alive.interval.max(Duration::from_secs(1))));
            tcp.set_keepalive_interval(Some(Duration::from_secs(1)));
            tcp.set_tcp_user_timeout(Some(keep_alive.interval.saturating_add(keep_alive.timeout)));
        }
        Self {
            address: Arc::new(address),
            tcp,
            tls,
            limit: limit.unwrap_or(Duration::MAX),
            last_failure: Arc::default(),
        }
    }

    async fn connect(mut self, uri: Uri) -> Result<TokioIo<NodeIo>, ConnectFailure> {
        if let Some(failure) = self.recent_failure() {
            return Err(failure);
        }
        let attempt = async {
            let stream = self
                .tcp
                .call(uri)
                .await
                .map_err(|error| with_causes(&error))?
                .into_inner();
            match &self.tls {
                None => Ok(NodeIo::Plain(stream)),
                Some((tls, role)) => match tls.connect(self.address.host(), *role, stream).await {
                    Ok(stream) => Ok(NodeIo::Tls {
                        stream: Box::new(stream),
                        address: self.address.clone(),
                    }),
                    Err(error) => Err(with_causes(&error)),
                },
            }
        };
        let reason: String = match timeout(self.limit, attempt).await {
            Ok(Ok(io)) => {
                self.remember(None);
                return Ok(TokioIo::new(io));
            }
            Ok(Err(reason)) => reason,
            Err(_) => "it takes too long".to_owned(),
        };
        let failure = ConnectFailure {
            address: self.address.clone(),
            reason: reason.into(),
        };
        if self.remember(Some(failure.clone())) {
            tracing::warn!(node = %self.address, reason = %failure.reason, "a node cannot be connected to");
        }
        Err(failure)
    }

    fn recent_failure(&self) -> Option<ConnectFailure> {
        let last = self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (at, failure) = last.as_ref()?;
        (at.elapsed() < FAILURE_LASTS).then(|| failure.clone())
    }

    /// Keeps the outcome of an attempt; whether it is another failure than the last time.
    fn remember(&self, failure: Option<ConnectFailure>) -> bool {
        let mut last = self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = last.take().map(|(_, failure)| failure.reason);
        let is_new = failure
            .as_ref()
            .is_some_and(|failure| before.as_ref() != Some(&failure.reason));
        *last = failure.map(|failure| (Instant::now(), failure));
        is_new
    }
}

/// The text of an error and of what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        // Some repeat their cause, and some do not.
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    text
}

impl Service<Uri> for Connector {
    type Response = TokioIo<NodeIo>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection to a node.
pub(super) enum NodeIo {
    Plain(TcpStream),
    Tls {
        stream: Box<TlsStream<TcpStream>>,
        address: Arc<NodeAddress>,
    },
}

impl fmt::Debug for NodeIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Tls { .. } => "Tls",
        })
    }
}

impl AsyncRead for NodeIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls { stream, address } => {
                let outcome = Pin::new(stream).poll_read(cx, buffer);
                // A server judges the client's certificate when the client's part of the handshake
                // is already over: its refusal is the first thing that is read.
                if let Poll::Ready(Err(error)) = &outcome
                    && let Some(alert) = refusal(error)
                {
                    tracing::warn!(node = %address, reason = %alert, "a node refuses this node's certificate");
                }
                outcome
            }
        }
    }
}

/// What the peer said when it ended TLS.
fn refusal(error: &io::Error) -> Option<&rustls::Error> {
    error
        .get_ref()?
        .downcast_ref::<rustls::Error>()
        .filter(|error| matches!(error, rustls::Error::AlertReceived(_)))
}

impl AsyncWrite for NodeIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
