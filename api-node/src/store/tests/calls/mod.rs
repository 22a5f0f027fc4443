//! Calls: what every test of them starts with.

mod accepting;
mod cancelling;
mod dead_letters;
mod doorbells;
mod keys;
mod listing;
mod model;
mod plans;
mod races;
mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::call::lease::Snapshot;
use domain::call::{
    AttemptEnd, AttemptOutcome, CallHeaders, CallOptions, CallResult, Fault, LeaseRef, LeasedCall,
    NewCall,
};
use domain::{CallId, CallRecord, Func, IdSource};

use super::super::{Acceptance, Claimed, Committed, Ended};
use super::Fixture;

const RUNNER: &str = "runner-1";
const LEASE: Duration = Duration::from_secs(60);

/// The id of a call that comes in now.
fn new_id() -> CallId {
    static IDS: AtomicU64 = AtomicU64::new(0);
    let now = super::super::wall_clock()().unix_millis().unsigned_abs();
    let id = IdSource::new(IDS.fetch_add(1, Ordering::Relaxed)).next(now);
    CallId::from(id)
}

/// A function with its app, and ways to call it.
struct Target {
    func: Func,
    snapshot: Arc<Snapshot>,
}

impl Target {
    async fn new(f: &Fixture, name: &str) -> Self {
        let app = f.app(name).await;
        let func = f.func(&app, "f").await;
        let snapshot = Snapshot {
            app,
            func: func.clone(),
        };
        Self {
            func,
            snapshot: Arc::new(snapshot),
        }
    }

    fn acceptance(&self, options: CallOptions) -> Acceptance {
        let mut headers = CallHeaders::default();
        headers.push("content-type", b"text/plain");
        headers.push("x-any", b"\xff\x00");
        let call = NewCall {
            id: new_id(),
            fn_id: self.func.id.clone(),
            trigger_id: None,
            path: format!("/invoke/{}", self.func.id),
            method: "POST".to_owned(),
            url: "http://x/".to_owned(),
            headers,
            options,
            origin_id: None,
            body: Bytes::from_static(b"\x00body\xff"),
        };
        Acceptance {
            call,
            snapshot: Arc::clone(&self.snapshot),
            fingerprint: Bytes::from_static(b"print"),
        }
    }

    fn keyed(&self, key: &str) -> Acceptance {
        self.acceptance(CallOptions {
            idempotency_key: Some(key.to_owned()),
            ..CallOptions::default()
        })
    }

    async fn accept(&self, f: &Fixture, options: CallOptions) -> CallId {
        let committed = accept_one(f, self.acceptance(options)).await;
        committed.accepted.id
    }

    /// A call that `RUNNER` holds.
    async fn running(&self, f: &Fixture, options: CallOptions) -> LeaseRef {
        let id = self.accept(f, options).await;
        leased(claim_one(f, &id).await).lease
    }
}

async fn accept_one(f: &Fixture, acceptance: Acceptance) -> Committed {
    let mut answers = f.store.accept(vec![acceptance]).await.expect("an answer");
    answers.pop().expect("one").expect("accepted")
}

async fn claim_one(f: &Fixture, id: &CallId) -> Claimed {
    let ids = vec![id.clone()];
    let mut answers = f.store.claim(ids, RUNNER, LEASE).await.expect("an answer");
    answers.pop().expect("one")
}

#[track_caller]
fn leased(claimed: Claimed) -> LeasedCall {
    match claimed {
        Claimed::Leased(leased) => *leased,
        other => panic!("not leased: {other:?}"),
    }
}

async fn finish_one(f: &Fixture, lease: &LeaseRef, outcome: AttemptOutcome) -> Ended {
    let end = AttemptEnd {
        lease: lease.clone(),
        outcome,
    };
    let ends = vec![(end, RUNNER.to_owned())];
    let mut answers = f.store.finish(ends, 1).await.expect("an answer");
    answers.pop().expect("one")
}

async fn call(f: &Fixture, id: &CallId) -> CallRecord {
    f.store.call(id).await.expect("the call")
}

fn answer(status: u16) -> CallResult {
    let mut headers = CallHeaders::default();
    headers.push("x-answer", b"yes");
    CallResult {
        status,
        headers,
        body: Bytes::from_static(b"\x00answer\xff"),
        truncated: true,
    }
}

fn answered(status: u16) -> AttemptOutcome {
    AttemptOutcome::Answered {
        status,
        retry_after: None,
        result: answer(status),
    }
}

fn failed(fault: Fault) -> AttemptOutcome {
    AttemptOutcome::Failed {
        fault,
        crashed: false,
        retry_after: None,
        error: "it failed\0".to_owned(),
    }
}

fn attempts(max_attempts: u32) -> CallOptions {
    CallOptions {
        max_attempts: Some(max_attempts),
        ..CallOptions::default()
    }
}

/// The delay or the pause of a call is over.
async fn due_now(f: &Fixture, id: &CallId) {
    f.sql(&format!(
        "UPDATE calls SET due_at = 1 WHERE id = '{id}'; UPDATE doorbells SET due_at = 1 WHERE call_id = '{id}'"
    ))
    .await;
}
