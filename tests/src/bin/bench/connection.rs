//! One keep-alive connection of the harness' own client, for calls that are timed one by one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::plan::BODY;

/// A connection; it is closed when it is dropped.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects to `http://HOST:PORT/…`, and yields the path too.
    pub(crate) async fn to_url(url: &str) -> anyhow::Result<(Self, String)> {
        let rest = url.strip_prefix("http://").context("an http URL")?;
        let (address, path) = rest.split_once('/').context("a URL with a path")?;
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok((Self::over(TokioIo::new(stream)).await?, format!("/{path}")))
    }

    /// Speaks HTTP over a Unix socket.
    pub(crate) async fn over_socket(stream: UnixStream) -> anyhow::Result<Self> {
        Self::over(TokioIo::new(stream)).await
    }

    async fn over(io: impl Read + Write + Send + Unpin + 'static) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(io).await?;
        let driver = tokio::spawn(async move {
            // A broken connection shows in the call.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// Sends a request, and reads the answer to its end.
    ///
    /// # Errors
    /// No answer, or one that is no success.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            bail!(
                "{path}: {}: {}",
                head.status,
                String::from_utf8_lossy(&body)
            );
        }
        Ok(body)
    }

    /// Calls a function, and says how long it took.
    pub(crate) async fn call(&mut self, path: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.send(
            Method::POST,
            path,
            "text/plain",
            Bytes::from_static(BODY.as_bytes()),
        )
        .await?;
        Ok(began.elapsed())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
