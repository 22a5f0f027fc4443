//! Handing in a durable call through the API.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::call::{CallHeaders, CallOptions, NewCall};
use domain::{ApiError, CallId, ErrorCode, FnId};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hybrid_client::CallPlane as _;
use nodekit::error_response::JSON;
use nodekit::hop;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Kept;
use crate::rest::body;
use crate::rest::openapi::{BodyErrors, ErrorBody, ServerErrors};
use crate::rest::path::PathParams;
use crate::rest::reply::Failure;
use crate::rest::state::ApiState;

static FN_CALL_ID: HeaderName = HeaderName::from_static("fn-call-id");
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What the platform says to functions: a call that is handed in here cannot say it in its name.
static RESERVED: [HeaderName; 4] = [
    HeaderName::from_static("fn-attempt"),
    HeaderName::from_static("fn-call-id"),
    HeaderName::from_static("fn-deadline"),
    HeaderName::from_static("fn-intent"),
];
const RESERVED_PREFIX: &str = "fn-http-";

/// A durable call: its request, and beside it the options, which [`CallOptions`] reads.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CallDraft {
    #[serde(flatten)]
    request: RequestDraft,
    #[serde(flatten)]
    options: Map<String, Value>,
}

/// The request of a durable call.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct RequestDraft {
    /// The input of the function, as text.
    #[serde(default)]
    payload: Option<String>,
    /// The input, if it is not text: in base64. Not together with `payload`.
    #[serde(default)]
    #[schema(content_encoding = "base64")]
    payload_base64: Option<String>,
    /// What the input is.
    #[serde(default)]
    #[schema(example = "application/json")]
    content_type: Option<String>,
    /// More headers for the function; not those by which the platform speaks to it: `Fn-Intent`,
    /// `Fn-Http-*`, `Fn-Call-Id`, `Fn-Deadline`, `Fn-Attempt`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// The fields of both, since a document that must have the fields of one and no others can have none
/// of the other.
impl PartialSchema for CallDraft {
    fn schema() -> RefOr<Schema> {
        let (mut options, request) = (CallOptions::schema(), RequestDraft::schema());
        if let (RefOr::T(Schema::Object(options)), RefOr::T(Schema::Object(request))) =
            (&mut options, request)
        {
            options.description =
                Some("A durable call: its request, and what is asked for.".into());
            options.properties.extend(request.properties);
        }
        options
    }
}

impl ToSchema for CallDraft {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        CallOptions::schemas(schemas);
    }
}

/// That a call was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CallAccepted {
    /// Names the call.
    call_id: CallId,
}

/// Hands in a durable call. From the answer on it is never lost.
#[utoipa::path(
    post, path = "/v2/fns/{fn_id}/calls", tag = "calls", operation_id = "SubmitCall",
    params(
        ("fn_id" = String, Path, min_length = 1),
        ("Idempotency-Key" = Option<String>, Header, description = "The same as `idempotency_key` in the body."),
    ),
    request_body = CallDraft,
    responses(
        (status = 202, description = "The call is committed.", body = CallAccepted, headers(
            ("Fn-Call-Id" = String, description = "Names the call."),
            ("Location" = String, description = "The path of the call."),
            ("Idempotent-Replayed" = Option<String>, description = "`true` if the idempotency key was known: this is the first call of that key."),
        )),
        (status = 404, description = "There is no such function.", body = ErrorBody),
        (status = 409, description = "A call with this idempotency key keeps its client waiting.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        (status = 422, description = "The idempotency key was used with another request.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn submit(
    Kept(calls): Kept,
    State(state): State<ApiState>,
    PathParams(fn_id): PathParams<FnId>,
    request: Request,
) -> Result<Response, Failure> {
    let key = request.headers().get(&IDEMPOTENCY_KEY).cloned();
    let most = state.settings.max_call_body;
    // A document is longer than the input that it holds: base64 makes four bytes of three, JSON two of
    // many a character.
    let document = most.saturating_mul(2).saturating_add(body::MAX_BODY_BYTES);
    let draft: CallDraft = body::parse(&body::read(request, &state.settings, document).await?)?;
    let mut options = draft.options()?;
    if let Some(key) = key {
        options.idempotency_key = Some(one_key(&key, options.idempotency_key)?);
    }
    options.validate()?;
    let headers = draft.headers()?;
    let input = draft.input()?;
    if input.len() > most {
        return Err(ErrorCode::RequestTooLarge.into());
    }
    let path = format!("/invoke/{fn_id}");
    let call = NewCall {
        id: CallId::from(state.new_id()),
        fn_id,
        trigger_id: None,
        url: path.clone(),
        path,
        method: "POST".to_owned(),
        headers,
        options,
        origin_id: None,
        body: input,
    };
    let accepted = calls.enqueue(call).await?;
    let document = serde_json::to_string(&CallAccepted {
        call_id: accepted.id.clone(),
    })
    .map_err(ApiError::internal)?;
    let mut response = Response::new(Body::from(format!("{document}\n")));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    let value = |text: &str| HeaderValue::try_from(text).map_err(ApiError::internal);
    headers.insert(&FN_CALL_ID, value(accepted.id.as_str())?);
    headers.insert(LOCATION, value(&format!("/v2/calls/{}", accepted.id))?);
    if accepted.replayed {
        headers.insert(&IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

impl CallDraft {
    /// What is beside the request.
    fn options(&self) -> Result<CallOptions, ApiError> {
        serde_json::from_value(Value::Object(self.options.clone()))
            .map_err(|error| invalid(&error.to_string()))
    }

    fn headers(&self) -> Result<CallHeaders, ApiError> {
        let wrong = || invalid("headers must be names and values of HTTP headers");
        let mut headers = HeaderMap::new();
        for (name, value) in &self.request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            if RESERVED.contains(&name) || name.as_str().starts_with(RESERVED_PREFIX) {
                return Err(invalid(&format!("headers must not contain {name}")));
            }
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
            headers.try_append(name, value).map_err(|_| wrong())?;
        }
        hop::strip(&mut headers);
        for name in [HOST, EXPECT, CONTENT_LENGTH] {
            headers.remove(name);
        }
        if let Some(content_type) = &self.request.content_type {
            let value = HeaderValue::from_bytes(content_type.as_bytes())
                .map_err(|_| invalid("content_type must be the value of an HTTP header"))?;
            headers.insert(CONTENT_TYPE, value);
        }
        let mut kept = CallHeaders::default();
        for (name, value) in &headers {
            kept.push(name.as_str(), value.as_bytes());
        }
        Ok(kept)
    }

    fn input(self) -> Result<Bytes, ApiError> {
        match (self.request.payload, self.request.payload_base64) {
            (Some(_), Some(_)) => Err(invalid("payload cannot be together with payload_base64")),
            (Some(text), None) => Ok(text.into()),
            (None, Some(base64)) => match STANDARD.decode(base64) {
                Ok(bytes) => Ok(bytes.into()),
                Err(_) => Err(invalid("payload_base64 must be base64")),
            },
            (None, None) => Ok(Bytes::new()),
        }
    }
}

/// The key that header and body agree on.
fn one_key(header: &HeaderValue, body: Option<String>) -> Result<String, ApiError> {
    let header = std::str::from_utf8(header.as_bytes())
        .map_err(|_| invalid("Idempotency-Key must be UTF-8"))?;
    match body {
        Some(body) if body != header => Err(invalid("idempotency_key must be that of the header")),
        _ => Ok(header.to_owned()),
    }
}

fn invalid(message: &str) -> ApiError {
    ApiError::with_message(ErrorCode::InvalidCallOption, message)
}
