//! What kinds of node a certificate is for: it says so in URIs `hearth://role/api`,
//! `hearth://role/lb` and `hearth://role/runner` among its names (docs/adr/0017).

use std::fmt;

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// What a URI begins with that names a role.
const ROLE: &str = "hearth://role/";

/// A kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Keeps functions and calls.
    Api,
    /// Gives calls to runners.
    Lb,
    /// Runs them.
    Runner,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Api, Self::Lb, Self::Runner];

    /// How certificates name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Lb => "lb",
            Self::Runner => "runner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether this URI of a certificate names a role, and not the node.
pub(super) fn names_role(uri: &str) -> bool {
    uri.starts_with(ROLE)
}

/// The roles that a node may act in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles([bool; Role::ALL.len()]);

impl Roles {
    /// Those that `certificate` names; none if it names none at all. One that names only roles that
    /// are not known here is good for nothing here.
    pub(super) fn named(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut found = None;
        for uri in certificate.valid_uri_names() {
            let Some(name) = uri.strip_prefix(ROLE) else {
                continue;
            };
            let Self(roles) = found.get_or_insert(Self::none());
            for (role, holds) in Role::ALL.iter().zip(roles) {
                *holds |= role.as_str() == name;
            }
        }
        found
    }

    /// What a node may act as whose certificate names the roles `named`. Certificates of the time
    /// before there were roles name none: they are good for everything, unless roles are `required`.
    pub(super) fn or_all(named: Option<Self>, required: bool) -> Self {
        named.unwrap_or(match required {
            true => Self::none(),
            false => Self([true; Role::ALL.len()]),
        })
    }

    const fn none() -> Self {
        Self([false; Role::ALL.len()])
    }

    /// Whether `role` is among them.
    pub fn contain(self, role: Role) -> bool {
        let Self(roles) = self;
        Role::ALL
            .iter()
            .zip(roles)
            .any(|(own, holds)| holds && *own == role)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for role in Role::ALL.iter().filter(|role| self.contain(**role)) {
            let comma = if first { "" } else { ", " };
            write!(f, "{comma}{role}")?;
            first = false;
        }
        if first {
            f.write_str("no role")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn roles(uris: &[&str]) -> Option<String> {
        let mut params = CertificateParams::default();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
        params.subject_alt_names = uris.iter().map(uri).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Roles::named(certificate.der()).map(|roles| roles.to_string())
    }

    #[test]
    fn a_certificate_names_its_roles() {
        for (uris, expected) in [
            (&[][..], None),
            (&["spiffe://hearth/role/lb"][..], None),
            (&["hearth://role/lb"][..], Some("lb")),
            (
                &["hearth://role/runner", "hearth://role/api", "x:y"][..],
                Some("api, runner"),
            ),
            (&["hearth://role/LB"][..], Some("no role")),
            (&["hearth://role/new"][..], Some("no role")),
            (&["hearth://role/lb/x"][..], Some("no role")),
            (&["hearth://role/"][..], Some("no role")),
        ] {
            assert_eq!(roles(uris).as_deref(), expected, "{uris:?}");
        }
    }
}
