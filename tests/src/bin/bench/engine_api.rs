//! The engine's API over its Unix socket, with nothing in between: what a container costs at least.

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::connection::Connection;

const SOCKET: &str = "/var/run/docker.sock";

/// A connection to the engine.
pub(crate) struct EngineApi(Connection);

impl EngineApi {
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = host.strip_prefix("unix://").unwrap_or(SOCKET);
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("no Docker engine at {socket}"))?;
        Ok(Self(Connection::over_socket(stream).await?))
    }

    /// Asks for something.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// Has something done.
    pub(crate) async fn post(&mut self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.send(Method::POST, path, body).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let answer = self.0.send(method, path, "application/json", body).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).with_context(|| format!("the engine's answer to {path}"))
    }
}
