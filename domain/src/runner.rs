//! A runner as it registers, and the address at which nodes reach each other.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The longest name of a host (RFC 1035).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// `host:port` of a node: an IPv4 address, an IPv6 address in brackets, or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort(Arc<str>);

/// Why a text is no [`HostPort`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    /// There is no colon with a number behind it.
    #[error("must be host:port")]
    NoPort,
    /// The number is no port that can be connected to.
    #[error("the port must be between 1 and 65535")]
    Port,
    /// What stands before the port is no host.
    #[error("the host must be an IPv4 address, an IPv6 address in brackets, or a name")]
    Host,
}

impl HostPort {
    /// Takes `text` if it is a host and a port.
    ///
    /// # Errors
    /// [`HostPortError`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, HostPortError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError::NoPort)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostPortError::NoPort);
        }
        if port.parse().unwrap_or(0u16) == 0 {
            return Err(HostPortError::Port);
        }
        if !is_host(host) {
            return Err(HostPortError::Host);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the address that listeners bind to be reached at all of a machine's: to others
    /// it is their own machine.
    pub fn is_unspecified(&self) -> bool {
        let address = self.0.parse::<SocketAddr>();
        address.is_ok_and(|address| address.ip().is_unspecified())
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    // What looks like an IPv4 address has to be one.
    if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.len() <= MAX_HOST && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A runner that holds a lease with the control plane, or asks for one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegisteredRunner {
    /// Names the runner process: new with each start.
    pub id: Arc<str>,
    /// Where load balancers reach it.
    pub address: HostPort,
    /// The build's version.
    pub version: Arc<str>,
    /// Whether it takes no new calls.
    pub draining: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ones_own_is_told_from_that_of_a_node() {
        for (text, expected) in [
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("[0:0::0]:1", true),
            ("0.0.0.1:1", false),
            ("127.0.0.1:1", false),
            ("[::1]:1", false),
            ("runner:1", false),
        ] {
            let address = HostPort::parse(text).expect("an address");
            assert_eq!(address.is_unspecified(), expected, "{text}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        let long = format!("{}:1", "a".repeat(64));
        let rows = [
            ("runner:9190", None),
            ("runner-1.fn_runner.svc.:1", None),
            ("10.0.0.1:65535", None),
            ("[::1]:80", None),
            ("1a:80", None),
            ("", Some(HostPortError::NoPort)),
            ("runner", Some(HostPortError::NoPort)),
            ("runner:", Some(HostPortError::NoPort)),
            ("runner:+1", Some(HostPortError::NoPort)),
            ("runner:grpc", Some(HostPortError::NoPort)),
            ("http://runner:80/", Some(HostPortError::NoPort)),
            ("runner:0", Some(HostPortError::Port)),
            ("runner:65536", Some(HostPortError::Port)),
            (":80", Some(HostPortError::Host)),
            ("::1:80", Some(HostPortError::Host)),
            ("[::1:80", Some(HostPortError::Host)),
            ("10.0.0.256:80", Some(HostPortError::Host)),
            ("http://runner:80", Some(HostPortError::Host)),
            ("a b:80", Some(HostPortError::Host)),
            ("a..b:80", Some(HostPortError::Host)),
            ("-a:80", Some(HostPortError::Host)),
            ("a\0:80", Some(HostPortError::Host)),
            (long.as_str(), Some(HostPortError::Host)),
        ];
        for (text, refused) in rows {
            assert_eq!(HostPort::parse(text).err(), refused, "{text:?}");
        }
    }
}
