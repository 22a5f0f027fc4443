//! How a connection to a runner is opened: plainly, or by whatever is handed in, such as TLS.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What HTTP/2 runs on.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens connections to runners.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Opens one to `address`, which is `host:port`, ready for HTTP/2. Whoever calls limits the time.
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>>;
}

/// TCP without encryption.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainConnector;

#[async_trait]
impl Connector for PlainConnector {
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
