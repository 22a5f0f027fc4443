//! How a runner says it is (spec/07 7.6).

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::json;

use super::*;
use crate::driver::contract::eventually;
use crate::driver::fake::Step;

fn with_image(barrier: Option<&std::path::Path>) -> Settings {
    Settings {
        status_image: Some(STATUS_IMAGE.into()),
        network_barrier: barrier.map(Into::into),
        ..settings()
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

async fn ask(node: &Node, input: Struct) -> RunnerStatus {
    let status = soon(node.protocol().status2(input)).await;
    status.expect("a status").into_inner()
}

#[tokio::test]
async fn without_a_status_image_there_are_only_numbers() {
    let node = Node::new(1).await;
    assert_eq!(node.status().await, RunnerStatus::default());
    assert_eq!(ask(&node, Struct::default()).await, RunnerStatus::default());
    node.end().await;
}

#[tokio::test]
async fn the_status_image_gets_the_input_and_its_output_is_told() {
    let node = Node::with(1, with_image(None)).await;
    let list = ListValue {
        values: vec![
            value(Kind::NumberValue(1.0)),
            value(Kind::NumberValue(-0.5)),
            value(Kind::NullValue(0)),
            value(Kind::BoolValue(true)),
        ],
    };
    let inner = Struct {
        fields: [("text".to_owned(), value(Kind::StringValue("\"é".into())))].into(),
    };
    let input = Struct {
        fields: [
            ("list".to_owned(), value(Kind::ListValue(list))),
            ("inner".to_owned(), value(Kind::StructValue(inner))),
        ]
        .into(),
    };
    let status = ask(&node, input).await;
    let told: serde_json::Value = serde_json::from_str(&status.details).expect("JSON");
    let expected = json!({"list": [1, -0.5, null, true], "inner": {"text": "\"é"}});
    assert_eq!(told, expected);
    assert!(status.details.contains("[1,-0.5,"), "{}", status.details);
    assert!(!status.failed && !status.cached && !status.is_network_disabled);
    assert_eq!(status.id.len(), 26);
    assert!(!status.created_at.is_empty() && !status.completed_at.is_empty());
    assert!(status.scheduler_duration > 0 && status.execution_duration > 0);
    assert!(status.ctr_create_duration > 0 && status.init_start_time > 0);
    node.end().await;
}

/// spec/11: ExecuteRunnerStatusConcurrent.
#[tokio::test]
async fn all_who_ask_at_once_share_a_run_and_the_next_one_is_fresh() {
    let node = Node::with(1, with_image(None)).await;
    let asking = (0..10).map(|_| {
        let mut client = node.protocol();
        tokio::spawn(async move { client.status(()).await.expect("a status").into_inner() })
    });
    let mut told = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        told.push(soon(asked).await.expect("no panic"));
    }
    assert_eq!(told.iter().filter(|status| !status.cached).count(), 1);
    let first = told[0].id.clone();
    assert!(
        told.iter()
            .all(|status| status.id == first && status.details == "{}")
    );
    eventually("a fresh run", async || node.status().await.id != first).await;
    assert_eq!(node.bench.driver.state().created, 2, "in a fresh container");
    node.end().await;
}

#[tokio::test]
async fn the_run_goes_on_when_its_caller_goes_away() {
    let node = Node::with(1, with_image(None)).await;
    let gate = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    node.bench.script(|script| {
        script.create = Arc::new(move |_| {
            opened.store(true, std::sync::atomic::Ordering::SeqCst);
            Step::Succeed(Duration::from_millis(50))
        });
    });
    let mut client = node.protocol();
    let asking = tokio::spawn(async move { client.status(()).await });
    eventually("it starts", async || {
        gate.load(std::sync::atomic::Ordering::SeqCst)
    })
    .await;
    asking.abort();
    let status = node.status().await;
    assert!(status.cached && !status.failed);
    assert_eq!(node.bench.driver.state().created, 1);
    node.end().await;
}

#[tokio::test]
async fn a_run_that_fails_is_told_with_its_error() {
    let node = Node::with(1, with_image(None)).await;
    node.bench.script(|script| {
        let error = domain::ApiError::from(domain::ErrorCode::ImagePullFailed);
        script.prepare_image = Arc::new(move |_| Step::Fail(Duration::ZERO, error.clone()));
    });
    let status = node.status().await;
    assert!(status.failed);
    assert_eq!(
        (status.error_code, status.error_str.as_str()),
        (502, "Failed to pull image")
    );
    assert_eq!(status.started_at, "");
    node.end().await;
}

/// spec/11: StatusNoNet.
#[tokio::test]
async fn the_network_comes_with_the_barrier_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let barrier = directory.path().join("barrier");
    let node = Node::with(1, with_image(Some(&barrier))).await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    node.bench.script(|script| {
        script.create = Arc::new(move |spec| {
            noted.lock().expect("no panic").push(spec.network_disabled);
            Step::OK
        });
    });
    assert!(node.status().await.is_network_disabled);
    assert!(
        node.call(try_call("f", "1", "echo"), &[])
            .await
            .finished
            .success
    );
    std::fs::write(&barrier, "").expect("written");
    eventually("the barrier is seen", async || {
        !node.status().await.is_network_disabled
    })
    .await;
    assert_eq!(*seen.lock().expect("no panic"), [true, false, false]);
    node.end().await;
}
