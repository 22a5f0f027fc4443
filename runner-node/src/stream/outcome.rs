//! What a call left behind: a container that can take the next call, or one that cannot.

use domain::ErrorCode;
use http::HeaderValue;

use super::link::Link;

/// What the agent is told, exactly once, when a call has let go of its container.
#[derive(Debug)]
pub struct Report {
    /// Whether the container can take another call.
    pub outcome: Outcome,
    /// The function's `Fn-Fdk-Version`, also when its answer was an error.
    pub fdk_version: Option<HeaderValue>,
    /// Why the call failed though its container is fine: the error that the function itself
    /// reported, or, of a call that it has not seen, `CallTimeout` or `ClientCancelled`.
    pub failed: Option<ErrorCode>,
}

/// Whether the container can take another call.
#[derive(Debug)]
pub enum Outcome {
    /// It can, over this link. The link may have to reconnect, which it does by itself.
    Reusable(Link),
    /// It must be discarded.
    Broken(Cause),
}

/// Why a container must be discarded (spec/03 3.1, spec/13 13.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The caller went away while the function was at work: what it still writes belongs to nobody.
    Abandoned,
    /// The deadline passed before the answer was complete.
    TimedOut,
    /// The client's body broke before its end, so the function got half a request.
    RequestBroken,
    /// The head or the body of the answer was larger than allowed.
    ResponseTooLarge,
    /// The answer's status is none that an FDK sends.
    InvalidResponse,
    /// The function cannot be connected to any more. The call was not sent.
    Unreachable,
    /// The connection broke before the answer was complete, or what came is not HTTP.
    ConnectionLost,
    /// The function wrote more than its answer.
    ExtraBytes,
}

impl Cause {
    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::TimedOut => "timed_out",
            Self::RequestBroken => "request_broken",
            Self::ResponseTooLarge => "response_too_large",
            Self::InvalidResponse => "invalid_response",
            Self::Unreachable => "unreachable",
            Self::ConnectionLost => "connection_lost",
            Self::ExtraBytes => "extra_bytes",
        }
    }
}
