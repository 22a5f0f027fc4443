//! One connection from its acceptance to its end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::HttpService;
use super::guarded_io::GuardedIo;
use super::limits::Limits;
use super::service::GuardedService;

/// What the two sides of a connection, its bytes and its requests, know of each other.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    busy: AtomicBool,
    draining: AtomicBool,
}

impl ConnectionState {
    /// Marks the connection as answering a request until the mark is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.store(true, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// From now on, the connection ends when it has nothing to do.
    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the connection should end when it has nothing to do.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Lives while a request is being answered, to the end of its answer's body.
#[derive(Debug)]
pub(super) struct Busy(Arc<ConnectionState>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Finished,
    /// The server could wait no longer.
    Aborted,
}

/// The settings of the parser that all connections share.
pub(super) fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // All waiting is bounded by `GuardedIo`, which needs no timer operation per request.
        .header_read_timeout(None)
        .max_header_size(limits.max_header_bytes)
        // A head that is not complete within this is too large as well.
        .max_buf_size(limits.max_header_bytes);
    builder
}

/// Serves a connection until it ends; after `shutdown` as soon as its request is answered, after
/// `abort` at once.
pub(super) async fn serve<S: HttpService>(
    stream: TcpStream,
    builder: &http1::Builder,
    service: Arc<S>,
    limits: Arc<Limits>,
    shutdown: &CancellationToken,
    abort: &CancellationToken,
) -> End {
    // Without it answers wait for acknowledgements; a connection that cannot be told is served too.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let state = Arc::new(ConnectionState::default());
    let mut io = GuardedIo::new(stream, state.clone(), limits.clone());
    let opened = tokio::select! {
        opened = io.open() => opened,
        () = shutdown.cancelled() => {
            state.drain();
            tokio::select! {
                opened = io.open() => opened,
                () = abort.cancelled() => return End::Aborted,
            }
        }
    };
    if !opened.unwrap_or(false) {
        return End::Finished;
    }
    let service = GuardedService::new(service, state.clone(), limits);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let outcome = tokio::select! {
        // The parser takes the first head before it is told to stop: without one it would just close.
        biased;
        outcome = connection.as_mut() => outcome,
        () = shutdown.cancelled() => {
            state.drain();
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection => outcome,
                () = abort.cancelled() => return End::Aborted,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection broken");
    }
    End::Finished
}
