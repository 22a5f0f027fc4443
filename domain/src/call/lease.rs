//! What passes between an API node and the runner that holds the lease of a call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::headers::CallHeaders;
use super::record::CallResult;
use crate::app::App;
use crate::func::Func;
use crate::id::CallId;
use crate::timestamp::Timestamp;

/// A claim: a call and the number that tells this claim of it from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseRef {
    /// The call.
    pub call_id: CallId,
    /// The number of the claim.
    pub epoch: i64,
}

impl fmt::Display for LeaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.call_id, self.epoch)
    }
}

/// The function and its app as they were when a call was accepted: its call runs with these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The app.
    pub app: App,
    /// The function.
    #[serde(rename = "fn")]
    pub func: Func,
}

/// A call that a runner has claimed, with all that it needs to run it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedCall {
    /// The claim.
    pub lease: LeaseRef,
    /// How long it holds from now unless it is renewed.
    pub lease_for: Duration,
    /// The number of this attempt, from 1, for the function (`Fn-Attempt`).
    pub attempt: u32,
    /// What runs.
    pub snapshot: Arc<Snapshot>,
    /// What the function sees of the request's headers.
    pub headers: CallHeaders,
    /// Its input.
    pub body: Bytes,
    /// When it was accepted.
    pub created_at: Timestamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptOutcome {
    /// The function answered. A status of 500 and above is its own failure.
    Answered {
        /// The function's own status, or 200.
        status: u16,
        /// How long it asks to be left alone (`Retry-After`).
        retry_after: Option<Duration>,
        /// The answer.
        result: CallResult,
    },
    /// There is no answer.
    Failed {
        /// Whose fault that is.
        fault: Fault,
        /// Whether its container died under it.
        crashed: bool,
        /// How long the function asks to be left alone.
        retry_after: Option<Duration>,
        /// What happened, for the call's record: a public text.
        error: String,
    },
    /// The runner gives it back; the function has not seen it.
    Returned,
}

impl AttemptOutcome {
    /// Why it failed, for the call's record.
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Answered { status, .. } if *status >= 500 => {
                Some(format!("the function answered with status {status}"))
            }
            Self::Failed { error, .. } => Some(error.clone()),
            _ => None,
        }
    }
}

/// The end of an attempt, as its runner reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptEnd {
    /// The claim.
    pub lease: LeaseRef,
    /// What came of it.
    pub outcome: AttemptOutcome,
}
