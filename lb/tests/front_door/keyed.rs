//! Idempotency keys of calls whose clients wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{ApiError, ErrorCode};
use http::Method;
use lb::CallLimits;
use lb::config::LbConfig;
use nodekit::body;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, Setup, answer, header_map, request};
use crate::plane::Plane;

const KEY: (&str, &str) = ("idempotency-key", "k");

/// A node whose function answers with the number of the run, when `gate` lets it.
struct Fixture {
    plane: Arc<Plane>,
    runs: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    node: Node,
}

impl Fixture {
    async fn new(setup: Setup) -> Self {
        let plane = Plane::new();
        let (runs, gate) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Semaphore::new(1000)),
        );
        let (counting, waiting) = (runs.clone(), gate.clone());
        let setup = Setup {
            calls: Some(plane.clone()),
            ..setup
        };
        let node = Node::set_up(setup, move |call| {
            let (runs, gate) = (counting.clone(), waiting.clone());
            Box::pin(async move {
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                let seen = |name| call.headers.contains_key(name);
                assert!(!seen("idempotency-key") && !seen("fn-http-h-idempotency-key"));
                gate.acquire().await.expect("never closed").forget();
                if call.headers.contains_key("x-fail") {
                    return Err(ApiError::from(ErrorCode::FunctionFailed));
                }
                let headers = [
                    ("content-type", "a/b"),
                    ("fn-http-status", "201"),
                    ("fn-http-h-x-out", "1"),
                ];
                Ok(answer(
                    header_map(&headers),
                    body::full(format!("run {run}")),
                ))
            })
        });
        Self {
            plane,
            runs,
            gate,
            node: node.await,
        }
    }

    /// Waits until so many runs have begun.
    async fn runs(&self, count: usize) {
        let begun = async {
            while self.runs.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, begun).await.expect("in time");
    }
}

/// So that the plane is asked about keys only.
fn without_records() -> Setup {
    Setup {
        config: LbConfig {
            record_sync_calls: false,
            ..LbConfig::default()
        },
        ..Setup::default()
    }
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer() {
    for (path, status) in [("/invoke/f", 200), ("/t/a/s?q", 201)] {
        let fixture = Fixture::new(Setup::default()).await;
        let first = fixture.node.post(path, &[KEY], "in").await;
        assert_eq!(
            (first.status.as_u16(), &*first.body),
            (status, &b"run 1"[..])
        );
        assert!(!first.headers.contains_key("idempotent-replayed"));
        let again = fixture.node.post(path, &[KEY], "in").await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.header("idempotent-replayed"), "true");
        let mut headers = again.headers.clone();
        headers.remove("idempotent-replayed");
        let mut expected = first.headers.clone();
        headers.remove("date");
        expected.remove("date");
        assert_eq!(headers, expected, "the call's id among them");
        fixture
            .node
            .post(path, &[KEY], "other")
            .await
            .assert_error(422, "Idempotency-Key was used with another request");
        assert_eq!(fixture.runs.load(Ordering::SeqCst), 1);
        let other = fixture.node.post(path, &[("idempotency-key", "l")], "in");
        assert_eq!(other.await.body, "run 2");
        // 360 s to be placed, 30 s to run, and 360 s to spare.
        assert_eq!(fixture.plane.hold("k"), Some(Duration::from_secs(750)));
    }
}

#[tokio::test]
async fn a_key_in_use_is_refused_and_a_client_that_went_away_finds_its_answer() {
    let fixture = Fixture::new(Setup::default()).await;
    fixture.gate.forget_permits(1000);
    let mut stream = TcpStream::connect(fixture.node.address)
        .await
        .expect("a listener");
    let head =
        "POST /invoke/f HTTP/1.1\r\nhost: h\r\nidempotency-key: k\r\ncontent-length: 2\r\n\r\nin";
    stream
        .write_all(head.as_bytes())
        .await
        .expect("a connection");
    fixture.runs(1).await;
    fixture
        .node
        .post("/invoke/f", &[KEY], "in")
        .await
        .assert_error(409, "A call with this Idempotency-Key is being made");
    drop(stream);
    fixture
        .node
        .wait_for_metric(r#"method="POST",status="444""#)
        .await;
    fixture.gate.add_permits(1);
    fixture.node.tasks.stop(PATIENCE).await;
    let again = fixture.node.post("/invoke/f", &[KEY], "in").await;
    assert_eq!(again.body, "run 1");
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(fixture.runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_without_an_answer_frees_its_key() {
    let fixture = Fixture::new(Setup::default()).await;
    for run in 1..=2 {
        let failed = fixture
            .node
            .post("/invoke/f", &[KEY, ("x-fail", "1")], "in")
            .await;
        failed.assert_error(502, "function failed");
        assert_eq!(fixture.runs.load(Ordering::SeqCst), run);
    }
    let made = fixture.node.post("/invoke/f", &[KEY], "other").await;
    assert_eq!(made.body, "run 3");
}

/// What cannot be kept is not run twice either.
#[tokio::test]
async fn an_answer_that_is_too_large_ends_the_key() {
    let kept = CallLimits {
        max_result: 4,
        ..CallLimits::default()
    };
    let setup = Setup {
        kept,
        ..Setup::default()
    };
    let fixture = Fixture::new(setup).await;
    let first = fixture.node.post("/invoke/f", &[KEY], "in").await;
    assert_eq!((first.status.as_u16(), &*first.body), (200, &b"run 1"[..]));
    let again = fixture.node.post("/invoke/f", &[KEY], "in").await;
    again.assert_error(
        409,
        "The call of this Idempotency-Key was made, and its answer was too large to be kept",
    );
    assert_eq!(fixture.runs.load(Ordering::SeqCst), 1);
    let kept = fixture.plane.kept("k").expect("an end");
    assert!(kept.truncated && kept.body.is_empty());
}

#[tokio::test]
async fn a_plane_that_is_away_stops_keyed_calls_and_no_others() {
    let fixture = Fixture::new(without_records()).await;
    fixture.plane.fail(&[ErrorCode::StoreUnavailable]);
    fixture
        .node
        .post("/invoke/f", &[KEY], "in")
        .await
        .assert_error(503, "Datastore unavailable");
    assert_eq!(fixture.runs.load(Ordering::SeqCst), 0);
    fixture.plane.be_silent(true);
    let other = fixture.node.post("/invoke/f", &[], "in").await;
    assert_eq!(other.status.as_u16(), 200);
}

#[tokio::test]
async fn an_answer_that_is_not_kept_at_once_is_kept_later() {
    let fixture = Fixture::new(without_records()).await;
    fixture.gate.forget_permits(1000);
    let posting = fixture.node.post("/invoke/f", &[KEY], "in");
    let failing = async {
        fixture.runs(1).await;
        fixture.plane.fail(&[ErrorCode::StoreUnavailable; 2]);
        fixture.gate.add_permits(1);
    };
    let (first, ()) = tokio::join!(posting, failing);
    assert_eq!(first.body, "run 1");
    fixture.node.tasks.stop(PATIENCE).await;
    assert!(fixture.plane.kept("k").is_some());
}

#[tokio::test]
async fn verbs_that_change_nothing_need_no_key() {
    let plane = Plane::new();
    let setup = Setup {
        calls: Some(plane.clone()),
        ..Setup::default()
    };
    let node = Node::set_up(setup, |call| {
        Box::pin(async move {
            assert_eq!(call.headers["fn-http-h-idempotency-key"], "k");
            Ok(answer(header_map(&[]), body::empty()))
        })
    })
    .await;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        let told = node.send(request(method, "/t/a/s", &[KEY], "")).await;
        assert_eq!(told.status.as_u16(), 200);
    }
    assert_eq!(plane.hold("k"), None);
    node.post("/t/a/s", &[("idempotency-key", "")], "")
        .await
        .assert_error(
            400,
            "Idempotency-Key must be 1 to 255 bytes without control characters",
        );
}
