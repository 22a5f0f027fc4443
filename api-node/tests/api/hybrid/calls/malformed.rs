//! Requests that no client of ours sends: every refusal names its field, and nothing is done.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use proto::calls::calls_client::CallsClient;
use proto::calls::dequeue_request::What;
use proto::calls::finish_call_request::Outcome;
use proto::calls::{
    AppendLogsRequest, BeginKeyedRequest, CallResult, DequeueHello, DequeueRequest,
    EndKeyedRequest, EnqueueRequest, FinishCallRequest, Lease, LeasesRequest, LogChunk,
    RecordCallsRequest, Returned,
};
use proto::calls_messages::MAX_ITEMS;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::super::DEADLINE;
use super::node::CallsNode;
use super::script::Script;
use super::{RUNNER, new_call};

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<Response<T>, Status>, field: &str) {
    let status = result.expect_err("must be refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let named = status.message().starts_with(&format!("{field}:"));
    assert!(named, "{field}: {status:?}");
}

fn lease() -> Lease {
    Lease {
        call_id: "c".to_owned(),
        epoch: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_front_doors() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let mut client = node.client();
    for json in ["", "{", "{}"] {
        let request = EnqueueRequest {
            json: json.into(),
            body: Bytes::new(),
        };
        refused(client.enqueue(request).await, "json");
    }
    let nameless = serde_json::to_vec(&new_call("", "")).expect("json");
    let request = EnqueueRequest {
        json: nameless.into(),
        body: Bytes::new(),
    };
    refused(client.enqueue(request).await, "json.id");

    let records = |json: Vec<Bytes>| RecordCallsRequest { json };
    let request = records(vec![Bytes::from_static(b"{}")]);
    refused(client.record_calls(request).await, "json");
    let request = records(vec![Bytes::new(); MAX_ITEMS + 1]);
    refused(client.record_calls(request).await, "json");

    let begin = BeginKeyedRequest {
        fn_id: "f".to_owned(),
        key: String::new(),
        fingerprint: Bytes::from_static(b"x"),
        call_id: "c".to_owned(),
        hold_ms: 1,
    };
    refused(client.begin_keyed(begin).await, "key");

    let end = |fn_id: &str, key: &str, call_id: &str, status: u32| EndKeyedRequest {
        fn_id: fn_id.to_owned(),
        key: key.to_owned(),
        call_id: call_id.to_owned(),
        result: Some(CallResult {
            status,
            ..CallResult::default()
        }),
    };
    for (request, field) in [
        (end("", "k", "c", 200), "fn_id"),
        (end("f", "", "c", 200), "key"),
        (end("f", "k", "", 200), "call_id"),
        (end("f", "k", "c", 0), "status"),
    ] {
        refused(client.end_keyed(request).await, field);
    }
    let state = script.state();
    assert!(state.accepted.is_empty() && state.records.is_empty() && state.keys.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_runners() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let mut client = node.client();
    let leases = |runner_id: &str, leases: Vec<Lease>| LeasesRequest {
        runner_id: runner_id.to_owned(),
        leases,
    };
    let wrong = Lease {
        epoch: 0,
        ..lease()
    };
    for (request, field) in [
        (leases("", vec![lease()]), "runner_id"),
        (leases("a b", vec![lease()]), "runner_id"),
        (leases(RUNNER, vec![wrong]), "leases.epoch"),
        (leases(RUNNER, vec![Lease::default()]), "leases.call_id"),
        (leases(RUNNER, vec![lease(); MAX_ITEMS + 1]), "leases"),
    ] {
        refused(client.start_calls(request.clone()).await, field);
        refused(client.renew_calls(request).await, field);
    }

    let finish = |runner_id: &str, lease, outcome| FinishCallRequest {
        runner_id: runner_id.to_owned(),
        lease,
        outcome,
    };
    let returned = Some(Outcome::Returned(Returned {}));
    for (request, field) in [
        (finish("", Some(lease()), returned.clone()), "runner_id"),
        (finish(RUNNER, None, returned), "lease"),
        (finish(RUNNER, Some(lease()), None), "outcome"),
    ] {
        refused(client.finish_call(request).await, field);
    }

    let chunk = LogChunk {
        lease: Some(lease()),
        offset: 0,
        data: Bytes::new(),
    };
    let logs = |runner_id: &str, chunks| AppendLogsRequest {
        runner_id: runner_id.to_owned(),
        chunks,
    };
    for (request, field) in [
        (logs("\u{e4}", vec![chunk.clone()]), "runner_id"),
        (logs(RUNNER, vec![LogChunk::default()]), "chunks.lease"),
        (logs(RUNNER, vec![chunk; MAX_ITEMS + 1]), "chunks"),
    ] {
        refused(client.append_logs(request).await, field);
    }
    let state = script.state();
    assert!(state.started.is_empty() && state.finished.is_empty() && state.logs.is_empty());
}

fn hello(runner_id: &str, capacity: u32) -> DequeueRequest {
    let runner_id = runner_id.to_owned();
    DequeueRequest {
        what: Some(What::Hello(DequeueHello {
            runner_id,
            capacity,
        })),
    }
}

fn credits(credits: u32) -> DequeueRequest {
    DequeueRequest {
        what: Some(What::Credits(credits)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_words() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let mut client = node.client();
    let rows: [(Vec<DequeueRequest>, &str); 6] = [
        (vec![], "hello"),
        (vec![DequeueRequest { what: None }], "hello"),
        (vec![credits(1)], "hello"),
        (vec![hello("", 1)], "runner_id"),
        (vec![hello("a b", 1)], "runner_id"),
        (vec![hello(RUNNER, 0)], "capacity"),
    ];
    for (requests, field) in rows {
        refused(client.dequeue(stream::iter(requests)).await, field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_says_nothing_is_not_waited_for() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    let silent = stream::pending::<DequeueRequest>();
    let opened = timeout(DEADLINE, node.client().dequeue(silent)).await;
    let status = opened.expect("in time").expect_err("refused");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

async fn ends_with(
    mut client: CallsClient<Channel>,
    script: &Script,
    words: &[DequeueRequest],
) -> Status {
    // The stream stays open: it is the API node that ends it.
    let (_open, rest) = mpsc::channel(1);
    let mut rest: mpsc::Receiver<DequeueRequest> = rest;
    let first = stream::iter(vec![hello(RUNNER, 1)]);
    let words = first
        .chain(stream::iter(words.to_vec()))
        .chain(stream::poll_fn(move |context| rest.poll_recv(context)));
    let mut replies = client.dequeue(words).await.expect("open").into_inner();
    let mut source = script.opened().await;
    // It may take some, and must take the end.
    let credits = async { while source.credits.recv().await.is_some() {} };
    let (reply, ()) = timeout(DEADLINE, async { tokio::join!(replies.message(), credits) })
        .await
        .expect("in time");
    source.work.closed().await;
    reply.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn later_words() {
    let script = Script::new();
    let node = CallsNode::start(&script).await;
    for (words, field) in [
        (vec![credits(0)], "credits"),
        (vec![credits(1), hello(RUNNER, 1)], "hello"),
        (vec![credits(u32::MAX)], "credits"),
        (vec![credits(16_384), credits(1)], "credits"),
    ] {
        let status = ends_with(node.client(), &script, &words).await;
        refused::<()>(Err(status), field);
    }
}
