//! How a task of the service bears that the store does not answer: it waits a little longer each time,
//! and says once that it has to and once that it is over.

use std::time::Duration;

use domain::ApiError;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// So soon is noticed, at the latest, that the store is back.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// The outage that a task suffers, if it does.
#[derive(Debug)]
pub(super) struct Outage {
    task: &'static str,
    failures: u32,
}

impl Outage {
    /// All is well with `task`.
    pub(super) fn none(task: &'static str) -> Self {
        Self { task, failures: 0 }
    }

    /// It failed; how long to wait before the next try.
    pub(super) fn failed(&mut self, error: &ApiError) -> Duration {
        if self.failures == 0 {
            tracing::warn!(task = self.task, ?error, "calls are held up");
        } else {
            tracing::debug!(task = self.task, ?error, "calls are still held up");
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }

    /// It succeeded.
    pub(super) fn over(&mut self) {
        if self.failures > 0 {
            let failures = self.failures;
            tracing::info!(task = self.task, failures, "calls go on");
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ErrorCode;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_a_success() {
        let mut outage = Outage::none("test");
        let error = ApiError::from(ErrorCode::StoreUnavailable);
        let pauses: Vec<_> = (0..40).map(|_| outage.failed(&error)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.first(), Some(&FIRST_PAUSE));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        outage.over();
        assert_eq!(outage.failed(&error), FIRST_PAUSE);
    }
}
