//! One request to a callback URL: only to addresses that may be reached, within its time, without
//! following where it is sent elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::{Host, Url};

use super::network::{Network, may_reach};
use crate::calls::settings::CallbackSettings;
use crate::store::CallbackDelivery;

/// Names the delivery: the same in every try, so that the receiver can tell doubles.
const DELIVERY_ID: HeaderName = HeaderName::from_static("hearth-delivery-id");
/// Counts the tries, from 1.
const DELIVERY_TRY: HeaderName = HeaderName::from_static("hearth-delivery-try");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an outcome was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// The URL names nothing that can be asked.
    #[error("the URL cannot be used")]
    Url,
    /// Callbacks must not go there.
    #[error("callbacks may not reach this address")]
    Refused,
    /// This machine lacks what TLS needs.
    #[error("callbacks cannot be made by this node")]
    Client(#[source] reqwest::Error),
    /// The receiver does not want it, now or ever.
    #[error("the receiver answered with status {}", .0.as_u16())]
    Status(StatusCode),
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// There was no answer.
    #[error("the receiver cannot be reached")]
    Unreachable(#[source] reqwest::Error),
}

impl PostError {
    /// Whether another try would end no better.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Url => true,
            // The receiver is gone for good, by its own word.
            Self::Status(status) => *status == StatusCode::GONE,
            _ => false,
        }
    }
}

/// Posts outcomes.
pub(in crate::calls) struct Poster {
    /// Made when it is needed: to load the authorities of this machine takes a while.
    client: OnceLock<reqwest::Client>,
    timeout: Duration,
    allowed: Arc<[Network]>,
}

impl Poster {
    /// Has made no request yet.
    pub(in crate::calls) fn new(settings: &CallbackSettings) -> Self {
        Self {
            client: OnceLock::new(),
            timeout: settings.timeout,
            allowed: settings.allow.as_slice().into(),
        }
    }

    fn client(&self) -> Result<&reqwest::Client, PostError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        nodekit::tls::use_ring();
        let client = reqwest::Client::builder()
            .user_agent(concat!("hearth/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            // A proxy would resolve names by itself.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .timeout(self.timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .dns_resolver(Arc::new(Resolver(Arc::clone(&self.allowed))))
            .build()
            .map_err(PostError::Client)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Posts the outcome.
    pub(super) async fn post(
        &self,
        delivery: &CallbackDelivery,
        document: Vec<u8>,
    ) -> Result<(), PostError> {
        let url = Url::parse(&delivery.url).map_err(|_| PostError::Url)?;
        // An address in the URL itself is not resolved.
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(PostError::Url),
        };
        if address.is_some_and(|address| !may_reach(address, &self.allowed)) {
            return Err(PostError::Refused);
        }
        let answer = self
            .client()?
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, &delivery.id)
            .header(DELIVERY_TRY, delivery.tries.saturating_add(1))
            .body(document)
            .send()
            .await
            .map_err(reason)?;
        let status = answer.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(PostError::Status(status))
        }
    }
}

fn reason(error: reqwest::Error) -> PostError {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if cause.is::<NotAllowed>() {
            return PostError::Refused;
        }
        source = cause.source();
    }
    if error.is_timeout() {
        PostError::Timeout
    } else {
        PostError::Unreachable(error.without_url())
    }
}

/// Resolves names to those of their addresses that may be reached. What was judged is what is
/// connected to: a name cannot change its mind in between.
struct Resolver(Arc<[Network]>);

#[derive(Debug, thiserror::Error)]
#[error("callbacks may not reach any address of this name")]
struct NotAllowed;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            // The port is that of the URL; this one stands for none.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found
                .filter(|address| may_reach(address.ip(), &allowed))
                .collect();
            if found.is_empty() {
                return Err(NotAllowed.into());
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}
