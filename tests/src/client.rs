//! An HTTP client for tests: every answer whole, every status welcome.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    base: String,
    /// Where the API is, if it is not at `base`.
    api: Option<String>,
    http: HyperClient<HttpConnector, Full<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Checks that this is the error `message` with `status`.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    pub fn is_error(&self, status: u16, message: &str) {
        assert_eq!(
            (self.status.as_u16(), self.text()),
            (
                status,
                format!("{{\"message\":{}}}\n", Value::from(message))
            )
        );
    }

    /// Checks the status, and hands the answer on.
    ///
    /// # Panics
    /// When the status is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }
}

impl Client {
    /// A client of the server at `base`.
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            api: None,
            http: HyperClient::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// The same, with the API of another server.
    pub fn with_api(&self, api: &Self) -> Self {
        Self {
            api: Some(api.base.clone()),
            ..self.clone()
        }
    }

    /// The server.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request whose URI is a path.
    ///
    /// # Errors
    /// Without an answer, or with one that broke off.
    pub async fn try_send(&self, mut request: Request<Bytes>) -> anyhow::Result<Answer> {
        let of_front_door = ["/invoke", "/t/", "/r/", "/1/"];
        let path = request.uri().path();
        let base = match &self.api {
            Some(api) if !of_front_door.iter().any(|prefix| path.starts_with(prefix)) => api,
            _ => &self.base,
        };
        *request.uri_mut() = format!("{base}{}", request.uri()).parse()?;
        let (head, body) = self
            .http
            .request(request.map(Full::new))
            .await?
            .into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// Sends a request whose URI is a path.
    ///
    /// # Panics
    /// Without a whole answer.
    pub async fn send(&self, request: Request<Bytes>) -> Answer {
        self.try_send(request)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:#}", self.base))
    }

    async fn method(&self, method: Method, path: &str, body: Bytes) -> Answer {
        self.send(
            Request::builder()
                .method(method)
                .uri(path)
                .body(body)
                .expect("a valid path"),
        )
        .await
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.method(Method::GET, path, Bytes::new()).await
    }

    /// `POST path` with a body.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.method(Method::POST, path, body.into()).await
    }

    /// `PUT path` with a body.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.method(Method::PUT, path, body.into()).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.method(Method::DELETE, path, Bytes::new()).await
    }

    /// The value of a metric, such as `fn_completed`, or `fn_x{a="b"}`.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}
