//! A call on its way from a front door to a runner, and the answer on its way back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{ApiError, CallId, FnSpec, SlotKey, TriggerId};
use http::HeaderMap;

use crate::body::Body;

/// What a front door knows of a function: its specification and the key of its containers, made
/// once and shared by all calls.
#[derive(Debug)]
pub struct Target {
    /// The function.
    pub spec: Arc<FnSpec>,
    /// The key under which its calls share containers.
    pub slot_key: SlotKey,
    /// The trigger through which it was found.
    pub trigger_id: Option<TriggerId>,
}

impl Target {
    /// Computes the slot key of `spec`.
    pub fn new(spec: FnSpec) -> Arc<Self> {
        Self::through(None, spec)
    }

    /// The same, found through a trigger.
    pub fn through(trigger_id: Option<TriggerId>, spec: FnSpec) -> Arc<Self> {
        let slot_key = spec.slot_key();
        Arc::new(Self {
            spec: Arc::new(spec),
            slot_key,
            trigger_id,
        })
    }
}

/// A call to be run.
#[derive(Debug)]
pub struct CallRequest {
    /// Names the call.
    pub id: CallId,
    /// The function to call.
    pub target: Arc<Target>,
    /// The headers that the function will see, without hop-by-hop headers.
    pub headers: HeaderMap,
    /// The input.
    pub body: Body,
    /// When the call arrived at the platform.
    pub arrived: Instant,
    /// Until when the call may wait for a container; none waits as long as the caller does.
    pub wait_deadline: Option<Instant>,
    /// Answer as soon as the execution starts and discard the output. The body must not depend on
    /// the client's connection then.
    pub detached: bool,
}

/// How long the stages of a call took (spec/08 8.2). What did not happen is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallTimings {
    /// From arrival to the start of the execution.
    pub scheduling: Duration,
    /// Waiting for the image of the container that this call started.
    pub image_pull: Duration,
    /// Creating that container.
    pub container_create: Duration,
    /// From its start to its open socket.
    pub container_init: Duration,
    /// From the start of the execution to the head of the answer.
    pub execution: Duration,
}

/// The function's answer, after the rules of spec/03 3.1 were applied: the function handled the
/// call. Dropping the body before its end cancels the call.
#[derive(Debug)]
pub struct CallResponse {
    /// The function's headers, without hop-by-hop headers.
    pub headers: HeaderMap,
    /// The output; it ends with an error if the function dies, stalls or says too much.
    pub body: Body,
    /// The stages so far.
    pub timings: CallTimings,
}

/// The outcome of a call: the answer, or the error that the client gets.
pub type CallResult = Result<CallResponse, ApiError>;
