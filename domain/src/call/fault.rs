//! Whose fault it is that an attempt failed, which decides whether there is another one.

use crate::error::{ApiError, ErrorCode};

/// Whose fault a failed attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The function's: it uses up an attempt.
    Function,
    /// The function took too long: it uses up an attempt.
    Timeout,
    /// The platform's: it does not, and ends with the call's expiry only.
    Platform,
    /// Nobody's that another attempt could mend.
    Permanent,
}

impl Fault {
    /// The fault that an error of the runner stands for.
    pub fn of(error: &ApiError) -> Self {
        use ErrorCode as E;
        match error.code() {
            E::CallTimeout => Self::Timeout,
            E::ResponseBodyTooLarge
            | E::ResponseHeaderTooLarge
            | E::FunctionResponseError
            | E::FunctionFailed
            | E::FunctionInvalidResponse
            | E::ContainerInitFailed
            | E::ContainerInitTimeout
            | E::OutOfMemory => Self::Function,
            // The registry's own 4xx: there is no such image, or not for us.
            E::ImagePullFailed if (400..500).contains(&error.status()) && error.status() != 429 => {
                Self::Permanent
            }
            E::ResourcesImpossible
            | E::ImageHasVolume
            | E::FnNotFound
            | E::AppNotFound
            | E::RequestTooLarge => Self::Permanent,
            _ => Self::Platform,
        }
    }

    /// Whether it uses up one of the attempts that a call is allowed.
    pub const fn uses_attempt(self) -> bool {
        matches!(self, Self::Function | Self::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_knows_no_such_image_is_final_and_one_that_is_down_is_not() {
        let pull = |status| ApiError::from(ErrorCode::ImagePullFailed).status_override(status);
        assert_eq!(Fault::of(&pull(404)), Fault::Permanent);
        assert_eq!(Fault::of(&pull(403)), Fault::Permanent);
        assert_eq!(Fault::of(&pull(429)), Fault::Platform);
        assert_eq!(Fault::of(&pull(502)), Fault::Platform);
        assert_eq!(
            Fault::of(&ErrorCode::ImagePullTimeout.into()),
            Fault::Platform
        );
    }

    #[test]
    fn what_the_function_did_uses_an_attempt() {
        for code in [
            E::FunctionFailed,
            E::CallTimeout,
            E::ContainerInitFailed,
            E::OutOfMemory,
        ] {
            assert!(Fault::of(&code.into()).uses_attempt(), "{code:?}");
        }
        for code in [
            E::ServerBusy,
            E::StoreUnavailable,
            E::Internal,
            E::ImageHasVolume,
        ] {
            assert!(!Fault::of(&code.into()).uses_attempt(), "{code:?}");
        }
    }

    use ErrorCode as E;
}
