//! The gRPC listener of a node: HTTP/2 over TCP or mutual TLS, bounded in connections, streams and
//! time, so that neither a slow nor a vanished peer costs the others anything (DESIGN 7, 9).

mod access;
mod connection;
mod deadline;
mod limits;
mod opening;
mod refusals;
#[cfg(test)]
pub(crate) mod test_node;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

pub use access::Access;
pub(crate) use connection::{CONNECTION_WINDOW, STREAM_WINDOW};
pub use deadline::CallDeadline;
pub use limits::{GrpcLimits, KeepAlive};

use crate::http_server::{Drained, listener};
use crate::tls::NodeTls;
use connection::{Acceptance, End};
use refusals::Refusals;

/// A bound gRPC listener.
#[derive(Debug)]
pub struct GrpcServer {
    listener: TcpListener,
    address: SocketAddr,
    limits: GrpcLimits,
    tls: Option<NodeTls>,
}

impl GrpcServer {
    /// Binds `address`; port 0 takes any free port. With `tls`, whoever has no certificate of the
    /// authority is refused.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(
        address: SocketAddr,
        limits: GrpcLimits,
        tls: Option<NodeTls>,
    ) -> io::Result<Self> {
        let listener = listener::listen(address)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            limits,
            tls,
        })
    }

    /// The address that is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes`, and of these what `access` lets in, until `shutdown`; then tells the peers to go elsewhere, lets running calls
    /// finish, and after `shutdown_timeout` cuts them off.
    ///
    /// Requests carry in their extensions a [`CallDeadline`] if the caller set one, the addresses
    /// ([`tonic::Request::remote_addr`]), and over TLS a [`crate::tls::PeerIdentity`].
    pub async fn serve(
        self,
        routes: Routes,
        access: Access,
        shutdown: CancellationToken,
    ) -> Drained {
        let tracker = TaskTracker::new();
        let abort = CancellationToken::new();
        let refusals = Arc::new(Refusals::default());
        let acceptance = Arc::new(Acceptance {
            routes: routes.prepare(),
            access,
            http2: connection::builder(&self.limits, &tracker),
            limits: self.limits.clone(),
            tls: self.tls,
            refusals: refusals.clone(),
            shutdown: shutdown.clone(),
            abort: abort.clone(),
        });
        let aborted = Arc::new(AtomicUsize::new(0));
        let places = Arc::new(Semaphore::new(self.limits.max_connections));
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&self.listener) => accepted,
            };
            let (stream, peer) = accepted;
            let Ok(place) = places.clone().try_acquire_owned() else {
                refusals.warn(
                    peer,
                    "there are too many connections (FN_GRPC_MAX_CONNECTIONS)",
                );
                continue;
            };
            let (acceptance, aborted) = (acceptance.clone(), aborted.clone());
            tracker.spawn(async move {
                if acceptance.serve(stream, peer).await == End::Aborted {
                    aborted.fetch_add(1, Ordering::Relaxed);
                }
                drop(place);
            });
        }
        tracker.close();
        // New clients are refused from here on, instead of waiting for nobody.
        drop(self.listener);
        match self.limits.shutdown_timeout {
            Some(limit) => {
                if timeout(limit, tracker.wait()).await.is_err() {
                    abort.cancel();
                    tracker.wait().await;
                }
            }
            None => tracker.wait().await,
        }
        Drained {
            aborted: aborted.load(Ordering::Relaxed),
        }
    }
}

/// The next connection; errors are survived.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = listener::FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if listener::is_of_one_connection(&error) => {}
            // No descriptor or no memory: asking again at once would only burn the processor.
            Err(error) => {
                tracing::warn!(%error, "gRPC connections cannot be accepted");
                sleep(pause).await;
                pause = (pause * 2).min(listener::LAST_PAUSE);
            }
        }
    }
}
