//! The little of an HTTP client that the command line needs.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A client of one server.
pub(crate) struct Client {
    base: String,
    http: HyperClient<HttpConnector, Full<Bytes>>,
}

#[derive(serde::Deserialize)]
struct ErrorBody {
    message: String,
}

/// A page of a list.
#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(base: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            http: HyperClient::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Bytes>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(Full::new(body))
            .with_context(|| format!("{}{path} is not a URL", self.base))?;
        let answer =
            self.http.request(request).await.with_context(|| {
                format!("no answer from {}: is Hearth running there?", self.base)
            })?;
        let (head, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .context("the answer broke off")?
            .to_bytes();
        Ok(Response::from_parts(head, body))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let answer = self.send(method.clone(), path, body).await?;
        if !answer.status().is_success() {
            let told = serde_json::from_slice::<ErrorBody>(answer.body());
            let told = told.map_or_else(
                |_| String::from_utf8_lossy(answer.body()).into_owned(),
                |body| body.message,
            );
            bail!("{method} {path}: {}: {told}", answer.status());
        }
        serde_json::from_slice(answer.body())
            .with_context(|| format!("{method} {path}: an answer of another kind"))
    }

    /// The only item of a list that was filtered by name, if there is one.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let page: Page<T> = self.json(Method::GET, path, Bytes::new()).await?;
        Ok(page.items.into_iter().next())
    }

    /// Creates something.
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        draft: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.json(Method::POST, path, serde_json::to_vec(draft)?.into())
            .await
    }

    /// Changes something.
    pub(crate) async fn update<T: DeserializeOwned>(
        &self,
        path: &str,
        patch: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.json(Method::PUT, path, serde_json::to_vec(patch)?.into())
            .await
    }
}
