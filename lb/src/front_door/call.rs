//! One call: its request for the runner, and its outcome as an answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use domain::{ApiError, Blame, CallId, ErrorCode};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body, BodyError};
use nodekit::error_response;
use nodekit::exchange::{CallRequest, CallResponse, Target};
use nodekit::trace_context::{self, TRACEPARENT, TRACESTATE};
use tracing::Instrument as _;

use super::{
    Account, FN_CALL_ID, Shared, bare, call_id_value, content_type, input, invoke, timings, trigger,
};
use crate::metrics::Answer;

static FN_INVOKE_TYPE: HeaderName = HeaderName::from_static("fn-invoke-type");

/// The most that a detached call's input may hold: it is read before the client is answered, since
/// the connection is the client's again after the answer.
const DETACHED_BODY_MAX_BYTES: usize = 6 << 20;

/// A call to a target that was found.
pub(super) struct Caller<'a> {
    shared: &'a Shared,
    target: Arc<Target>,
    id: CallId,
    /// The client's name for its request, in logs only.
    request_id: Option<Arc<str>>,
    arrived: Instant,
}

impl<'a> Caller<'a> {
    /// Names the call.
    pub(super) fn new(
        shared: &'a Shared,
        target: Arc<Target>,
        request_id: Option<Arc<str>>,
        arrived: Instant,
    ) -> Self {
        Self {
            id: CallId::from(shared.new_id()),
            shared,
            target,
            request_id,
            arrived,
        }
    }

    /// Answers `POST /invoke/<fn id>` (spec/01 1.8).
    pub(super) async fn invoke(
        self,
        request: Request<Body>,
        mut account: Account,
    ) -> Response<Body> {
        account.calling = true;
        let (parts, body) = request.into_parts();
        let detached = parts
            .headers
            .get(&FN_INVOKE_TYPE)
            .is_some_and(|kind| kind == "detached");
        let timings_asked = timings::asked(&parts.headers);
        let mut headers = invoke::request_headers(parts.headers);
        trace_context::continue_trace(&mut headers, self.shared.parts.random);
        let answer = async {
            let body = match detached {
                true => input::whole(body, DETACHED_BODY_MAX_BYTES).await?,
                false => input::ahead(body).await?,
            };
            let answer = self.run(headers, body, detached).await?;
            if detached {
                return Ok((
                    bare(StatusCode::ACCEPTED),
                    Answer::bare(StatusCode::ACCEPTED),
                ));
            }
            let counted = Answer::success(StatusCode::OK, &answer.headers);
            let mut headers = invoke::response_headers(answer.headers);
            let body = content_type::complete(&mut headers, answer.body)
                .await
                .map_err(output_error)?;
            if timings_asked {
                timings::tell(&mut headers, &answer.timings);
            }
            if self.shared.parts.runner.tells_wait() {
                timings::tell_wait(&mut headers, &answer.timings);
            }
            let mut response = Response::new(body);
            *response.headers_mut() = headers;
            Ok((response, counted))
        };
        let answer = answer.await;
        self.finish(answer, account)
    }

    /// Answers `/t/...` (spec/01 1.9).
    pub(super) async fn trigger(
        self,
        request: Request<Body>,
        mut account: Account,
    ) -> Response<Body> {
        account.calling = true;
        let (mut parts, body) = request.into_parts();
        let timings_asked = timings::asked(&parts.headers);
        let mut headers = trigger::request_headers(&mut parts);
        for name in [&TRACEPARENT, &TRACESTATE] {
            trigger::append_all(
                &mut headers,
                name,
                parts.headers.get_all(name).iter().cloned(),
            );
        }
        trace_context::continue_trace(&mut headers, self.shared.parts.random);
        let answer = async {
            let body = input::ahead(body).await?;
            let answer = self.run(headers, body, false).await?;
            let status = trigger::status(&answer.headers)?;
            let counted = Answer::success(status, &answer.headers);
            let mut headers = trigger::response_headers(&answer.headers);
            let mut body = content_type::complete(&mut headers, answer.body)
                .await
                .map_err(output_error)?;
            if has_no_body(&parts.method, status) {
                let length = drain(body).await.map_err(output_error)?;
                if parts.method == Method::HEAD {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                body = body::empty();
            }
            if timings_asked {
                timings::tell(&mut headers, &answer.timings);
            }
            if self.shared.parts.runner.tells_wait() {
                timings::tell_wait(&mut headers, &answer.timings);
            }
            let mut response = Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok((response, counted))
        };
        let answer = answer.await;
        self.finish(answer, account)
    }

    async fn run(
        &self,
        headers: HeaderMap,
        body: Body,
        detached: bool,
    ) -> Result<CallResponse, ApiError> {
        let spec = &self.target.spec;
        let span = tracing::debug_span!(
            "call",
            call_id = %self.id,
            fn_id = %spec.fn_id,
            app_id = %spec.app_id,
            request_id = self.request_id.as_deref(),
        );
        let patience = match detached {
            true => self.shared.detached_placement_timeout,
            false => self.shared.placement_timeout,
        };
        let call = CallRequest {
            id: self.id.clone(),
            target: Arc::clone(&self.target),
            headers,
            body,
            arrived: self.arrived,
            // A time too far off to be written down is no limit.
            wait_deadline: patience.and_then(|patience| self.arrived.checked_add(patience)),
            detached,
        };
        let answer = self.shared.parts.runner.run(call).instrument(span).await?;
        self.shared
            .parts
            .metrics
            .call_succeeded(self.arrived.elapsed(), &answer.timings);
        Ok(answer)
    }

    /// Counts and logs the outcome, and puts the call's id on the answer.
    fn finish(
        &self,
        answer: Result<(Response<Body>, Answer), ApiError>,
        account: Account,
    ) -> Response<Body> {
        let mut response = match answer {
            Ok((response, counted)) => {
                account.finish(counted);
                response
            }
            Err(error) => {
                self.shared
                    .parts
                    .metrics
                    .call_failed(error.code(), self.arrived.elapsed());
                self.log(&error);
                account.finish(Answer::error(&error));
                error_response::response::<Bytes>(&error).map(body::full)
            }
        };
        if let Some(id) = call_id_value(&self.id) {
            // A full map drops what it cannot take, which is the function's doing.
            let _ = response.headers_mut().try_insert(&FN_CALL_ID, id);
        }
        response
    }

    /// One line per failed call. Being busy is no fault and would fill the log when it matters most.
    fn log(&self, error: &ApiError) {
        let is_fault = error.code().blame() == Blame::Service
            && !matches!(
                error.code(),
                ErrorCode::ServerBusy | ErrorCode::ClientCancelled
            );
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    call_id = %self.id,
                    fn_id = %self.target.spec.fn_id,
                    app_id = %self.target.spec.app_id,
                    request_id = self.request_id.as_deref(),
                    code = error.code().name(),
                    %error,
                    detail = error.internal_detail(),
                    "call failed"
                )
            };
        }
        if is_fault { line!(warn) } else { line!(debug) }
    }
}

/// Whether an answer of this status to this verb has no body, whatever the function says.
fn has_no_body(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Reads a body that nobody will get, and counts its bytes: dropping it would cancel the call, and
/// that costs the function its container.
async fn drain(mut body: Body) -> Result<u64, BodyError> {
    let mut length = 0;
    while let Some(frame) = body.frame().await.transpose()? {
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}

/// What a client is told when the function's output breaks before the answer has begun.
fn output_error(error: BodyError) -> ApiError {
    match error.downcast::<ApiError>() {
        Ok(error) => *error,
        Err(error) => ApiError::from(ErrorCode::FunctionResponseError).detail(error),
    }
}
