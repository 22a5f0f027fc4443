//! Who the other node is, as its certificate tells.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::role::names_role;

/// The name in the certificate of the node at the other end: its first DNS name, else its first
/// URI that names no role, else its common name. It is in the extensions of every gRPC request that came over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity(Arc<str>);

impl PeerIdentity {
    /// The name in `certificate`, whose signature is somebody else's to verify.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut names = certificate
            .valid_dns_names()
            .chain(certificate.valid_uri_names());
        names
            .find(|name| !names_role(name))
            .or_else(|| common_name(certificate.subject()))
            .filter(|name| !name.is_empty() && !name.contains(char::is_control))
            .map(|name| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// The object id 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The first common name of a distinguished name (RFC 5280 4.1.2.4), without its outer sequence.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    while !subject.is_empty() {
        let mut set = take(&mut subject, SET)?;
        while !set.is_empty() {
            let mut attribute = take(&mut set, SEQUENCE)?;
            if take(&mut attribute, OBJECT_ID)? == COMMON_NAME {
                let (tag, value) = take_any(&mut attribute)?;
                return matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING)
                    .then(|| std::str::from_utf8(value).ok())?;
            }
        }
    }
    None
}

/// The contents of the next element, which must have this tag.
fn take<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    take_any(input).and_then(|(found, contents)| (found == tag).then_some(contents))
}

/// The tag and the contents of the next element.
fn take_any<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // No name is that long.
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((tag, contents))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn identity(common_name: &str, names: Vec<SanType>) -> Option<String> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Hearth");
        if common_name.is_empty() {
            params.distinguished_name.remove(DnType::CommonName);
        } else {
            params
                .distinguished_name
                .push(DnType::CommonName, common_name);
        }
        params.subject_alt_names = names;
        let certificate = params.self_signed(&key).expect("a certificate");
        PeerIdentity::of(certificate.der()).map(|identity| identity.as_str().to_owned())
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().expect("a name"))
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().expect("a URI"))
    }

    #[test]
    fn dns_name_before_uri_before_common_name() {
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        let spiffe = "spiffe://hearth/runner/1";
        let role = "hearth://role/runner";
        for (common_name, names, expected) in [
            (
                "cn",
                vec![address.clone(), uri(spiffe), dns("one"), dns("two")],
                Some("one"),
            ),
            ("cn", vec![address.clone(), uri(spiffe)], Some(spiffe)),
            ("cn", vec![uri(role), uri(spiffe)], Some(spiffe)),
            ("cn", vec![uri(role)], Some("cn")),
            ("runner 1", vec![address.clone()], Some("runner 1")),
            ("", vec![address], None),
            ("a\nb", vec![], None),
        ] {
            assert_eq!(
                identity(common_name, names).as_deref(),
                expected,
                "{common_name:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(bytes: Vec<u8>) {
            let _ = common_name(&bytes);
        }
    }
}
