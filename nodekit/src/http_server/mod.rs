//! The HTTP/1.1 listener of every node: bounded in heads, bodies, connections and time, so that no
//! client can wear it out (DESIGN 7).
//!
//! HTTP/2 is not spoken here: telling the two apart would cost each connection a look at its first
//! bytes, and browsers and proxies in front of a node use HTTP/1.1.

mod connection;
mod framing;
mod guarded_io;
mod limits;
pub(crate) mod listener;
mod request_body;
mod response_body;
mod service;
#[cfg(test)]
mod tests;
mod timer;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::service::TowerToHyperService;

pub use limits::Limits;
pub use listener::{Drained, HttpServer, open_files_limit, raise_open_files_limit};
pub use request_body::{RequestBody, RequestBodyError, body_error_code};
pub use response_body::ResponseBody;

use crate::body::BodyError;

/// What answers requests. It is shared by all connections; errors are answers too.
///
/// A hyper service is one as it is, a tower service (an axum router) through [`tower`].
pub trait HttpService:
    hyper::service::Service<
        Request<RequestBody>,
        Response = Response<<Self as HttpService>::Body>,
        Error = Infallible,
        Future: Send,
    > + Send
    + Sync
    + 'static
{
    /// The body of the answers.
    type Body: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: hyper::service::Service<
            Request<RequestBody>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send,
        > + Send
        + Sync
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    type Body = B;
}

/// A tower service, such as an axum router, for [`HttpServer::serve`].
pub fn tower<S>(service: S) -> TowerToHyperService<S> {
    TowerToHyperService::new(service)
}
