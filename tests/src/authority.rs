//! An authority for the certificates of a cluster's nodes.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Panics
    /// Without randomness.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Puts a new certificate for the node `name` on the loopback, and who is trusted, into
    /// `directory`. It is good for what the name begins with: `api`, `lb` or `runner`.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn equip(&self, directory: &Path, name: &str, trusted: &[&Self]) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName(name.try_into().expect("a name")),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        let role = name.split_once('-').map_or(name, |(role, _)| role);
        let role = format!("hearth://role/{role}");
        let role = role.as_str().try_into().expect("a URI");
        params.subject_alt_names.push(SanType::URI(role));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let trusted: String = trusted.iter().map(|authority| authority.pem()).collect();
        for (file, contents) in [
            ("authority.pem", trusted),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            fs::write(directory.join(file), contents).expect("a file");
        }
    }

    /// The settings of a node with the files of [`Authority::equip`].
    pub fn settings(directory: &Path) -> Vec<(String, String)> {
        let files = [
            ("FN_NODE_CERT", "cert.pem"),
            ("FN_NODE_CERT_KEY", "key.pem"),
            ("FN_NODE_CERT_AUTHORITY", "authority.pem"),
        ];
        let files = files.iter().map(|(name, file)| {
            let path = directory.join(file).display().to_string();
            ((*name).to_owned(), path)
        });
        let roles = ("FN_NODE_CERT_ROLES_REQUIRED".to_owned(), "true".to_owned());
        files.chain([roles]).collect()
    }
}
