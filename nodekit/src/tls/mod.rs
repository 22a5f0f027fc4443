//! Mutual TLS between nodes: each shows a certificate of the common authority and demands one, and
//! a change of the files is taken over without a restart (DESIGN 7).

mod change;
mod configs;
mod error;
mod files;
mod identity;
mod role;
#[cfg(test)]
mod role_tests;
#[cfg(test)]
pub(crate) mod test_authority;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::sync::CancellationToken;

use change::Change;
use configs::Configs;
use files::{Contents, TlsFiles};

pub use error::TlsError;
pub use identity::PeerIdentity;
pub use role::{Role, Roles};

use crate::config::GrpcConfig;

/// How often the files are looked at. They are small, and are compared by what is in them: times
/// of change are too coarse to see every change.
const RELOAD_PERIOD: Duration = Duration::from_secs(1);

/// Makes ring the cryptography of clients that take none of their own, in the whole process.
pub fn use_ring() {
    // Somebody was here before: there is no other provider in this binary.
    let _ = ring::default_provider().install_default();
}

/// The certificate of this node and the authority of all of them. Clones share it.
#[derive(Clone)]
pub struct NodeTls(Arc<Shared>);

struct Shared {
    files: TlsFiles,
    /// The name that every node's certificate has, if there is such a name.
    expected_name: Option<ServerName<'static>>,
    /// Whether a certificate without a role is good for none.
    roles_required: bool,
    /// What was in the files when they were loaded.
    first: Contents,
    current: watch::Sender<Arc<Configs>>,
}

impl NodeTls {
    /// Loads the certificates that are configured; `None` if there are none, and nodes speak
    /// without TLS.
    ///
    /// # Errors
    /// The settings contradict each other, or a file cannot be used.
    pub fn load(config: &GrpcConfig) -> Result<Option<Self>, TlsError> {
        let Some(files) = TlsFiles::configured(config)? else {
            return Ok(None);
        };
        let expected_name = match config.node_cert_name.as_str() {
            "" => None,
            name => Some(ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name)?),
        };
        let first = files.read()?;
        let configs = Configs::build(&files, &first)?;
        tracing::info!(identity = %configs.identity, "nodes speak mutual TLS");
        Ok(Some(Self(Arc::new(Shared {
            files,
            expected_name,
            roles_required: config.node_cert_roles_required,
            first,
            current: watch::Sender::new(Arc::new(configs)),
        }))))
    }

    /// The name in this node's own certificate.
    pub fn identity(&self) -> PeerIdentity {
        self.current().identity.clone()
    }

    /// What this node's own certificate lets it act as, as far as other nodes of the same settings
    /// are concerned.
    pub fn roles(&self) -> Roles {
        self.of_peer(self.current().named_roles)
    }

    fn of_peer(&self, named: Option<Roles>) -> Roles {
        Roles::or_all(named, self.0.roles_required)
    }

    /// Takes changed files over until `shutdown`; without this task they are read once. Handshakes
    /// from then on use what is new; connections that are open go on. Files that do not belong
    /// together, or are not complete, change nothing but the log.
    pub async fn reload(self, shutdown: CancellationToken) {
        self.reload_every(RELOAD_PERIOD, shutdown).await;
    }

    async fn reload_every(self, period: Duration, shutdown: CancellationToken) {
        let mut change = Change::since(self.0.first.clone());
        let mut complaint = String::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(period) => {}
            }
            let files = self.0.files.clone();
            let found = match tokio::task::spawn_blocking(move || files.read()).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    let error = error.to_string();
                    if error != complaint {
                        tracing::warn!(%error, "certificates cannot be read, the old ones stay");
                        complaint = error;
                    }
                    continue;
                }
                // The runtime ends.
                Err(_) => return,
            };
            complaint.clear();
            let Some(found) = change.look(found) else {
                continue;
            };
            match Configs::build(&self.0.files, &found) {
                Ok(configs) => {
                    tracing::info!(identity = %configs.identity, "certificates reloaded");
                    self.0.current.send_replace(Arc::new(configs));
                }
                Err(error) => {
                    tracing::warn!(%error, "certificates cannot be used, the old ones stay");
                }
            }
        }
    }

    /// The server's part of a handshake, and who the client is and may act as.
    ///
    /// # Errors
    /// Why the client was refused, or why it refused this node.
    pub(crate) async fn accept<T>(&self, io: T) -> std::io::Result<(server::TlsStream<T>, Peer)>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.current().server.clone())
            .accept(io)
            .await?;
        let (_, session) = stream.get_ref();
        let own = session.peer_certificates().and_then(|chain| chain.first());
        let nameless = || std::io::Error::other("the peer's certificate has no name");
        let identity = own.and_then(PeerIdentity::of).ok_or_else(nameless)?;
        let roles = self.of_peer(own.and_then(Roles::named));
        Ok((stream, Peer { identity, roles }))
    }

    /// The client's part of a handshake with the server at `host`, a name or an IP address without
    /// brackets, which must be a node of the kind `role`.
    ///
    /// # Errors
    /// Why the server was refused. That the server refuses this node shows only when it is read
    /// from.
    pub async fn connect<T>(
        &self,
        host: &str,
        role: Role,
        io: T,
    ) -> std::io::Result<client::TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match &self.0.expected_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?,
        };
        let stream = TlsConnector::from(self.current().client.clone())
            .connect(name, io)
            .await?;
        let (_, session) = stream.get_ref();
        let own = session.peer_certificates().and_then(|chain| chain.first());
        let roles = self.of_peer(own.and_then(Roles::named));
        if !roles.contain(role) {
            let text = format!("the certificate is for {roles}, and not for {role}");
            return Err(std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                text,
            ));
        }
        Ok(stream)
    }

    fn current(&self) -> Arc<Configs> {
        self.0.current.borrow().clone()
    }
}

/// The node at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Who it is.
    pub(crate) identity: PeerIdentity,
    /// What it may act as.
    pub(crate) roles: Roles,
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls")
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}
