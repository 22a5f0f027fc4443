//! The account of a call, as its last message tells it (spec/08 8.2).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domain::{ApiError, Blame, CallId, Timestamp};
use proto::runner::CallFinished;

use crate::agent::Started;

/// What is known of a call so far.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: Option<CallId>,
    pub(super) image: String,
    pub(super) started: Option<Started>,
    pub(super) arrived: Instant,
    created_at: Timestamp,
}

impl Record {
    /// A call that came just now.
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        Self {
            id: None,
            image: String::new(),
            started: None,
            arrived: Instant::now(),
            created_at: Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
        }
    }

    /// By the clock of the arrival, so that a step of the wall clock does not show.
    fn at(&self, instant: Instant) -> Timestamp {
        let since = instant.saturating_duration_since(self.arrived).as_millis();
        let millis = i64::try_from(since).unwrap_or(i64::MAX);
        Timestamp::from_unix_millis(self.created_at.unix_millis().saturating_add(millis))
    }

    /// The last message of a call that is over now. Times that were never reached stay empty.
    pub(super) fn finished(&self, error: Option<&ApiError>) -> CallFinished {
        let mut finished = CallFinished {
            success: error.is_none(),
            details: self
                .id
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            created_at: self.created_at.to_string(),
            image: self.image.clone(),
            ..CallFinished::default()
        };
        if let Some(error) = error {
            finished.error_code = i32::from(error.status());
            finished.error_str = error.message().to_owned();
            finished.error_user = error.code().blame() == Blame::User;
        }
        if let Some(started) = &self.started {
            let now = Instant::now();
            let timings = &started.timings;
            finished.started_at = self.at(started.at).to_string();
            finished.completed_at = self.at(now).to_string();
            finished.scheduler_duration = nanos(timings.scheduling);
            finished.execution_duration = nanos(now.saturating_duration_since(started.at));
            finished.image_pull_wait_duration = nanos(timings.image_pull);
            finished.ctr_prep_duration = nanos(started.prepare);
            finished.ctr_create_duration = nanos(timings.container_create);
            finished.init_start_time = nanos(timings.container_init);
        }
        finished
    }
}

/// As the protocol tells durations.
pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
