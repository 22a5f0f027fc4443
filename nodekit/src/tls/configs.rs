//! What one set of certificates means for both sides of a handshake.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

use super::error::TlsError;
use super::files::{AUTHORITY, CERT, Contents, KEY, TlsFiles};
use super::identity::PeerIdentity;
use super::role::Roles;

/// HTTP/2 is all that nodes speak to each other.
const PROTOCOL: &[u8] = b"h2";

/// Both sides of TLS 1.3 with one certificate.
///
/// There is no resumption: it would let a peer back in whose certificate has expired, or whose
/// authority is gone, and nodes keep their connections anyway.
pub(super) struct Configs {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) identity: PeerIdentity,
    pub(super) named_roles: Option<Roles>,
}

impl Configs {
    /// Builds both sides from what is in `files`.
    pub(super) fn build(files: &TlsFiles, contents: &Contents) -> Result<Self, TlsError> {
        let parsed = files.parse(contents)?;
        let unusable = |setting, path: &std::path::Path| {
            let path = path.to_owned();
            move |source| TlsError::Unusable {
                setting,
                path,
                source,
            }
        };
        let mut roots = RootCertStore::empty();
        for authority in parsed.authorities {
            roots
                .add(authority)
                .map_err(unusable(AUTHORITY, &files.authority))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let certified = CertifiedKey::from_der(parsed.chain, parsed.key, &provider)
            .map_err(unusable(KEY, &files.key))?;
        let own = certified
            .end_entity_cert()
            .map_err(unusable(CERT, &files.cert))?;
        let identity = PeerIdentity::of(own).ok_or_else(|| TlsError::Nameless {
            path: files.cert.clone(),
        })?;
        let named_roles = Roles::named(own);
        let of_verifier = |error: VerifierBuilderError| {
            unusable(AUTHORITY, &files.authority)(rustls::Error::General(error.to_string()))
        };
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(of_verifier)?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(of_verifier)?;
        // Not an error: the other files of a change may be on their way.
        if let Err(error) = clients.verify_client_cert(own, &certified.cert[1..], UnixTime::now()) {
            tracing::warn!(
                file = %files.cert.display(),
                reason = %error,
                "FN_NODE_CERT: other nodes will refuse this certificate"
            );
        }
        let own = Arc::new(SingleCertAndKey::from(certified));
        let versions = unusable(CERT, &files.cert);
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(versions)?
            .with_client_cert_verifier(clients);
        let mut server = server.with_cert_resolver(own.clone());
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client(provider, servers, own).map_err(unusable(CERT, &files.cert))?),
            identity,
            named_roles,
        })
    }
}

fn client(
    provider: Arc<CryptoProvider>,
    servers: Arc<WebPkiServerVerifier>,
    own: Arc<SingleCertAndKey>,
) -> Result<ClientConfig, rustls::Error> {
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers)
        .with_client_cert_resolver(own);
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(client)
}

impl fmt::Debug for Configs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configs")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
