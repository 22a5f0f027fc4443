//! Accepting connections, and ending them all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::HttpService;
use super::connection::{self, End};
use super::limits::Limits;

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 4096;

/// The pauses after a failed accept: doubled from the first to the last.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(crate) const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How a server's shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because their requests took too long.
    pub aborted: usize,
}

/// A bound listener.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    limits: Arc<Limits>,
}

impl HttpServer {
    /// Binds `address`; port 0 takes any free port.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = listen(address)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            limits: Arc::new(limits),
        })
    }

    /// The address that is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `shutdown`; then closes the idle ones, lets the others answer the
    /// request they have, and after `shutdown_timeout` cuts them off.
    pub async fn serve<S: HttpService>(self, service: S, shutdown: CancellationToken) -> Drained {
        let service = Arc::new(service);
        let builder = Arc::new(connection::builder(&self.limits));
        let places = Arc::new(Semaphore::new(self.most_connections()));
        let abort = CancellationToken::new();
        let aborted = Arc::new(AtomicUsize::new(0));
        let connections = TaskTracker::new();
        let start = |stream: TcpStream, place: OwnedSemaphorePermit| {
            let (service, builder, limits) =
                (service.clone(), builder.clone(), self.limits.clone());
            let (shutdown, abort, aborted) = (shutdown.clone(), abort.clone(), aborted.clone());
            connections.spawn(async move {
                let end =
                    connection::serve(stream, &builder, service, limits, &shutdown, &abort).await;
                if end == End::Aborted {
                    aborted.fetch_add(1, Ordering::Relaxed);
                }
                drop(place);
            });
        };
        while let Some((stream, place)) = self.accept(&places, &shutdown).await {
            start(stream, place);
        }
        // Clients that the system has connected already believe that they are served. The next ones
        // are refused, instead of waiting for nobody.
        for stream in queued(self.listener) {
            match places.clone().try_acquire_owned() {
                Ok(place) => start(stream, place),
                Err(_) => break,
            }
        }
        connections.close();
        match self.limits.shutdown_timeout {
            Some(limit) => {
                if timeout(limit, connections.wait()).await.is_err() {
                    abort.cancel();
                    connections.wait().await;
                }
            }
            None => connections.wait().await,
        }
        Drained {
            aborted: aborted.load(Ordering::Relaxed),
        }
    }

    /// The next connection and its place, or none after `shutdown`. Connections wait for a place in
    /// the system's queue; errors are survived.
    async fn accept(
        &self,
        places: &Arc<Semaphore>,
        shutdown: &CancellationToken,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            let mut pause = FIRST_PAUSE;
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => return Some((stream, place)),
                    Err(error) if is_of_one_connection(&error) => {}
                    // No descriptor or no memory: others must end first, and asking again at once
                    // would only burn the processor.
                    Err(error) => {
                        tracing::warn!(%error, "connections cannot be accepted");
                        sleep(pause).await;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            accepted = next => accepted,
        }
    }

    /// Leaves a part of the process's descriptors to containers, stores and peers.
    fn most_connections(&self) -> usize {
        let files = open_files_limit().map_or(usize::MAX, |limit| limit / 5 * 4);
        self.limits
            .max_connections
            .min(files)
            .clamp(1, Semaphore::MAX_PERMITS)
    }
}

/// Listens on `address`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted node takes its port over while old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The connections that wait to be accepted; then nobody listens any more.
fn queued(listener: TcpListener) -> impl Iterator<Item = TcpStream> {
    let listener = listener.into_std();
    std::iter::from_fn(move || {
        let (stream, _) = listener.as_ref().ok()?.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    })
}

/// Whether only the connection that was to be accepted is broken.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// How many files the process may have open; `None` is no limit.
pub fn open_files_limit() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Raises the number of files that the process may have open as far as it is allowed to. A shell's
/// usual 1024 would leave few to clients when some of them are slow on purpose.
pub fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
