//! Sends a call to a function and applies the contract to its answer (spec/03 3.1).

use std::fmt;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use domain::{ApiError, ErrorCode};
use http::Response;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

use super::answer::{Answer, FN_FDK_VERSION, Plan, Verdict, make_public};
use super::call::{Call, InputBroken};
use super::connection::SendError;
use super::exchange::Exchange;
use super::link::Link;
use super::outcome::{Cause, Report};
use super::pump::{self, Flow};

/// How much a function may answer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `FN_MAX_RESPONSE_SIZE`; `None` for no limit.
    pub max_response_bytes: Option<u64>,
    /// The most bytes of an answer that are held back so that a crash gives a clean error. With
    /// `max_response_bytes`, an answer of unknown length is held back up to that limit instead.
    pub buffer_bytes: usize,
}

impl Limits {
    /// The default of `buffer_bytes`.
    pub const BUFFER_BYTES: usize = 64 * 1024;
    /// The default of `FN_MAX_HDR_RESPONSE_SIZE`, for [`Link::new`].
    pub const MAX_HEADER_BYTES: usize = 1024 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_response_bytes: None,
            buffer_bytes: Self::BUFFER_BYTES,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum DispatchError {
    /// The function could not be reached, and has not seen a byte of the call: it may be sent to
    /// another container. The container is broken.
    NotSent {
        /// The call as it was.
        call: Box<Call>,
        /// What to tell the client if the call is not sent elsewhere.
        error: ApiError,
    },
    /// The call is over.
    Failed(ApiError),
}

impl From<DispatchError> for ApiError {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::NotSent { error, .. } | DispatchError::Failed(error) => error,
        }
    }
}

impl fmt::Display for DispatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent { error, .. } | Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DispatchError {}

/// Sends calls to functions.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    limits: Limits,
    tasks: TaskTracker,
}

/// An answer after as much of it as must be held back was read.
enum Progress {
    Complete(Answer),
    Flowing(Response<Incoming>, Bytes),
}

impl Dispatcher {
    /// A dispatcher that streams long answers in tasks on `tasks`.
    pub fn new(limits: Limits, tasks: TaskTracker) -> Self {
        Self { limits, tasks }
    }

    /// Sends `call` over `link` and waits for the answer: for all of it if it is small, else for
    /// its head.
    ///
    /// `done` is called exactly once, as soon as the container is free or known to be broken:
    /// before the answer's last byte can be seen, on every error, and when the future or the
    /// answer's body is dropped. It must not block.
    ///
    /// # Errors
    /// `FunctionFailed` and `CallTimeout` as the function says; `FunctionInvalidResponse`,
    /// `FunctionResponseError`, `ResponseHeaderTooLarge`, `ResponseBodyTooLarge`; `CallTimeout` when
    /// the deadline passes; the error of the client's body.
    pub fn dispatch<D>(
        &self,
        link: Link,
        call: Call,
        done: D,
    ) -> impl Future<Output = Result<Answer, DispatchError>> + Send
    where
        D: FnOnce(Report) + Send + 'static,
    {
        // Made here, so that `done` is called even if the future is never polled.
        let exchange = Exchange::new(link, done);
        self.run(exchange, call)
    }

    async fn run<D>(&self, mut exchange: Exchange<D>, call: Call) -> Result<Answer, DispatchError>
    where
        D: FnOnce(Report) + Send + 'static,
    {
        let deadline = call.deadline;
        let work = async {
            let response = send(&mut exchange, call).await?;
            exchange.fdk_version = response.headers().get(FN_FDK_VERSION).cloned();
            self.judge(&mut exchange, response)
                .await
                .map_err(DispatchError::Failed)
        };
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(Ok(Progress::Complete(answer))) => Ok(answer),
            Ok(Ok(Progress::Flowing(response, head_start))) => {
                Ok(self.flow(exchange, response, head_start, deadline))
            }
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => {
                exchange.timed_out();
                Err(DispatchError::Failed(ErrorCode::CallTimeout.into()))
            }
        }
    }

    async fn judge<D: FnOnce(Report)>(
        &self,
        exchange: &mut Exchange<D>,
        response: Response<Incoming>,
    ) -> Result<Progress, ApiError> {
        match Verdict::of(response.status()) {
            Verdict::Handled => self.handled(exchange, response).await,
            Verdict::Failed(code) => {
                // What a failed function says is read and dropped, so that its container can go on.
                exchange.failed = Some(code);
                let most = self.limits.buffer_bytes as u64;
                match collect(exchange, &mut response.into_body(), most).await {
                    Ok(Collected::All(_)) => exchange.answered().await,
                    Ok(Collected::Part(_)) => exchange.broken(Cause::ResponseTooLarge),
                    Err((cause, _)) => exchange.broken(cause),
                }
                Err(code.into())
            }
            Verdict::Invalid => {
                exchange.broken(Cause::InvalidResponse);
                Err(ApiError::from(ErrorCode::FunctionInvalidResponse)
                    .detail(format_args!("status {}", response.status())))
            }
        }
    }

    async fn handled<D: FnOnce(Report)>(
        &self,
        exchange: &mut Exchange<D>,
        mut response: Response<Incoming>,
    ) -> Result<Progress, ApiError> {
        let length = response.body().size_hint().exact();
        let most = match Plan::of(response.headers(), length, &self.limits) {
            Plan::Refuse => return Err(exchange.too_large()),
            Plan::Stream => return Ok(Progress::Flowing(response, Bytes::new())),
            Plan::Collect(most) => most,
        };
        match collect(exchange, response.body_mut(), most).await {
            Ok(Collected::All(bytes)) => {
                exchange.answered().await;
                let mut headers = std::mem::take(response.headers_mut());
                make_public(&mut headers, Some(bytes.len() as u64));
                let body = nodekit::body::full(bytes);
                Ok(Progress::Complete(Answer { headers, body }))
            }
            Ok(Collected::Part(_)) if self.limits.max_response_bytes.is_some() => {
                Err(exchange.too_large())
            }
            Ok(Collected::Part(bytes)) => Ok(Progress::Flowing(response, bytes)),
            Err((cause, error)) => {
                exchange.broken(cause);
                Err(error)
            }
        }
    }

    fn flow<D>(
        &self,
        exchange: Exchange<D>,
        response: Response<Incoming>,
        head_start: Bytes,
        deadline: Instant,
    ) -> Answer
    where
        D: FnOnce(Report) + Send + 'static,
    {
        let (parts, body) = response.into_parts();
        let mut headers = parts.headers;
        let length = body.size_hint().exact();
        make_public(&mut headers, length);
        let flow = Flow {
            body,
            head_start,
            length,
            max_bytes: self.limits.max_response_bytes,
            deadline,
        };
        Answer {
            headers,
            body: pump::start(flow, exchange, &self.tasks),
        }
    }
}

/// Sends the call over the kept connection, or a new one, and waits for the head of the answer. A
/// call of which a byte may have been written is never sent again.
async fn send<D: FnOnce(Report)>(
    exchange: &mut Exchange<D>,
    call: Call,
) -> Result<Response<Incoming>, DispatchError> {
    let (id, deadline, deadline_at) = (call.id.clone(), call.deadline, call.deadline_at);
    let mut request = call.into_request().map_err(DispatchError::Failed)?;
    let mut kept = exchange.link().is_connected();
    let detail = loop {
        if !kept {
            exchange.link().connection = None;
            match exchange.link().connect().await {
                Ok(connection) => exchange.link().connection = Some(connection),
                Err(error) => break error.to_string(),
            }
        }
        exchange.mark_sent();
        match exchange.connection().send(request).await {
            Ok(response) => return Ok(response),
            Err(SendError::Failed(error)) => {
                let (cause, error) = function_error(&error);
                exchange.broken(cause);
                return Err(DispatchError::Failed(error));
            }
            Err(SendError::NotSent(unsent)) => {
                request = *unsent;
                if !kept {
                    break "the function closed a new connection, or wrote to it first".to_owned();
                }
                kept = false;
            }
        }
    };
    exchange.broken(Cause::Unreachable);
    let (parts, input) = request.into_parts();
    Err(DispatchError::NotSent {
        call: Box::new(Call {
            id,
            headers: parts.headers,
            body: input.0,
            deadline,
            deadline_at,
        }),
        error: ApiError::from(ErrorCode::FunctionResponseError).detail(detail),
    })
}

/// What was read of a body.
enum Collected {
    /// All of it.
    All(Bytes),
    /// More than was asked for, and there may be more.
    Part(Bytes),
}

/// Reads a body until it ends or has more than `most` bytes.
async fn collect<D: FnOnce(Report)>(
    exchange: &mut Exchange<D>,
    body: &mut Incoming,
    most: u64,
) -> Result<Collected, (Cause, ApiError)> {
    // Most answers come in one piece, which is not copied.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let data = match exchange.connection().read(body).await {
            Some(Ok(data)) => data,
            Some(Err(error)) => return Err(function_error(&error)),
            None if joined.is_empty() => return Ok(Collected::All(first)),
            None => return Ok(Collected::All(joined.freeze())),
        };
        if first.is_empty() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
        if first.len().max(joined.len()) as u64 > most {
            let part = if joined.is_empty() {
                first
            } else {
                joined.freeze()
            };
            return Ok(Collected::Part(part));
        }
    }
}

/// What a broken connection means for the container and for the client.
pub(super) fn function_error(error: &hyper::Error) -> (Cause, ApiError) {
    let source = std::error::Error::source(error);
    if let Some(broken) = source.and_then(|source| source.downcast_ref::<InputBroken>()) {
        return (Cause::RequestBroken, broken.to_api_error());
    }
    if error.is_parse_too_large() {
        return (
            Cause::ResponseTooLarge,
            ErrorCode::ResponseHeaderTooLarge.into(),
        );
    }
    let detail = match source {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let error = ApiError::from(ErrorCode::FunctionResponseError).detail(detail);
    (Cause::ConnectionLost, error)
}
