//! The engine: one client, with a time limit and a measurement for each request.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::{API_DEFAULT_VERSION, Docker};

use super::error::EngineError;
use super::metrics::DockerMetrics;

/// The socket of an engine that nobody has named.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// The client's own limit until an answer begins, in seconds. It must never be the first to strike:
/// a hung registry keeps an answer from beginning, and each request here has its own limit.
const CLIENT_SECONDS: u64 = 24 * 60 * 60;

/// The engine's client. Clones are one.
#[derive(Clone)]
pub(crate) struct Engine {
    docker: Docker,
    metrics: Arc<DockerMetrics>,
    limit: Duration,
}

impl Engine {
    /// A client of the engine at `host`; `limit` is the time that an ordinary request may take.
    ///
    /// # Errors
    /// `Malformed` for an address that is none, `Unreachable` when its socket is not there.
    pub(crate) fn new(
        host: Option<&str>,
        limit: Duration,
        metrics: Arc<DockerMetrics>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            docker: client(host)?,
            metrics,
            limit,
        })
    }

    /// The client, for what it streams.
    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The metrics of the driver.
    pub(crate) fn metrics(&self) -> &DockerMetrics {
        &self.metrics
    }

    /// Runs a request in the ordinary time.
    pub(crate) async fn call<T>(
        &self,
        name: &'static str,
        request: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        self.call_within(self.limit, name, request).await
    }

    /// Runs a request in `limit`.
    pub(crate) async fn call_within<T>(
        &self,
        limit: Duration,
        name: &'static str,
        request: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        let begin = Instant::now();
        let result = match tokio::time::timeout(limit, request).await {
            Ok(result) => result.map_err(EngineError::from),
            Err(_) => Err(EngineError::TimedOut),
        };
        let status = match &result {
            Ok(_) => "200".to_owned(),
            Err(error) => error.status_label(),
        };
        self.metrics.call(name, status, begin.elapsed());
        result
    }
}

/// A client of the engine at `host`, or at the usual place.
pub(crate) fn client(host: Option<&str>) -> Result<Docker, EngineError> {
    let host = host.unwrap_or(DEFAULT_HOST);
    let docker = if host.starts_with("unix://") || host.starts_with('/') {
        Docker::connect_with_unix(host, CLIENT_SECONDS, API_DEFAULT_VERSION)?
    } else {
        Docker::connect_with_http(host, CLIENT_SECONDS, API_DEFAULT_VERSION)?
    };
    Ok(docker.with_request_modifier(|mut request| {
        // The engine reads this header in the alphabet for URLs; the client writes the other one,
        // and the engine silently drops credentials that it cannot read.
        if let Some(auth) = request.headers_mut().get_mut("x-registry-auth")
            && let Ok(text) = auth.to_str()
            && let Ok(fixed) = text.replace('+', "-").replace('/', "_").parse()
        {
            *auth = fixed;
        }
        request
    }))
}
