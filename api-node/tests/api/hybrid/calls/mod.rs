//! The calls service and its client over real connections, in front of a scripted source of work.

mod crowd;
mod dequeues;
mod failover;
mod large;
mod malformed;
mod node;
mod questions;
pub(super) mod script;
mod strange_node;

use std::sync::Arc;

use bytes::Bytes;
use domain::call::lease::Snapshot;
use domain::call::{
    AttemptEnd, AttemptOutcome, CallHeaders, CallOptions, CallResult, LeaseRef, LeasedCall, NewCall,
};
use domain::{CallId, FnId, Timestamp};
use std::time::Duration;

const RUNNER: &str = "runner-1/01";

fn lease(call: &str, epoch: i64) -> LeaseRef {
    LeaseRef {
        call_id: CallId::from(call),
        epoch,
    }
}

fn headers() -> CallHeaders {
    let mut headers = CallHeaders::default();
    headers.push("X-One", b"\xff\x80");
    headers.push("x-one", b"");
    headers
}

fn new_call(id: &str, body: impl Into<Bytes>) -> NewCall {
    NewCall {
        id: CallId::from(id),
        fn_id: FnId::from("f"),
        trigger_id: None,
        path: "/invoke/f".to_owned(),
        method: "POST".to_owned(),
        url: "/invoke/f?a".to_owned(),
        headers: headers(),
        options: CallOptions::default(),
        origin_id: None,
        body: body.into(),
    }
}

fn snapshot() -> Snapshot {
    let at = "2024-01-02T03:04:05.678Z";
    let document = serde_json::json!({
        "app": {"id": "a", "name": "app", "created_at": at, "updated_at": at},
        "fn": {"id": "f", "name": "fn", "app_id": "a", "image": "i:1", "memory": 128,
            "timeout": 30, "idle_timeout": 30, "created_at": at, "updated_at": at},
    });
    serde_json::from_value(document).expect("a snapshot")
}

fn leased_call(lease: LeaseRef, body: impl Into<Bytes>) -> LeasedCall {
    LeasedCall {
        lease,
        lease_for: Duration::from_secs(10),
        attempt: 2,
        snapshot: Arc::new(snapshot()),
        headers: headers(),
        body: body.into(),
        created_at: Timestamp::from_unix_millis(1_700_000_000_123),
    }
}

fn answered(lease: LeaseRef, body: impl Into<Bytes>) -> AttemptEnd {
    AttemptEnd {
        lease,
        outcome: AttemptOutcome::Answered {
            status: 200,
            retry_after: None,
            result: CallResult {
                status: 200,
                headers: headers(),
                body: body.into(),
                truncated: false,
            },
        },
    }
}
