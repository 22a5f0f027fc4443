//! The bare proxy: TCP in, a function's Unix socket out, hyper on both sides, and nothing else. It is
//! what Hearth could be at best in the same language on the same library.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::plan;

/// The containers: one connection each, one call at a time each.
struct Containers {
    free: Semaphore,
    idle: Mutex<Vec<Container>>,
}

struct Container {
    socket: PathBuf,
    sender: SendRequest<Incoming>,
}

impl Container {
    async fn connect(socket: PathBuf) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(&socket).await;
        let stream = stream.with_context(|| format!("{}", socket.display()))?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { socket, sender })
    }
}

/// A container in use; it is idle again when this is dropped, which a client that goes away does too.
struct InUse<'a> {
    container: Option<Container>,
    containers: &'a Containers,
    _permit: SemaphorePermit<'a>,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.containers.lock().extend(self.container.take());
    }
}

impl Containers {
    async fn connect(sockets: &[PathBuf]) -> anyhow::Result<Self> {
        let mut idle = Vec::new();
        for socket in sockets {
            idle.push(Container::connect(socket.clone()).await?);
        }
        let free = Semaphore::new(idle.len());
        Ok(Self {
            free,
            idle: Mutex::new(idle),
        })
    }

    async fn call(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        *request.uri_mut() = Uri::from_static("/call");
        let permit = self.free.acquire().await?;
        let container = self.lock().pop();
        let mut in_use = InUse {
            container,
            containers: self,
            _permit: permit,
        };
        let container = in_use
            .container
            .as_mut()
            .context("a permit is an idle container")?;
        // Whoever had it before may not have read its answer to the end yet.
        if container.sender.ready().await.is_err() {
            *container = Container::connect(container.socket.clone()).await?;
        }
        Ok(container.sender.send_request(request).await?)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Container>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the process is killed. Prints the address first.
pub(crate) async fn serve(proxy: &plan::Proxy) -> anyhow::Result<()> {
    let containers = Arc::new(Containers::connect(&proxy.sockets).await?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let containers = Arc::clone(&containers);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let containers = Arc::clone(&containers);
                async move { containers.call(request).await }
            });
            // A client that goes away is no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
