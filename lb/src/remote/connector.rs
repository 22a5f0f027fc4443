//! How a connection to a runner is opened: TCP, then mutual TLS if there are certificates.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use nodekit::tls::{NodeTls, Role};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may be quiet until its peer's system is asked, and again; and how often
/// before it is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TRIES: u32 = 3;

/// What HTTP/2 runs on.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens connections to runners.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Opens one to `address`, which is `host:port`, ready for HTTP/2. Whoever calls limits the
    /// time of all of it.
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>>;
}

/// Opens connections over the network.
#[derive(Debug, Clone)]
pub struct NodeConnector {
    tls: Option<NodeTls>,
    tcp_timeout: Duration,
}

impl NodeConnector {
    /// With `tls` if nodes have certificates; TCP may take as long as `tcp_timeout`.
    pub fn new(tls: Option<NodeTls>, tcp_timeout: Duration) -> Self {
        Self { tls, tcp_timeout }
    }
}

#[async_trait]
impl Connector for NodeConnector {
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>> {
        let stream = timeout(self.tcp_timeout, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        if let Err(error) = keep_asking(&stream) {
            tracing::debug!(address, %error, "the system does not look after a connection");
        }
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                let connected = tls.connect(host(address), Role::Runner, stream).await?;
                Ok(Box::new(connected))
            }
        }
    }
}

/// Has the system ask a quiet peer's system whether it knows the connection. One that is half open
/// would else be found out by the first call that is sent on it, which is lost with it.
fn keep_asking(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_TRIES)?;
    sockopt::set_socket_keepalive(stream, true)
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_the_host() {
        for (address, expected) in [
            ("a.b:1", "a.b"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("[::1]:1", "::1"),
        ] {
            assert_eq!(host(address), expected);
        }
    }
}
