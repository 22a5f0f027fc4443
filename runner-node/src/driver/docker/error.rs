//! What can go wrong between us and the engine, and what a client is told of it.

use domain::{ApiError, ErrorCode};

/// A request to the engine failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EngineError {
    /// The engine answered with an error.
    #[error("the engine answered {status}: {message}")]
    Refused { status: u16, message: String },
    /// The engine began to answer well, and then told of an error.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The engine could not be reached, or the connection broke.
    #[error("the engine cannot be reached: {0}")]
    Unreachable(String),
    /// The engine did not answer in time.
    #[error("the engine did not answer in time")]
    TimedOut,
    /// The engine's answer makes no sense, or our request did not.
    #[error("the engine was not understood: {0}")]
    Malformed(String),
}

impl EngineError {
    /// The engine says that it has no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The engine may well do it if asked again.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status >= 500,
            Self::Unreachable(_) | Self::TimedOut => true,
            Self::Failed(_) | Self::Malformed(_) => false,
        }
    }

    /// Whether the engine may have done what was asked all the same.
    pub(crate) fn is_ambiguous(&self) -> bool {
        !matches!(self, Self::Refused { status, .. } if *status < 500)
    }

    /// Whether the engine may do what was asked later on: it has not said that it is done with it.
    pub(crate) fn may_come_late(&self) -> bool {
        // What stands between us and the engine answers 502 and the like on its own account.
        !matches!(self, Self::Refused { status, .. } if *status <= 500)
    }

    /// The value of the metric label `api_status`.
    pub(crate) fn status_label(&self) -> String {
        match self {
            Self::Refused { status, .. } => status.to_string(),
            Self::Failed(_) => "failed".to_owned(),
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::TimedOut => "timeout".to_owned(),
            Self::Malformed(_) => "malformed".to_owned(),
        }
    }

    /// What a client is told when nothing more precise is known.
    pub(crate) fn into_api(self, what: &str) -> ApiError {
        let code = match self {
            Self::Unreachable(_) | Self::TimedOut => ErrorCode::ServerBusy,
            _ => ErrorCode::Internal,
        };
        ApiError::from(code).detail(format_args!("{what}: {self}"))
    }
}

impl From<bollard::errors::Error> for EngineError {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => Self::Refused {
                status: status_code,
                message: message.trim().to_owned(),
            },
            Error::DockerStreamError { error } => Self::Failed(error),
            Error::RequestTimeoutError => Self::TimedOut,
            Error::SocketNotFoundError(_)
            | Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. } => Self::Unreachable(with_causes(&error)),
            other => Self::Malformed(with_causes(&other)),
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_has_refused_does_not_come_late() {
        let refused = |status| EngineError::Refused {
            status,
            message: String::new(),
        };
        assert!(!refused(400).may_come_late() && !refused(500).may_come_late());
        assert!(refused(504).may_come_late() && EngineError::TimedOut.may_come_late());
    }

    #[test]
    fn what_the_engine_says_stays_inside() {
        let refused = EngineError::Refused {
            status: 500,
            message: "secret".to_owned(),
        };
        let error = refused.into_api("create_container");
        assert_eq!(
            (error.status(), error.message()),
            (500, "internal server error")
        );
        let away = EngineError::Unreachable("secret".to_owned()).into_api("ping");
        assert_eq!(away.code(), ErrorCode::ServerBusy);
    }
}
