//! Where the broker is: its URL, and how that may be shown.

use std::fmt;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use url::{Host, Url};

/// How often each side says that it is there, in seconds. One that was silent for twice as long is
/// given up.
const HEARTBEAT: u16 = 3;
/// Parameters of a URL.
const PARAMETERS: [&str; 4] = ["heartbeat", "frame_max", "channel_max", "auth_mechanism"];

/// A broker, with what is needed to be let in.
#[derive(Clone)]
pub(in crate::queue) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) tls: OwnedTLSConfig,
}

/// Why a URL names no broker. The text holds no part of the URL that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `<scheme>://`.
    #[error("the queue's URL has no scheme; amqp:// and amqps:// are supported, and none at all")]
    NoScheme,
    /// A scheme that is not known.
    #[error("MQ '{0}' is not supported: only amqp, amqps, and nothing for a queue in the process")]
    UnknownScheme(String),
    /// A query key that is not known.
    #[error("the queue's URL has an unknown parameter '{0}'")]
    UnknownParameter(String),
    /// Something else is wrong.
    #[error("the queue's URL cannot be read: {0}")]
    Unreadable(&'static str),
}

impl Address {
    /// Reads a URL: `amqp[s]://[user[:password]@]host[:port][/virtual-host]`.
    pub(in crate::queue) fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, _) = text.split_once("://").ok_or(AddressError::NoScheme)?;
        if !["amqp", "amqps"].contains(&scheme) {
            return Err(AddressError::UnknownScheme(scheme.to_owned()));
        }
        let url = Url::parse(text).map_err(|_| AddressError::Unreadable("it is not a URL"))?;
        let unknown = url
            .query_pairs()
            .map(|(key, _)| key.into_owned())
            .find(|key| !PARAMETERS.contains(&key.as_str()));
        if let Some(key) = unknown {
            return Err(AddressError::UnknownParameter(key));
        }
        let mut uri: AMQPUri = text
            .parse()
            .map_err(|_| AddressError::Unreadable("a value has the wrong form"))?;
        // The library takes any other host for its own machine.
        uri.authority.host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            _ => return Err(AddressError::Unreadable("it names no host")),
        };
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self {
            uri,
            tls: OwnedTLSConfig::default(),
        })
    }

    /// Trusts an authority (PEM), too.
    pub(in crate::queue) fn trusting(mut self, authority: Option<String>) -> Self {
        self.tls.cert_chain = authority;
        self
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

impl fmt::Display for Address {
    /// For logs: where the broker is, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.uri.authority.host;
        let bracketed = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        write!(
            f,
            "{}://{bracketed}:{}/{}",
            self.uri.scheme,
            self.uri.authority.port,
            self.uri.vhost.trim_start_matches('/')
        )
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        match Address::parse(url) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn parts_of_the_url_are_used() {
        let address = Address::parse("amqps://me:p%40ss@mq.example:5999/calls").expect("a URL");
        let info = &address.uri.authority.userinfo;
        assert_eq!((&*info.username, &*info.password), ("me", "p@ss"));
        assert_eq!(address.uri.vhost, "calls");
        assert!(address.is_encrypted());
        assert_eq!(address.to_string(), "amqps://mq.example:5999/calls");
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        for url in ["amqp://h", "amqp://h/", "amqp://h/%2f", "amqp://h:5672"] {
            assert_eq!(shown(url), "amqp://h:5672/");
            let address = Address::parse(url).expect(url);
            assert_eq!(address.uri.vhost, "/");
            assert_eq!(address.uri.query.heartbeat, Some(HEARTBEAT));
        }
        assert_eq!(shown("amqps://h"), "amqps://h:5671/");
        assert_eq!(shown("amqp://[::1]:1/v"), "amqp://[::1]:1/v");
        assert_eq!(shown("amqp://127.0.0.1"), "amqp://127.0.0.1:5672/");
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        for scheme in ["redis", "bolt", "AMQP", "http"] {
            let error = Address::parse(&format!("{scheme}://u:hunter2@h")).expect_err(scheme);
            assert_eq!(error, AddressError::UnknownScheme(scheme.to_owned()));
            assert!(error.to_string().contains(scheme));
        }
        assert_eq!(
            Address::parse("h:5672").expect_err("bare"),
            AddressError::NoScheme
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "amqp://user:hunter2@host/v",
            "amqp://user:hunter2@host:port/v",
            "amqp://user:hunter2@/v",
            "amqp://host?password=hunter2",
            "amqp://host?heartbeat=hunter2",
            "amqp:user:hunter2@host",
        ] {
            assert!(!shown(url).contains("hunter2"), "{}", shown(url));
        }
        let address = Address::parse("amqp://user:hunter2@host").expect("a URL");
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
