//! What can be wrong with the certificates that a node is configured with.

use std::io;
use std::path::PathBuf;

use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem;

/// Why certificates cannot be used. Every text names the setting, and the file if there is one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Some of the three settings are there, and some are not.
    #[error(
        "{missing} is not set, but {given} is: a node needs all of FN_NODE_CERT, FN_NODE_CERT_KEY and FN_NODE_CERT_AUTHORITY, or none"
    )]
    Incomplete {
        /// A setting that is needed.
        missing: &'static str,
        /// A setting that is there.
        given: &'static str,
    },
    /// A name is expected of peers although there are no certificates to find it in.
    #[error("FN_NODE_CERT_NAME is set, but FN_NODE_CERT is not")]
    NameWithoutCertificate,
    /// Peers must have roles although there are no certificates to find them in.
    #[error("FN_NODE_CERT_ROLES_REQUIRED is true, but FN_NODE_CERT is not set")]
    RolesWithoutCertificate,
    /// The expected name is not one that certificates can have.
    #[error("FN_NODE_CERT_NAME is neither a DNS name nor an IP address")]
    Name,
    /// The file cannot be read.
    #[error("{setting}: {}: {source}", path.display())]
    Read {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not PEM, or holds nothing of the kind that is needed.
    #[error("{setting}: {}: no {wanted} in PEM form: {source}", path.display())]
    Pem {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What the parser says.
        source: pem::Error,
    },
    /// What is in the file cannot be used.
    #[error("{setting}: {}: {source}", path.display())]
    Unusable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// The certificate has no name that peers could know the node by.
    #[error("FN_NODE_CERT: {}: the certificate has neither a DNS name, nor a URI, nor a common name", path.display())]
    Nameless {
        /// The file.
        path: PathBuf,
    },
}
