//! An API with a function, and a runner that does what a test says.

use std::time::Duration;

use api_node::calls::CallsSettings;
use bytes::Bytes;
use domain::call::{AttemptEnd, AttemptOutcome, CallHeaders, CallResult, Fault, LeasedCall};
use hybrid_client::{Dequeue, LogChunk, Work, WorkSource as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::Api;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const RUNNER: &str = "r1";

/// An API that keeps calls, with the app `a` and its function `f`.
pub(super) struct Node {
    pub(super) api: Api,
    pub(super) app: String,
    pub(super) func: String,
}

impl Node {
    pub(super) async fn start() -> Self {
        Self::start_with(None, CallsSettings::default()).await
    }

    pub(super) async fn start_with(url: Option<&str>, settings: CallsSettings) -> Self {
        let api = Api::keeping_calls(url, settings).await;
        let app = api.app("a").await;
        let func = api.func(&app, "f").await;
        Self { api, app, func }
    }

    /// Hands in a call of `f`; answers its id.
    pub(super) async fn submit(&self, draft: Value) -> String {
        self.submit_to(&self.func, draft).await
    }

    pub(super) async fn submit_to(&self, func: &str, draft: Value) -> String {
        let path = format!("/v2/fns/{func}/calls");
        let answer = self.api.post(&path, &draft).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let body: Value = serde_json::from_str(&answer.text).expect("JSON");
        body["call_id"].as_str().expect("an id").to_owned()
    }

    pub(super) async fn show(&self, id: &str) -> Value {
        self.api.get(&format!("/v2/calls/{id}")).await.json()
    }

    /// A runner that takes one call after the other.
    pub(super) async fn runner(&self) -> Runner<'_> {
        let dequeue = self.api.calls().dequeue(RUNNER.into(), 4).await;
        Runner {
            node: self,
            dequeue: dequeue.expect("an API node"),
        }
    }

    /// A call that was given up, because its function can never run.
    pub(super) async fn dead(&self, draft: Value) -> String {
        let id = self.submit(draft).await;
        let mut runner = self.runner().await;
        let call = runner.take().await;
        assert_eq!(call.lease.call_id.as_str(), id);
        let outcome = AttemptOutcome::Failed {
            fault: Fault::Permanent,
            crashed: false,
            retry_after: None,
            error: "no such image".to_owned(),
        };
        runner.finish(&call, outcome).await;
        id
    }
}

pub(super) struct Runner<'a> {
    node: &'a Node,
    pub(super) dequeue: Dequeue,
}

impl Runner<'_> {
    /// Waits for a call, and starts it.
    pub(super) async fn take(&mut self) -> LeasedCall {
        self.dequeue.credits.send(1).await.expect("an API node");
        let work = timeout(PATIENCE, self.dequeue.work.recv()).await;
        let call = match work.expect("work in time") {
            Some(Work::Run(call)) => Some(call),
            _ => None,
        };
        let call = call.expect("a call");
        let calls = self.node.api.calls();
        let started = calls.start(RUNNER, call.lease.clone()).await;
        started.expect("the lease holds");
        *call
    }

    pub(super) async fn print(&self, call: &LeasedCall, offset: u64, text: &'static str) {
        let chunk = LogChunk {
            lease: call.lease.clone(),
            offset,
            data: Bytes::from(text),
        };
        let calls = self.node.api.calls();
        let appended = calls.append_logs(RUNNER, vec![chunk]).await;
        appended.expect("a store of logs");
    }

    pub(super) async fn finish(&self, call: &LeasedCall, outcome: AttemptOutcome) {
        let end = AttemptEnd {
            lease: call.lease.clone(),
            outcome,
        };
        let told = self.node.api.calls().finish(RUNNER, end).await;
        assert!(told.expect("a store"), "the lease holds");
    }

    pub(super) async fn answer(&self, call: &LeasedCall, result: CallResult) {
        let outcome = AttemptOutcome::Answered {
            status: result.status,
            retry_after: None,
            result,
        };
        self.finish(call, outcome).await;
    }
}

pub(super) fn result(status: u16, headers: &[(&str, &str)], body: &'static str) -> CallResult {
    let mut kept = CallHeaders::default();
    for (name, value) in headers {
        kept.push(name, value.as_bytes());
    }
    CallResult {
        status,
        headers: kept,
        body: Bytes::from(body),
        truncated: false,
    }
}

/// The ids of the items of a list.
#[track_caller]
pub(super) fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items");
    let id = |item: &Value| item["id"].as_str().expect("an id").to_owned();
    items.iter().map(id).collect()
}

/// A call without anything special.
pub(super) fn plain() -> Value {
    json!({"payload": "in"})
}
