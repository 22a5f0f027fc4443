//! The little of an HTTP client that the command line needs.

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::header::ACCEPT;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
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
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    #[serde(default)]
    pub(super) next_cursor: Option<String>,
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
        whole(self.open(method, path, "*/*", body).await?).await
    }

    /// Sends a request; the answer's body is still to be read.
    async fn open(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(ACCEPT, accept)
            .body(Full::new(body))
            .with_context(|| format!("{}{path} is not a URL", self.base))?;
        self.http
            .request(request)
            .await
            .with_context(|| format!("no answer from {}: is Hearth running there?", self.base))
    }

    /// Hands what is at `path` to `sink` as it comes.
    pub(super) async fn copy(
        &self,
        path: &str,
        accept: &str,
        sink: impl Fn(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let answer = self.open(Method::GET, path, accept, Bytes::new()).await?;
        if !answer.status().is_success() {
            let answer = whole(answer).await?;
            return Err(self.refusal(&Method::GET, path, &answer));
        }
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.context("the answer broke off")?.into_data() {
                sink(&data)?;
            }
        }
        Ok(())
    }

    /// What the server said when it refused.
    pub(super) fn refusal(
        &self,
        method: &Method,
        path: &str,
        answer: &Response<Bytes>,
    ) -> anyhow::Error {
        let told = serde_json::from_slice::<ErrorBody>(answer.body());
        let told = told.map_or_else(
            |_| String::from_utf8_lossy(answer.body()).into_owned(),
            |body| body.message,
        );
        anyhow!("{method} {path}: {}: {told}", answer.status())
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let answer = self.send(method.clone(), path, body).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(&method, path, &answer));
        }
        serde_json::from_slice(answer.body())
            .with_context(|| format!("{method} {path}: an answer of another kind"))
    }

    /// The only item of a list that was filtered by name, if there is one.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let page: Page<T> = self.json(Method::GET, path, Bytes::new()).await?;
        Ok(page.items.into_iter().next())
    }

    /// Shows something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    /// Deletes or cancels something.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(Method::DELETE, path, Bytes::new()).await
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

async fn whole(answer: Response<Incoming>) -> anyhow::Result<Response<Bytes>> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.context("the answer broke off")?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
