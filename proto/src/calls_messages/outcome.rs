//! What came of attempts.

use std::time::Duration;

use domain::call::{AttemptEnd, AttemptOutcome, CallResult, Fault};

use super::answer::{cut, result_in, result_message, status_of};
use super::field::{Malformed, duration_ms, present, text};
use super::leased::{lease_in, lease_message};
use crate::calls::finish_call_request::Outcome;
use crate::calls::{Answered, Failed, FinishCallRequest, Returned, failed};

/// `end`, as the runner `runner_id` reports it. Of the output there are at most `max_body` bytes:
/// a report that no API node takes would have the call run again for ever.
pub fn finish_message(runner_id: &str, end: &AttemptEnd, max_body: usize) -> FinishCallRequest {
    let outcome = match &end.outcome {
        AttemptOutcome::Answered {
            status,
            retry_after,
            result,
        } => {
            let (body, is_longer) = cut(&result.body, max_body);
            let result = CallResult {
                body,
                truncated: result.truncated || is_longer,
                ..result.clone()
            };
            Outcome::Answered(Answered {
                status: (*status).into(),
                retry_after_ms: retry_after.map(duration_ms),
                result: Some(result_message(&result)),
            })
        }
        AttemptOutcome::Failed {
            fault,
            crashed,
            retry_after,
            error,
        } => Outcome::Failed(Failed {
            fault: fault_message(*fault).into(),
            crashed: *crashed,
            retry_after_ms: retry_after.map(duration_ms),
            error: error.clone(),
        }),
        AttemptOutcome::Returned => Outcome::Returned(Returned {}),
    };
    FinishCallRequest {
        runner_id: runner_id.to_owned(),
        lease: Some(lease_message(&end.lease)),
        outcome: Some(outcome),
    }
}

/// What a report says; its runner's id is the caller's to look at.
///
/// # Errors
/// A field is missing or not what it must be.
pub fn finish_of(message: FinishCallRequest) -> Result<AttemptEnd, Malformed> {
    let lease = lease_in(message.lease)?;
    let outcome = match present("outcome", message.outcome)? {
        Outcome::Answered(answered) => AttemptOutcome::Answered {
            status: status_of("answered.status", answered.status)?,
            retry_after: answered.retry_after_ms.map(Duration::from_millis),
            result: result_in(answered.result, "answered")?,
        },
        Outcome::Failed(failed) => {
            let fault = fault_of(failed.fault());
            text("failed.error", &failed.error)?;
            AttemptOutcome::Failed {
                fault: present("failed.fault", fault)?,
                crashed: failed.crashed,
                retry_after: failed.retry_after_ms.map(Duration::from_millis),
                error: failed.error,
            }
        }
        Outcome::Returned(Returned {}) => AttemptOutcome::Returned,
    };
    Ok(AttemptEnd { lease, outcome })
}

fn fault_message(fault: Fault) -> failed::Fault {
    match fault {
        Fault::Function => failed::Fault::Function,
        Fault::Timeout => failed::Fault::Timeout,
        Fault::Platform => failed::Fault::Platform,
        Fault::Permanent => failed::Fault::Permanent,
    }
}

fn fault_of(message: failed::Fault) -> Option<Fault> {
    match message {
        failed::Fault::Unspecified => None,
        failed::Fault::Function => Some(Fault::Function),
        failed::Fault::Timeout => Some(Fault::Timeout),
        failed::Fault::Platform => Some(Fault::Platform),
        failed::Fault::Permanent => Some(Fault::Permanent),
    }
}
