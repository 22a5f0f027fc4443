//! What stands between the parser and the service: body limits, and panics turned into answers.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use domain::{ApiError, ErrorCode};
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::HttpService;
use super::connection::{Busy, ConnectionState};
use super::limits::Limits;
use super::request_body::RequestBody;
use super::response_body::ResponseBody;
use crate::error_response;

/// The service as one connection sees it.
pub(super) struct GuardedService<S> {
    service: Arc<S>,
    state: Arc<ConnectionState>,
    limits: Arc<Limits>,
}

impl<S> GuardedService<S> {
    pub(super) fn new(service: Arc<S>, state: Arc<ConnectionState>, limits: Arc<Limits>) -> Self {
        Self {
            service,
            state,
            limits,
        }
    }
}

impl<S: HttpService> Service<Request<Incoming>> for GuardedService<S> {
    type Response = Response<ResponseBody<<S as HttpService>::Body>>;
    type Error = Infallible;
    type Future = GuardedCall<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = Some(self.state.begin());
        let step = match too_large(&request, &self.limits) {
            Some(error) => Step::Answered { error: Some(error) },
            None => {
                let request = request.map(|body| RequestBody::new(body, &self.limits));
                // The service is only called again if its own locks say that it may be.
                match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
                    Ok(future) => Step::Running { future },
                    Err(panic) => Step::Answered {
                        error: Some(panicked(&*panic)),
                    },
                }
            }
        };
        GuardedCall { step, busy }
    }
}

pin_project! {
    /// A request that is being answered.
    pub(super) struct GuardedCall<F> {
        #[pin]
        step: Step<F>,
        busy: Option<Busy>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F> {
        Running { #[pin] future: F },
        Answered { error: Option<ApiError> },
    }
}

impl<F, B> Future for GuardedCall<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = match this.step.project() {
            StepProjection::Running { future } => {
                match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(Ok(response))) => Ok(response),
                    Ok(Poll::Ready(Err(never))) => match never {},
                    Err(panic) => Err(panicked(&*panic)),
                }
            }
            StepProjection::Answered { error } => Err(error
                .take()
                .expect("a future is not polled after it is ready")),
        };
        let busy = this
            .busy
            .take()
            .expect("a future is not polled after it is ready");
        Poll::Ready(Ok(match outcome {
            Ok(response) => response.map(|body| ResponseBody::service(body, busy)),
            Err(error) => {
                error_response::response(&error).map(|bytes| ResponseBody::own(bytes, busy))
            }
        }))
    }
}

/// The error for a body whose announced length is more than the listener takes (spec/01 1.2).
fn too_large(request: &Request<Incoming>, limits: &Limits) -> Option<ApiError> {
    let max = limits.max_body_bytes?;
    let length = request.body().size_hint().exact()?;
    (length > max).then(|| {
        ApiError::with_message(
            ErrorCode::RequestTooLarge,
            format!("Content-Length too large for this server, {length} > max {max}"),
        )
    })
}

/// The error for a service that panicked; the panic hook has logged where.
fn panicked(panic: &(dyn Any + Send)) -> ApiError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text");
    tracing::error!(panic = text, "a request's handler panicked");
    ApiError::internal(text)
}
