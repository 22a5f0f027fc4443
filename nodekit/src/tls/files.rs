//! The three PEM files of a node's certificate, and what they hold.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;
use crate::config::GrpcConfig;

pub(super) const CERT: &str = "FN_NODE_CERT";
pub(super) const KEY: &str = "FN_NODE_CERT_KEY";
pub(super) const AUTHORITY: &str = "FN_NODE_CERT_AUTHORITY";

/// Larger files are none of ours.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct TlsFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authority: PathBuf,
}

/// What is in the files, byte for byte. It holds the private key: there is no `Debug` on purpose.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

/// What the files mean.
pub(super) struct Parsed {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

impl TlsFiles {
    /// The files that are configured; none of them is a node without TLS.
    pub(super) fn configured(config: &GrpcConfig) -> Result<Option<Self>, TlsError> {
        let settings = [
            (CERT, &config.node_cert),
            (KEY, &config.node_cert_key),
            (AUTHORITY, &config.node_cert_authority),
        ];
        let given = settings.iter().find(|(_, path)| !path.is_empty());
        let missing = settings.iter().find(|(_, path)| path.is_empty());
        match (given, missing) {
            (None, _) if !config.node_cert_name.is_empty() => Err(TlsError::NameWithoutCertificate),
            (None, _) if config.node_cert_roles_required => Err(TlsError::RolesWithoutCertificate),
            (None, _) => Ok(None),
            (Some(&(given, _)), Some(&(missing, _))) => {
                Err(TlsError::Incomplete { missing, given })
            }
            (Some(_), None) => Ok(Some(Self {
                cert: PathBuf::from(&config.node_cert),
                key: PathBuf::from(&config.node_cert_key),
                authority: PathBuf::from(&config.node_cert_authority),
            })),
        }
    }

    /// Reads the files; blocks.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        Ok(Contents {
            cert: read(CERT, &self.cert)?,
            key: read(KEY, &self.key)?,
            authority: read(AUTHORITY, &self.authority)?,
        })
    }

    /// Finds certificates and key in what was read.
    pub(super) fn parse(&self, contents: &Contents) -> Result<Parsed, TlsError> {
        let fail = |setting, path: &Path, wanted| {
            let path = path.to_owned();
            move |source| TlsError::Pem {
                setting,
                path,
                wanted,
                source,
            }
        };
        Ok(Parsed {
            chain: certificates(&contents.cert).map_err(fail(CERT, &self.cert, "certificate"))?,
            key: PrivateKeyDer::from_pem_slice(&contents.key).map_err(fail(
                KEY,
                &self.key,
                "private key",
            ))?,
            authorities: certificates(&contents.authority).map_err(fail(
                AUTHORITY,
                &self.authority,
                "certificate",
            ))?,
        })
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |source| TlsError::Read {
        setting,
        path: path.to_owned(),
        source,
    };
    let mut contents = Vec::new();
    let length = File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut contents))
        .map_err(fail)?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(fail(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(contents)
}

/// All certificates, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        return Err(pem::Error::NoItemsFound);
    }
    Ok(found)
}
