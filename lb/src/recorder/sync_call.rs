//! A call whose client waited, from its arrival to its end, and the record that it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::call::Fault;
use domain::{ApiError, CallId, CallKind, CallRecord, CallState, ErrorCode, Timestamp};
use http::{Method, StatusCode};
use nodekit::exchange::{CallTimings, Target};

/// What is noted of a call on its way; the record is made of it off the path.
#[derive(Debug)]
pub(crate) struct SyncCall {
    pub(crate) id: CallId,
    pub(crate) target: Arc<Target>,
    /// The source of the trigger; none for `/invoke`.
    pub(crate) source: Option<Box<str>>,
    pub(crate) method: Method,
    pub(crate) url: String,
    /// The same moment by two clocks.
    pub(crate) created_at: Timestamp,
    pub(crate) arrived: Instant,
    /// From its arrival to the start of its execution, if there was one.
    pub(crate) waited: Option<Duration>,
    /// The function's own status, once it has answered.
    pub(crate) status: Option<StatusCode>,
    pub(crate) end: Option<End>,
}

/// How a call ended, and how long after its arrival.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) after: Duration,
    pub(crate) error: Option<ApiError>,
}

impl SyncCall {
    /// The function has answered; the output may still be on its way.
    pub(crate) fn answered(&mut self, timings: &CallTimings, status: StatusCode) {
        self.waited = Some(timings.scheduling);
        self.status = Some(status);
    }

    /// It is over.
    pub(crate) fn ended(&mut self, error: Option<ApiError>) {
        let after = self.arrived.elapsed();
        self.end = Some(End { after, error });
    }

    /// The record. A call that is dropped before its end was cancelled by its client.
    pub(super) fn into_record(self) -> CallRecord {
        let spec = &self.target.spec;
        let end = self.end.unwrap_or_else(|| End {
            after: self.arrived.elapsed(),
            error: Some(ErrorCode::ClientCancelled.into()),
        });
        let own = self.status.map(|status| status.as_u16());
        let (status, error) = match (&end.error, own) {
            (Some(error), _) => (state(error), Some(error.message().to_owned())),
            (None, Some(own @ 500..)) => (CallState::Error, Some(answered_with(own))),
            (None, _) => (CallState::Success, None),
        };
        let failed = match &end.error {
            Some(error) => Fault::of(error).uses_attempt(),
            None => status == CallState::Error,
        };
        CallRecord {
            id: self.id,
            status,
            kind: CallKind::Sync,
            app_id: spec.app_id.clone(),
            fn_id: spec.fn_id.clone(),
            trigger_id: self.target.trigger_id.clone(),
            path: match self.source {
                Some(source) => source.into(),
                None => format!("/invoke/{}", spec.fn_id),
            },
            method: self.method.as_str().to_owned(),
            url: self.url,
            image: spec.image.clone(),
            priority: 0,
            tags: BTreeMap::new(),
            attempts: u32::from(failed),
            max_attempts: 1,
            epoch: 0,
            reason: None,
            error,
            origin_id: None,
            callback_url: None,
            runner_id: None,
            result_status: own,
            created_at: self.created_at,
            due_at: Timestamp::UNSET,
            expires_at: Timestamp::UNSET,
            started_at: self
                .waited
                .map_or(Timestamp::UNSET, |waited| after(self.created_at, waited)),
            completed_at: after(self.created_at, end.after),
        }
    }
}

fn state(error: &ApiError) -> CallState {
    match error.code() {
        ErrorCode::CallTimeout => CallState::Timeout,
        ErrorCode::ClientCancelled => CallState::Cancelled,
        _ => CallState::Error,
    }
}

fn answered_with(status: u16) -> String {
    format!("the function answered with status {status}")
}

fn after(at: Timestamp, passed: Duration) -> Timestamp {
    let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_millis(at.unix_millis().saturating_add(passed))
}
