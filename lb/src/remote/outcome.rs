//! The end of a call: what the runner accounts for, or the error that the client gets
//! (spec/08 8.2, 8.3).

use std::time::Duration;

use domain::{ApiError, Blame, ErrorCode};
use nodekit::exchange::CallTimings;
use proto::runner::CallFinished;

/// What the client is told when a runner says nothing of its error (spec/08 8.3).
const UNKNOWN_ERROR: &str = "Unknown Error From Pure Runner";

/// What a runner accounts for at the end of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// How long the call waited there for a container.
    pub(crate) scheduling: Duration,
    pub(crate) execution: Duration,
    pub(crate) image_pull: Duration,
    pub(crate) container_create: Duration,
    pub(crate) container_init: Duration,
}

impl Account {
    /// The durations of `finished`; a negative one is none.
    pub(crate) fn of(finished: &CallFinished) -> Self {
        let nanos = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        Self {
            scheduling: nanos(finished.scheduler_duration),
            execution: nanos(finished.execution_duration),
            image_pull: nanos(finished.image_pull_wait_duration),
            container_create: nanos(finished.ctr_create_duration),
            container_init: nanos(finished.init_start_time),
        }
    }

    /// The stages of a call that was sent to the runner `waited` after it arrived.
    pub(crate) fn timings(&self, waited: Duration) -> CallTimings {
        CallTimings {
            scheduling: waited.saturating_add(self.scheduling),
            image_pull: self.image_pull,
            container_create: self.container_create,
            container_init: self.container_init,
            execution: self.execution,
        }
    }
}

/// Whether the runner gives the call back: it may be tried elsewhere.
pub(crate) fn is_refusal(code: i32) -> bool {
    code == 503
}

/// Whether the runner itself broke, and not the function, the client or the image.
pub(crate) fn is_runners_fault(finished: &CallFinished) -> bool {
    !finished.success && !finished.error_user && status(finished) == 500
}

/// The error of a failed call, as the client would get it from one node: its text and status are
/// the runner's; its code is found by them, or is a general one of the same blame.
pub(crate) fn error(finished: &CallFinished) -> ApiError {
    let text = match finished.error_str.as_str() {
        "" => UNKNOWN_ERROR,
        text => text,
    };
    let (blame, general) = match finished.error_user {
        true => (Blame::User, ErrorCode::FunctionFailed),
        false => (Blame::Service, ErrorCode::Internal),
    };
    let status = status(finished);
    let codes = || ErrorCode::ALL.iter().copied();
    let exact = codes().find(|code| code.text() == text && code.status() == status);
    // Some texts go on with what was special: the name of an image, a message of the engine.
    let begun = || {
        codes()
            .filter(|code| code.blame() == blame && text.starts_with(code.text()))
            .max_by_key(|code| code.text().len())
    };
    let code = exact.or_else(begun).unwrap_or(general);
    ApiError::with_message(code, text).status_override(status)
}

fn status(finished: &CallFinished) -> u16 {
    let status = u16::try_from(finished.error_code).ok();
    status
        .filter(|status| (400..=599).contains(status))
        .unwrap_or(500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32, text: &str, user: bool) -> CallFinished {
        CallFinished {
            error_code: code,
            error_str: text.to_owned(),
            error_user: user,
            ..CallFinished::default()
        }
    }

    #[test]
    fn every_error_of_a_runner_is_the_one_it_would_be_on_one_node() {
        for code in ErrorCode::ALL.iter().copied() {
            let user = code.blame() == Blame::User;
            let read = error(&failed(code.status().into(), code.text(), user));
            assert_eq!(read.status(), code.status());
            assert_eq!(read.message(), code.text());
            assert_eq!(read.code().blame(), code.blame());
            // Some texts are used for several codes.
            assert_eq!(read.code().text(), code.text());
        }
    }

    #[test]
    fn texts_that_go_on_and_texts_unheard_of() {
        let text = "Failed to pull image 'a/b:1': no such image";
        let read = error(&failed(404, text, true));
        assert_eq!(read.code(), ErrorCode::ImagePullFailed);
        assert_eq!((read.status(), read.message()), (404, text));
        for (user, code) in [
            (true, ErrorCode::FunctionFailed),
            (false, ErrorCode::Internal),
        ] {
            let read = error(&failed(418, "something else", user));
            assert_eq!((read.code(), read.status()), (code, 418));
            assert_eq!(read.message(), "something else");
        }
        let read = error(&failed(0, "", false));
        assert_eq!((read.status(), read.message()), (500, UNKNOWN_ERROR));
    }

    #[test]
    fn the_account_is_in_nanoseconds_and_never_negative() {
        let account = Account::of(&CallFinished {
            scheduler_duration: 3,
            execution_duration: -1,
            image_pull_wait_duration: 4,
            ctr_create_duration: 5,
            init_start_time: 6,
            ..CallFinished::default()
        });
        let timings = account.timings(Duration::from_nanos(10));
        let nanos = Duration::from_nanos;
        let expected = CallTimings {
            scheduling: nanos(13),
            image_pull: nanos(4),
            container_create: nanos(5),
            container_init: nanos(6),
            execution: nanos(0),
        };
        assert_eq!(timings, expected);
    }
}
