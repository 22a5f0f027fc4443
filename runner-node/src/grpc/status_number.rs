//! gRPC statuses with a number that gRPC does not know: an original runner says 503 in this way for
//! "busy, try elsewhere" (spec/08 8.3, 8.4), and [`tonic::Code`] cannot hold it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use domain::ErrorCode;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Code, Status};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Carries the number as far as [`StatusNumbers`]; a peer never sees it.
static NUMBER: HeaderName = HeaderName::from_static("hearth-grpc-status-number");

/// The status that sends a load balancer to another runner.
pub(super) fn busy() -> Status {
    let mut headers = HeaderMap::new();
    headers.insert(&NUMBER, HeaderValue::from_static("503"));
    Status::with_metadata(
        Code::Unavailable,
        ErrorCode::ServerBusy.text(),
        tonic::metadata::MetadataMap::from_headers(headers),
    )
}

/// Whether `status` is [`busy`].
pub(super) fn is_busy(status: &Status) -> bool {
    status.metadata().contains_key(NUMBER.as_str())
}

/// A service whose statuses may have any number.
#[derive(Debug, Clone)]
pub(super) struct StatusNumbers<S>(pub(super) S);

impl<S: NamedService> NamedService for StatusNumbers<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for StatusNumbers<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(body.map_frame(renumber))))
        })
    }
}

fn renumber(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut()
        && let Some(number) = trailers.remove(&NUMBER)
    {
        trailers.insert(&GRPC_STATUS, number);
    }
    frame
}
