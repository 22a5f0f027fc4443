//! One gRPC connection from its acceptance to its end.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tower::Service as _;

use super::access::{Access, Denied};
use super::deadline::{self, CallDeadline};
use super::limits::{GrpcLimits, KeepAlive};
use super::opening::{Opened, OpeningError};
use super::refusals::Refusals;
use crate::tls::{NodeTls, Peer};

/// How much of one call may be under way to a reader that takes nothing.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all calls of a connection. A call whose reader stalls keeps its part of it, and the
/// others need the rest: it must be many times the window of one.
pub(crate) const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// Largest head of a request; nothing large travels in heads.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// Calls that a peer may take back before they were looked at. A load balancer whose clients leave
/// takes many back at once, and must not lose its other calls for it.
const MAX_TAKEN_BACK: usize = 1000;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Finished,
    /// The server could wait no longer.
    Aborted,
}

/// Runs the calls of connections on the server's tracker, so that it waits for them too.
#[derive(Debug, Clone)]
pub(super) struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.spawn(call);
    }
}

/// The settings of HTTP/2 that all connections share.
pub(super) fn builder(limits: &GrpcLimits, tracker: &TaskTracker) -> http2::Builder<Tracked> {
    let mut builder = http2::Builder::new(Tracked(tracker.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_TAKEN_BACK)
        .auto_date_header(false);
    if let Some(keep_alive) = limits.keep_alive {
        builder
            .keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout);
    }
    builder
}

/// What all connections of a server share.
pub(super) struct Acceptance {
    pub(super) routes: Routes,
    pub(super) access: Access,
    pub(super) http2: http2::Builder<Tracked>,
    pub(super) limits: GrpcLimits,
    pub(super) tls: Option<NodeTls>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) shutdown: CancellationToken,
    pub(super) abort: CancellationToken,
}

impl Acceptance {
    /// Serves a connection until it ends: after `shutdown` when its calls are over, after `abort`
    /// at once.
    pub(super) async fn serve(&self, stream: TcpStream, peer: SocketAddr) -> End {
        if let Err(error) = tune(&stream, self.limits.keep_alive) {
            tracing::debug!(%peer, %error, "connection could not be tuned");
        }
        let addresses = TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: Some(peer),
        };
        match &self.tls {
            None => match self.open(peer, Opened::wait(stream)).await {
                Some(io) => self.calls(io, peer, addresses, None).await,
                None => End::Finished,
            },
            Some(tls) => {
                let handshake = async {
                    let accepted = tls.accept(stream).await;
                    let (stream, node) = accepted.map_err(OpeningError::of_handshake)?;
                    Ok((Opened::wait(stream).await?, node))
                };
                match self.open(peer, handshake).await {
                    Some((io, node)) => self.calls(io, peer, addresses, Some(node)).await,
                    None => End::Finished,
                }
            }
        }
    }

    /// Waits for a connection to be opened, within the time that it has.
    async fn open<T>(
        &self,
        peer: SocketAddr,
        opening: impl Future<Output = Result<T, OpeningError>>,
    ) -> Option<T> {
        let limit = self.limits.handshake_timeout.unwrap_or(Duration::MAX);
        let opened = tokio::select! {
            opened = timeout(limit, opening) => opened,
            // It has not asked for anything yet.
            () = self.shutdown.cancelled() => return None,
        };
        match opened {
            Ok(Ok(opened)) => return Some(opened),
            Ok(Err(OpeningError::Nothing)) => {
                tracing::debug!(%peer, "gRPC connection closed without a request");
            }
            // It went away: a look at the port, or a peer that was just ended.
            Ok(Err(OpeningError::Io(error))) if is_gone(&error) => {
                tracing::debug!(%peer, %error, "gRPC connection broken while it was opened");
            }
            Ok(Err(error)) => self.refusals.warn(peer, error),
            Err(_) => self.refusals.warn(peer, "it was not opened in time"),
        }
        None
    }

    /// Serves the calls of an open connection.
    async fn calls<T>(
        &self,
        io: T,
        peer: SocketAddr,
        addresses: TcpConnectInfo,
        node: Option<Peer>,
    ) -> End
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (routes, access) = (self.routes.clone(), self.access);
        let refusals = Arc::clone(&self.refusals);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let path = request.uri().path();
            let admission = access.check(path, node.as_ref().map(|node| node.roles));
            if let Err(Denied::NotFor(role)) = admission {
                let path = path.to_owned();
                refusals.warn(
                    peer,
                    format_args!("{path} is for a node with the role {role}"),
                );
            }
            let deadline = CallDeadline::of(request.headers());
            let extensions = request.extensions_mut();
            extensions.insert(addresses.clone());
            if let Some(node) = &node {
                extensions.insert(node.identity.clone());
            }
            if let Some(deadline) = deadline {
                extensions.insert(deadline);
            }
            let mut routes = routes.clone();
            async move {
                if let Err(denied) = admission {
                    return Ok(refusal(denied).into_http());
                }
                // Routes are always ready.
                deadline::bound(deadline, routes.call(request)).await as Result<_, Infallible>
            }
        });
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(io), service));
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    outcome = connection => outcome,
                    () = self.abort.cancelled() => return End::Aborted,
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%peer, %error, "gRPC connection broken");
        }
        End::Finished
    }
}

impl fmt::Debug for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptance").finish_non_exhaustive()
    }
}

/// What a caller is told that is not let in.
fn refusal(denied: Denied) -> Status {
    match denied {
        // As if it were not there.
        Denied::Unknown => Status::unimplemented(""),
        Denied::NotFor(role) => Status::permission_denied(format!(
            "this is for nodes with the role {role} in their certificate"
        )),
    }
}

/// Sends at once, and has the system notice a link that takes nothing any more.
fn tune(stream: &TcpStream, keep_alive: Option<KeepAlive>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(keep_alive) = keep_alive {
        let limit = keep_alive.interval.saturating_add(keep_alive.timeout);
        sockopt::set_tcp_user_timeout(
            stream,
            u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
        )?;
    }
    Ok(())
}

/// Whether the peer only went away.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}
