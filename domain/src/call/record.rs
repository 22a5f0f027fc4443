//! What is kept of a call, of its attempts, and of what came of it (spec/02 2.5).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::headers::CallHeaders;
use super::state::{CallKind, CallState, DeadReason, words};
use crate::id::{AppId, CallId, FnId, TriggerId};
use crate::timestamp::Timestamp;

/// A call. The names and shapes are those of spec/02 2.5 where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Call)]
pub struct CallRecord {
    /// Names it.
    pub id: CallId,
    /// How far it is.
    pub status: CallState,
    /// Who waits for it.
    #[serde(rename = "type")]
    pub kind: CallKind,
    /// The app.
    pub app_id: AppId,
    /// The function.
    pub fn_id: FnId,
    /// The trigger through which it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_id: Option<TriggerId>,
    /// The path that was called: `/invoke/<function>`, or the source of the trigger.
    pub path: String,
    /// The verb of its request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The URL of its request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The image that its function had when it was accepted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// 0 to 9; higher ones go first.
    pub priority: i32,
    /// Words of the client's, to find it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Attempts that ended through the function's fault.
    pub attempts: u32,
    /// How many are allowed.
    pub max_attempts: u32,
    /// The number of its last claim.
    pub epoch: i64,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Why its last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The call of which this is a repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_id: Option<CallId>,
    /// Where its outcome is posted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// The runner that holds its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<String>,
    /// The status of the function's answer, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_status: Option<u16>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it may run, if it is not over.
    #[serde(default, skip_serializing_if = "Timestamp::is_unset_ref")]
    pub due_at: Timestamp,
    /// When it is given up.
    #[serde(default, skip_serializing_if = "Timestamp::is_unset_ref")]
    pub expires_at: Timestamp,
    /// When its last execution began.
    #[serde(default, skip_serializing_if = "Timestamp::is_unset_ref")]
    pub started_at: Timestamp,
    /// When it got its final state.
    #[serde(default, skip_serializing_if = "Timestamp::is_unset_ref")]
    pub completed_at: Timestamp,
}

/// What a function answered to a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallResult {
    /// Its status: the function's own for a trigger, else 200.
    pub status: u16,
    /// Its headers, as the client would have got them.
    pub headers: CallHeaders,
    /// Its output, up to the limit of what is kept.
    pub body: Bytes,
    /// Whether the output was longer.
    pub truncated: bool,
}

words! {
    /// How an attempt went.
    AttemptState {
        /// A runner holds its lease.
        Running = "running",
        /// The function answered.
        Success = "success",
        /// It failed.
        Error = "error",
        /// It took too long.
        Timeout = "timeout",
        /// Its lease ran out: the function may have run in full or in part.
        LeaseLost = "lease_lost",
        /// The runner gave it back before the function saw it.
        Returned = "returned",
        /// Somebody cancelled the call.
        Cancelled = "cancelled",
    }
}

/// One claim of a call, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = CallAttempt)]
pub struct Attempt {
    /// The number of the claim, from 1.
    pub epoch: i64,
    /// How it went.
    pub status: AttemptState,
    /// The runner that had it.
    pub runner_id: String,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When the function began to run; unset if it did not.
    #[serde(default, skip_serializing_if = "Timestamp::is_unset_ref")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Timestamp::is_unset_ref")]
    pub ended_at: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The status of the function's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_status: Option<u16>,
}
