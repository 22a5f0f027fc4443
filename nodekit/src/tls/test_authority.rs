//! Certificates for tests, made when they are needed.

use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use tempfile::TempDir;

use super::NodeTls;
use crate::config::GrpcConfig;

/// The name in the nodes' certificates, besides that of the loopback.
pub(crate) const NAME: &str = "node.hearth";

/// Somebody who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of `name`, changed as the test wants.
    pub(crate) fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert: Certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate that is good for [`NAME`] and the loopback address.
    pub(crate) fn good(&self) -> Pair {
        self.sign(NAME, |params| {
            let loopback = SanType::IpAddress([127, 0, 0, 1].into());
            params.subject_alt_names.push(loopback);
        })
    }

    /// The same for the roles that `uris` name.
    pub(crate) fn good_for(&self, uris: &[&str]) -> Pair {
        self.sign(NAME, |params| {
            let loopback = SanType::IpAddress([127, 0, 0, 1].into());
            let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
            params.subject_alt_names.push(loopback);
            params.subject_alt_names.extend(uris.iter().map(uri));
        })
    }

    pub(crate) fn expired(&self) -> Pair {
        self.sign("localhost", |params| {
            params
                .subject_alt_names
                .push(SanType::IpAddress([127, 0, 0, 1].into()));
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    pub(crate) fn not_yet_valid(&self) -> Pair {
        self.sign("localhost", |params| {
            params
                .subject_alt_names
                .push(SanType::IpAddress([127, 0, 0, 1].into()));
            params.not_before = date_time_ymd(3001, 1, 1);
            params.not_after = date_time_ymd(3002, 1, 1);
        })
    }
}

/// A node's three files.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new(pair: &Pair, authorities: &str) -> Self {
        let files = Self(TempDir::new().expect("a directory"));
        files.put_pair(pair);
        files.put("authority.pem", authorities);
        files
    }

    pub(crate) fn put(&self, name: &str, contents: &str) {
        std::fs::write(self.path().join(name), contents).expect("written");
    }

    pub(crate) fn put_pair(&self, pair: &Pair) {
        self.put("cert.pem", &pair.cert);
        self.put("key.pem", &pair.key);
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn config(&self) -> GrpcConfig {
        let file = |name: &str| self.path().join(name).display().to_string();
        GrpcConfig {
            node_cert: file("cert.pem"),
            node_cert_key: file("key.pem"),
            node_cert_authority: file("authority.pem"),
            ..GrpcConfig::default()
        }
    }

    pub(crate) fn load(&self) -> NodeTls {
        NodeTls::load(&self.config())
            .expect("good files")
            .expect("TLS")
    }
}
