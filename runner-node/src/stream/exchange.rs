//! A call's hold on its container. It reports the outcome exactly once, also when the call is
//! dropped at any point.

use domain::{ApiError, ErrorCode};
use http::HeaderValue;

use super::connection::{Connection, Remains};
use super::link::Link;
use super::outcome::{Cause, Outcome, Report};

/// Owns the link while a call runs on it, and the duty to report.
pub(super) struct Exchange<D: FnOnce(Report)> {
    /// Taken when the outcome is reported.
    held: Option<(Link, D)>,
    /// Whether the function may have seen the call.
    sent: bool,
    pub(super) fdk_version: Option<HeaderValue>,
    /// What a function that failed by its own word is answered with, or why the call was not sent.
    pub(super) failed: Option<ErrorCode>,
}

impl<D: FnOnce(Report)> Exchange<D> {
    pub(super) fn new(link: Link, done: D) -> Self {
        Self {
            held: Some((link, done)),
            sent: false,
            fdk_version: None,
            failed: None,
        }
    }

    /// The link. Not to be asked for after the outcome was reported.
    pub(super) fn link(&mut self) -> &mut Link {
        let (link, _) = self
            .held
            .as_mut()
            .expect("the link is held until the outcome is reported");
        link
    }

    /// The connection on which the call was sent.
    pub(super) fn connection(&mut self) -> &mut Connection {
        self.link().connection.as_mut().expect(
            "a call is sent only on a connection, which stays until the outcome is reported",
        )
    }

    /// From now on the function may see the call.
    pub(super) fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// The container must be discarded. Does nothing if the outcome was reported before.
    pub(super) fn broken(&mut self, cause: Cause) {
        self.report(|link| {
            drop(link);
            Outcome::Broken(cause)
        });
    }

    /// The answer is larger than allowed: the rest of it must not reach anybody.
    pub(super) fn too_large(&mut self) -> ApiError {
        self.broken(Cause::ResponseTooLarge);
        ErrorCode::ResponseBodyTooLarge.into()
    }

    /// The deadline passed. A function that has not seen the call is fit for another.
    pub(super) fn timed_out(&mut self) {
        if self.sent {
            self.broken(Cause::TimedOut);
        } else {
            self.failed = Some(ErrorCode::CallTimeout);
        }
    }

    /// The answer was read to its end.
    pub(super) async fn answered(&mut self) {
        match self.connection().remains().await {
            Remains::Idle => self.report(Outcome::Reusable),
            Remains::Spent => self.report(|link| {
                Outcome::Reusable(Link {
                    connection: None,
                    ..link
                })
            }),
            Remains::ExtraBytes => self.broken(Cause::ExtraBytes),
        }
    }

    fn report(&mut self, outcome: impl FnOnce(Link) -> Outcome) {
        if let Some((link, done)) = self.held.take() {
            done(Report {
                outcome: outcome(link),
                fdk_version: self.fdk_version.take(),
                failed: self.failed,
            });
        }
    }
}

impl<D: FnOnce(Report)> Drop for Exchange<D> {
    fn drop(&mut self) {
        if self.sent {
            self.broken(Cause::Abandoned);
        } else {
            // The function has not seen this call, so it is fit for another.
            self.failed.get_or_insert(ErrorCode::ClientCancelled);
            self.report(Outcome::Reusable);
        }
    }
}
