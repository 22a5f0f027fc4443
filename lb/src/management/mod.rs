//! The management API of the original's load balancer: `/1/lb/nodes` and `/1/lb/stats`
//! (spec/07 7.2, 7.4).

mod nodes;
mod stats;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use nodekit::body::{self, Body, BodyError};
use nodekit::error_response::JSON;
use serde::Serialize;
use tower::ServiceExt as _;

pub(crate) use stats::Stats;

use crate::front_door::Answering;
use crate::runners::{NodeStore, Runners};

const NODES: &str = "/1/lb/nodes";
const STATS: &str = "/1/lb/stats";

/// Answers the management API, and hands every other path to a fallback.
pub struct Management<F> {
    shared: Arc<Shared>,
    fallback: F,
}

struct Shared {
    runners: Arc<Runners>,
    nodes: Arc<dyn NodeStore>,
}

impl<F> Management<F> {
    /// Shows `runners`, and changes the list in `nodes`.
    pub fn new(runners: Arc<Runners>, nodes: Arc<dyn NodeStore>, fallback: F) -> Self {
        let shared = Arc::new(Shared { runners, nodes });
        Self { shared, fallback }
    }
}

impl<F: Clone> Clone for Management<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            fallback: self.fallback.clone(),
        }
    }
}

impl<F> fmt::Debug for Management<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Management")
    }
}

impl<F, R> tower::Service<Request<Body>> for Management<F>
where
    F: tower::Service<Request<Body>, Response = Response<R>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let shared = Arc::clone(&self.shared);
        match request.uri().path() {
            NODES => Box::pin(async move { Ok(nodes::answer(&shared, request).await) }),
            STATS => Box::pin(std::future::ready(Ok(shared.stats(request.method())))),
            _ => {
                let answering = self.fallback.clone().oneshot(request);
                Box::pin(answering.map_ok(|response| response.map(body::stream)))
            }
        }
    }
}

impl Shared {
    fn stats(&self, method: &Method) -> Response<Body> {
        match *method {
            Method::GET => {
                let shared = self.runners.shared();
                json(StatusCode::OK, &self.runners.stats().take(shared.now()))
            }
            _ => Response::new(body::empty()),
        }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let (status, text) = match serde_json::to_vec(value) {
        Ok(text) => (status, text),
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, Vec::new())
        }
    };
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
