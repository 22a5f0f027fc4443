//! The paths that every node serves beside its own: `/`, `/version`, `/metrics`, `/livez` and
//! `/readyz` (spec/01 1.1).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::body::{self, Body};
use crate::error_response;
use crate::metrics::{self, Metrics};

/// The version of the API that `/version` tells: the last one of the original that this server is
/// compatible with, not the version of this server. A load balancer of the original refuses an API
/// node below its minimum (0.0.235), and the command line compares versions too; our own numbers
/// start lower.
pub const API_VERSION: &str = "0.3.753";

const PROMETHEUS: HeaderValue = HeaderValue::from_static(metrics::CONTENT_TYPE);

/// Answers the paths that every node has. Cloning is cheap.
#[derive(Clone)]
pub struct AdminRoutes {
    metrics: Arc<Metrics>,
    ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl AdminRoutes {
    /// Serves `metrics`; `ready` tells whether the node takes new work, and must not block.
    pub fn new(metrics: Arc<Metrics>, ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            metrics,
            ready: Arc::new(ready),
        }
    }

    /// Answers `path` if it is one of the five, and other verbs than `GET` and `HEAD` with 405.
    pub fn respond(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let answer = match path {
            "/" => Self::root,
            "/version" => Self::version,
            "/metrics" => Self::metrics,
            "/livez" => Self::livez,
            "/readyz" => Self::readyz,
            _ => return None,
        };
        Some(match *method {
            Method::GET | Method::HEAD => answer(self),
            _ => refused(&method_not_allowed(method, path)),
        })
    }

    /// The greeting that old health checks look for.
    pub fn root(&self) -> Response<Body> {
        json(
            StatusCode::OK,
            "{\"hello\":\"world!\",\"goto\":\"https://github.com/fnproject/fn\"}\n".to_owned(),
        )
    }

    /// [`API_VERSION`].
    pub fn version(&self) -> Response<Body> {
        json(
            StatusCode::OK,
            format!("{{\"version\":\"{API_VERSION}\"}}\n"),
        )
    }

    /// The node's metrics.
    pub fn metrics(&self) -> Response<Body> {
        let mut response = Response::new(body::full(self.metrics.render()));
        response.headers_mut().insert(CONTENT_TYPE, PROMETHEUS);
        response
    }

    /// The process runs.
    pub fn livez(&self) -> Response<Body> {
        json(StatusCode::OK, "{\"status\":\"ok\"}\n".to_owned())
    }

    /// The node takes new work; 503 while it starts, drains, or lacks something it needs.
    pub fn readyz(&self) -> Response<Body> {
        if (self.ready)() {
            json(StatusCode::OK, "{\"status\":\"ok\"}\n".to_owned())
        } else {
            json(
                StatusCode::SERVICE_UNAVAILABLE,
                "{\"message\":\"not ready\"}\n".to_owned(),
            )
        }
    }
}

impl fmt::Debug for AdminRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminRoutes").finish_non_exhaustive()
    }
}

/// The error of a path that does not exist. The path is shown as it was sent, percent-encoded.
pub fn path_not_found(method: &Method, path: &str) -> ApiError {
    ApiError::with_message(
        ErrorCode::PathNotFound,
        format!("Path not found: {method} {path}"),
    )
}

/// The error of a verb that a path does not have.
pub fn method_not_allowed(method: &Method, path: &str) -> ApiError {
    ApiError::with_message(
        ErrorCode::MethodNotAllowed,
        format!("Method not allowed: {method} {path}"),
    )
}

fn refused(error: &ApiError) -> Response<Body> {
    let response: Response<Bytes> = error_response::response(error);
    let mut response = response.map(body::full);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, error_response::JSON);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn ask(ready: bool, method: Method, path: &str) -> Option<(u16, String)> {
        let routes = AdminRoutes::new(Arc::new(Metrics::new()), move || ready);
        let response = routes.respond(&method, path)?;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .expect("a full body")
            .to_bytes();
        Some((status, String::from_utf8(body.to_vec()).expect("UTF-8")))
    }

    #[tokio::test]
    async fn the_five_paths_and_no_other() {
        let get = |path| ask(true, Method::GET, path);
        let answer = |status, text: &str| Some((status, text.to_owned()));
        let root = "{\"hello\":\"world!\",\"goto\":\"https://github.com/fnproject/fn\"}\n";
        assert_eq!(get("/").await, answer(200, root));
        assert_eq!(
            get("/version").await,
            answer(200, "{\"version\":\"0.3.753\"}\n")
        );
        let (status, metrics) = get("/metrics").await.expect("a path");
        assert!(
            status == 200 && metrics.contains("process_open_fds"),
            "{metrics}"
        );
        assert_eq!(get("/livez").await, answer(200, "{\"status\":\"ok\"}\n"));
        assert_eq!(get("/readyz").await, answer(200, "{\"status\":\"ok\"}\n"));
        assert_eq!(get("/ping").await, None);
    }

    #[tokio::test]
    async fn a_node_that_is_not_ready_lives() {
        assert_eq!(
            ask(false, Method::GET, "/livez").await.expect("a path").0,
            200
        );
        assert_eq!(
            ask(false, Method::GET, "/readyz").await,
            Some((503, "{\"message\":\"not ready\"}\n".to_owned()))
        );
    }

    #[tokio::test]
    async fn another_verb_is_refused() {
        assert_eq!(
            ask(true, Method::POST, "/version").await,
            Some((
                405,
                "{\"message\":\"Method not allowed: POST /version\"}\n".to_owned()
            ))
        );
    }
}
