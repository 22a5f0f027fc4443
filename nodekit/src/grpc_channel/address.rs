//! The address of another node, as it is written in settings and registrations.

use std::fmt;

use http::Uri;
use http::uri::Authority;

/// The port of a node whose address has none: the default of `FN_GRPC_PORT`.
const DEFAULT_PORT: u16 = 9190;

/// Why an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not `host:port`, with or without a scheme.
    #[error("`{0}` is not the address of a node, such as runner:9190 or http://10.0.0.1:9190")]
    Malformed(String),
    /// It asks for a connection without TLS although there are certificates.
    #[error("`{0}`: nodes speak TLS here (FN_NODE_CERT): write https:// or no scheme")]
    Plain(String),
    /// It asks for TLS, for which there are no certificates.
    #[error("`{0}` needs FN_NODE_CERT, FN_NODE_CERT_KEY and FN_NODE_CERT_AUTHORITY")]
    NoCertificate(String),
}

/// Where a node is: a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    /// A name, or an IP address without brackets.
    host: String,
    port: u16,
}

impl NodeAddress {
    /// Reads `host`, `host:port`, `http://host:port` or `https://host:port`; `tls` tells whether
    /// this node speaks TLS, which an address must not contradict.
    ///
    /// # Errors
    /// It does, or it is no address.
    pub fn parse(text: &str, tls: bool) -> Result<Self, AddressError> {
        let owned = || text.to_owned();
        let authority = match text.split_once("://") {
            Some(("http", _)) if tls => return Err(AddressError::Plain(owned())),
            Some(("https", _)) if !tls => return Err(AddressError::NoCertificate(owned())),
            Some(("http" | "https", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return Err(AddressError::Malformed(owned())),
            None => text,
        };
        Self::read(authority).ok_or_else(|| AddressError::Malformed(owned()))
    }

    fn read(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let host = authority.host();
        let rest = text.strip_prefix(host)?;
        let port = match rest.strip_prefix(':') {
            // The parser of numbers would take a sign.
            Some(port) if port.starts_with('+') => return None,
            Some(port) => port.parse().ok().filter(|&port| port != 0)?,
            None if rest.is_empty() => DEFAULT_PORT,
            None => return None,
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        (!bare.is_empty()).then(|| Self {
            host: bare.to_owned(),
            port,
        })
    }

    /// The name, or the IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address as a URI.
    pub(super) fn uri(&self, tls: bool) -> Result<Uri, AddressError> {
        let scheme = if tls { "https" } else { "http" };
        format!("{scheme}://{self}")
            .parse()
            .map_err(|_| AddressError::Malformed(self.to_string()))
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, tls, host, shown) in [
            ("runner:9191", false, "runner", "runner:9191"),
            ("runner", true, "runner", "runner:9190"),
            ("http://10.0.0.1:80", false, "10.0.0.1", "10.0.0.1:80"),
            ("https://api.local/", true, "api.local", "api.local:9190"),
            ("[::1]:9190", true, "::1", "[::1]:9190"),
            ("http://[fe80::1]", false, "fe80::1", "[fe80::1]:9190"),
        ] {
            let address = NodeAddress::parse(text, tls).expect(text);
            assert_eq!(
                (address.host(), address.to_string().as_str()),
                (host, shown)
            );
            assert!(address.uri(tls).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":9190",
            "a b:1",
            "host:0",
            "host:65536",
            "host:",
            "host:+1",
            "user@host:1",
            "host:1/path",
            "http://host:1?q",
            "ftp://host:1",
            "::1",
            "[]:1",
            "http://",
        ] {
            assert_eq!(
                NodeAddress::parse(text, false),
                Err(AddressError::Malformed(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_scheme_must_not_contradict_the_certificates() {
        let http = "http://api:9190".to_owned();
        assert_eq!(
            NodeAddress::parse(&http, true),
            Err(AddressError::Plain(http))
        );
        let https = "https://api:9190".to_owned();
        assert_eq!(
            NodeAddress::parse(&https, false),
            Err(AddressError::NoCertificate(https))
        );
    }
}
