//! The rules for a function's answer (spec/03 3.1): what its status means, how much of it is
//! collected, and what the client may see of its headers.

use domain::ErrorCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use nodekit::body::Body;

use super::dispatch::Limits;

pub(super) const FN_FDK_VERSION: HeaderName = HeaderName::from_static("fn-fdk-version");

/// The answer of a function that handled the call.
#[derive(Debug)]
pub struct Answer {
    /// The function's headers without hop-by-hop headers. `Content-Length` is there if, and only
    /// if, the length is known.
    pub headers: HeaderMap,
    /// The output. It ends with an [`ApiError`](domain::ApiError) in the box if the function dies,
    /// stalls or says too much: never with a silent cut.
    pub body: Body,
}

/// What the status of an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The function handled the call.
    Handled,
    /// The function says that it failed, in the way that an FDK says it. Its container is fine.
    Failed(ErrorCode),
    /// No FDK says this.
    Invalid,
}

impl Verdict {
    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::OK => Self::Handled,
            StatusCode::BAD_GATEWAY => Self::Failed(ErrorCode::FunctionFailed),
            StatusCode::GATEWAY_TIMEOUT => Self::Failed(ErrorCode::CallTimeout),
            _ => Self::Invalid,
        }
    }
}

/// How the body of a handled call travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is known to be larger than the limit.
    Refuse,
    /// Collect up to this many bytes, so that a crash in between gives a clean error; then go on as
    /// a stream, if there is no limit.
    Collect(u64),
    /// Pass on what comes as it comes.
    Stream,
}

impl Plan {
    /// The plan for a body of `length` bytes, if the function told its length.
    pub(super) fn of(headers: &HeaderMap, length: Option<u64>, limits: &Limits) -> Self {
        let buffer = limits.buffer_bytes as u64;
        match (length, limits.max_response_bytes) {
            (Some(length), Some(max)) if length > max => Self::Refuse,
            _ if is_event_stream(headers) => Self::Stream,
            (Some(length), _) if length > buffer => Self::Stream,
            (Some(length), _) => Self::Collect(length),
            (None, Some(max)) => Self::Collect(max),
            (None, None) => Self::Collect(buffer),
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let kind = value.as_bytes();
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or(kind);
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// Takes out what concerns only the connection to the function, and makes `Content-Length` true.
pub(super) fn make_public(headers: &mut HeaderMap, length: Option<u64>) {
    nodekit::hop::strip(headers);
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}
