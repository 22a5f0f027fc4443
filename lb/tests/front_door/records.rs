//! Records of calls whose clients wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{ApiError, CallKind, CallRecord, CallState, ErrorCode};
use http_body_util::Channel;
use lb::config::LbConfig;
use nodekit::body::{self, BodyError};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, Setup, answer, header_map, request};
use crate::plane::Plane;

/// A node that records, and whose function does as `x-want` says.
async fn node(plane: &Arc<Plane>) -> Node {
    let setup = Setup {
        calls: Some(plane.clone()),
        ..Setup::default()
    };
    Node::set_up(setup, |call| {
        Box::pin(async move {
            let want = ["x-want", "fn-http-h-x-want"]
                .iter()
                .find_map(|name| call.headers.get(*name));
            let want = want.map(|want| want.to_str().expect("ASCII").to_owned());
            match want.as_deref() {
                None => Ok(answer(header_map(&[]), body::full("output"))),
                Some("empty") => Ok(answer(header_map(&[]), body::empty())),
                Some("500") => {
                    let headers = header_map(&[("fn-http-status", "500")]);
                    Ok(answer(headers, body::full("output")))
                }
                Some(name) => {
                    let code = ErrorCode::named(name).expect("a code");
                    Err(ApiError::from(code).detail("from the inside"))
                }
            }
        })
    })
    .await
}

async fn record_of(plane: &Plane, nth: usize) -> CallRecord {
    plane.records(nth).await.remove(nth - 1)
}

#[tokio::test]
async fn each_end_of_a_call_leaves_its_record() {
    let plane = Plane::new();
    let node = node(&plane).await;
    let mut nth = 0;
    for (path, want, state, error, status, attempts) in [
        ("/invoke/f", "", CallState::Success, None, Some(200), 0),
        ("/invoke/f", "empty", CallState::Success, None, Some(200), 0),
        ("/t/a/s", "", CallState::Success, None, Some(200), 0),
        (
            "/t/a/s",
            "500",
            CallState::Error,
            Some("the function answered with status 500"),
            Some(500),
            1,
        ),
        (
            "/invoke/f",
            "500",
            CallState::Error,
            Some("the function answered with status 500"),
            Some(500),
            1,
        ),
        (
            "/invoke/f",
            "FunctionFailed",
            CallState::Error,
            Some("function failed"),
            None,
            1,
        ),
        (
            "/t/a/s",
            "CallTimeout",
            CallState::Timeout,
            Some("Timed out"),
            None,
            1,
        ),
        (
            "/invoke/f",
            "ServerBusy",
            CallState::Error,
            Some("Timed out - server too busy"),
            None,
            0,
        ),
    ] {
        nth += 1;
        let headers = [("host", "h"), ("x-want", want)];
        let headers = if want.is_empty() {
            &headers[..1]
        } else {
            &headers[..]
        };
        let told = node.post(path, headers, "in").await;
        let record = record_of(&plane, nth).await;
        assert_eq!(record.id.as_str(), told.header("fn-call-id"), "{want}");
        assert_eq!((record.status, record.kind), (state, CallKind::Sync));
        assert_eq!(record.error.as_deref(), error, "{want}");
        assert_eq!((record.result_status, record.attempts), (status, attempts));
        assert_eq!(record.max_attempts, 1);
        assert_eq!(
            (record.app_id.as_str(), record.fn_id.as_str()),
            ("app", "f")
        );
        let trigger = record.trigger_id.as_ref().map(|id| id.as_str());
        let expected = match path {
            "/invoke/f" => (None, "/invoke/f"),
            _ => (Some("/s"), "/s"),
        };
        assert_eq!((trigger, &*record.path), expected);
        assert_eq!((&*record.method, &*record.image), ("POST", "x/y:1"));
        assert_eq!(record.url, format!("http://h{path}"));
        assert!(record.created_at.unix_millis() > 1_700_000_000_000);
        assert!(record.completed_at >= record.created_at);
        assert_eq!(record.started_at.is_unset(), status.is_none(), "{want}");
        if status.is_some() {
            let waited = record.started_at.unix_millis() - record.created_at.unix_millis();
            assert_eq!(waited, 1, "what the runner told");
        }
    }
    node.wait_for_metric(&format!("fn_lb_call_records {nth}"))
        .await;
}

#[tokio::test]
async fn a_call_is_not_over_before_its_output_is() {
    let plane = Plane::new();
    let (outputs, mut output) = mpsc::channel(1);
    let setup = Setup {
        calls: Some(plane.clone()),
        ..Setup::default()
    };
    let node = Node::set_up(setup, move |_| {
        let outputs = outputs.clone();
        Box::pin(async move {
            let (sender, body) = Channel::<Bytes, BodyError>::new(1);
            outputs.send(sender).await.expect("the test waits");
            Ok(answer(
                header_map(&[("content-type", "a/b")]),
                body::stream(body),
            ))
        })
    })
    .await;
    for broken in [false, true] {
        let opening = node.open(request(http::Method::POST, "/invoke/f", &[], ""));
        let response = timeout(PATIENCE, opening).await.expect("a head in time");
        let sender = output.recv().await.expect("a call");
        match broken {
            false => drop(sender),
            true => sender.abort(ApiError::from(ErrorCode::ResponseBodyTooLarge).into()),
        }
        let (_, body) = response.into_parts();
        let end = timeout(PATIENCE, http_body_util::BodyExt::collect(body)).await;
        assert_eq!(end.expect("an end in time").is_err(), broken);
    }
    let records = plane.records(2).await;
    assert_eq!(records[0].status, CallState::Success);
    assert_eq!(records[1].status, CallState::Error);
    let error = records[1].error.as_deref();
    assert_eq!(error, Some("function response body too large"));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_cancelled_call() {
    let plane = Plane::new();
    let started = Arc::new(Semaphore::new(0));
    let starts = started.clone();
    let setup = Setup {
        calls: Some(plane.clone()),
        ..Setup::default()
    };
    let node = Node::set_up(setup, move |_| {
        starts.add_permits(1);
        Box::pin(std::future::pending())
    })
    .await;
    let mut stream = TcpStream::connect(node.address).await.expect("a listener");
    stream
        .write_all(b"POST /invoke/f HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
        .await
        .expect("a connection");
    let permit = timeout(PATIENCE, started.acquire()).await.expect("in time");
    permit.expect("never closed").forget();
    drop(stream);
    assert_eq!(record_of(&plane, 1).await.status, CallState::Cancelled);
}

/// Nor does it lose what fits into the buffer.
#[tokio::test]
async fn a_plane_that_is_away_slows_no_call() {
    let plane = Plane::new();
    let node = node(&plane).await;
    plane.be_silent(true);
    for _ in 0..20 {
        let told = node.post("/invoke/f", &[], "").await;
        assert_eq!(told.status.as_u16(), 200);
    }
    plane.fail(&[ErrorCode::StoreUnavailable; 2]);
    plane.be_silent(false);
    assert_eq!(plane.records(20).await.len(), 20);
    node.wait_for_metric("fn_lb_call_records_dropped 0").await;
}

#[tokio::test]
async fn the_end_of_a_node_sends_what_is_left_or_counts_it() {
    let plane = Plane::new();
    let mut node = node(&plane).await;
    node.post("/invoke/f", &[], "").await;
    let task = node.recorder.take().expect("a recorder");
    task.stop(PATIENCE).await;
    assert_eq!(plane.records(1).await.len(), 1);

    let mut node = self::node(&plane).await;
    plane.be_silent(true);
    for _ in 0..3 {
        node.post("/invoke/f", &[], "").await;
    }
    let task = node.recorder.take().expect("a recorder");
    task.stop(Duration::from_millis(1)).await;
    node.wait_for_metric("fn_lb_call_records_dropped 3").await;
}

#[tokio::test]
async fn records_can_be_turned_off() {
    let plane = Plane::new();
    let setup = Setup {
        calls: Some(plane.clone()),
        config: LbConfig {
            record_sync_calls: false,
            ..LbConfig::default()
        },
        ..Setup::default()
    };
    let node = Node::set_up(setup, |_| {
        Box::pin(async { Ok(answer(header_map(&[]), body::empty())) })
    })
    .await;
    assert_eq!(node.post("/invoke/f", &[], "").await.status.as_u16(), 200);
    assert!(node.recorder.is_none());
}
