//! Everything that can go wrong in the kit itself.

use std::path::PathBuf;

/// An error of the kit. A handler may return it with `?`: the call is then answered with 502.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable that the platform sets for every function is not there.
    #[error(
        "the environment has no {0}: a function is started by the platform, which sets FN_FORMAT=http-stream and FN_LISTENER=unix:PATH"
    )]
    MissingVariable(&'static str),
    /// `FN_FORMAT` names another contract.
    #[error("FN_FORMAT is {0:?}, and only \"http-stream\" is supported")]
    UnsupportedFormat(String),
    /// `FN_LISTENER` is not `unix:` and an absolute path.
    #[error("FN_LISTENER is {0:?}, and should be unix: and the absolute path of a socket")]
    InvalidListener(String),
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}", path = .path.display())]
    Listen {
        /// The name in question.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The runtime or the signal handlers cannot be made.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    /// The request ended early.
    #[error("the request's body cannot be read: {0}")]
    ReadBody(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request is not text.
    #[error("the request's body is not UTF-8")]
    NotText,
    /// The request is not the JSON that was asked for, or the answer cannot be written as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Not a header's name.
    #[error("{0:?} is not a header name")]
    InvalidHeaderName(String),
    /// Not a header's value: a control character, such as a line break, is in it.
    #[error("the value of header {0} has a character that no header may have")]
    InvalidHeaderValue(http::HeaderName),
    /// A header that belongs to the connection, not to the answer.
    #[error("header {0} belongs to the connection and cannot be set by a function")]
    ReservedHeader(http::HeaderName),
    /// The caller of a streaming answer is gone.
    #[error("nobody reads the answer any more")]
    Closed,
}
