//! Every flow and every error of one call (spec/08 8.4).

use std::time::Duration;

use domain::{MilliCpus, Timestamp};
use proto::call_json::CallJson;
use proto::engage_extensions::{EARLY_ANSWER, MAX_WAIT_MILLIS};
use proto::runner::client_msg;
use proto::runner::{DataFrame, TryCall};
use tonic::Code;

use super::*;
use crate::driver::contract::eventually;

#[tokio::test]
async fn a_call_is_answered_with_head_output_and_account() {
    let node = Node::new(1).await;
    let before = node.status().await;
    let answer = node
        .call(try_call("f", "call-1", "echo"), &[b"in ", b"put"])
        .await;
    assert_eq!(answer.head.as_ref().expect("a head").status_code, 200);
    assert_eq!(answer.output, b"in put");
    assert_eq!(answer.header("content-length"), Some("6"));
    let cold = answer.finished;
    assert!(cold.success);
    assert_eq!(
        (cold.error_code, cold.error_str.as_str(), cold.error_user),
        (0, "", false)
    );
    assert_eq!(
        (cold.details.as_str(), cold.image.as_str()),
        ("call-1", "image")
    );
    let time = |text: &str| {
        assert_eq!(text.len(), "2019-03-01T10:00:00.007Z".len(), "{text}");
        Timestamp::parse(text).expect("a time").unix_millis()
    };
    let times = [&cold.created_at, &cold.started_at, &cold.completed_at].map(|at| time(at));
    assert!(
        times.is_sorted() && times[2] - times[0] < 60_000,
        "{times:?}"
    );
    assert!(cold.ctr_prep_duration > 0);
    assert!(cold.ctr_create_duration > 0);
    assert!(cold.init_start_time > 0);
    assert!(cold.execution_duration > 0);
    let start = cold.image_pull_wait_duration + cold.ctr_create_duration + cold.init_start_time;
    assert!(cold.scheduler_duration >= start, "{cold:?}");

    let warm = node
        .call(try_call("f", "call-2", "echo"), &[])
        .await
        .finished;
    let start = [
        warm.ctr_prep_duration,
        warm.image_pull_wait_duration,
        warm.ctr_create_duration,
        warm.init_start_time,
    ];
    assert_eq!(start, [0; 4]);
    assert!(warm.scheduler_duration > 0);

    let after = node.status().await;
    assert_eq!(after.active, 0);
    assert_eq!(after.requests_received - before.requests_received, 2);
    assert_eq!(after.requests_handled - before.requests_handled, 2);
    node.end().await;
}

#[tokio::test]
async fn output_comes_in_pieces_of_at_most_ten_kibibytes() {
    let node = Node::new(1).await;
    for length in [0, 1, 10_240, 10_241, 300_000] {
        let mut peer = node.begin(try_call("f", &length.to_string(), "echo")).await;
        let input: Vec<u8> = (0..length).map(|n: u32| n as u8).collect();
        for piece in input.chunks(10_240) {
            peer.data(piece.to_vec(), false).await;
        }
        peer.data("", true).await;
        let answer = peer.answer().await;
        assert!(answer.output == input, "{length}");
        assert!(
            answer
                .pieces
                .iter()
                .all(|piece| (1..=10_240).contains(piece))
        );
    }
    node.end().await;
}

#[tokio::test]
async fn the_last_piece_may_hold_data_and_nothing_after_it_is_read() {
    let node = Node::new(1).await;
    let mut peer = node.begin(try_call("f", "1", "wait")).await;
    peer.data("first,", false).await;
    peer.data("last", true).await;
    node.bench.seen("1").await;
    peer.data("more", false).await;
    peer.send(client_msg::Body::Try(TryCall::default())).await;
    node.bench.world.release("1");
    assert_eq!(peer.answer().await.output, b"first,last");
    node.end().await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_call_breaks_the_protocol() {
    let node = Node::new(1).await;
    let mut wrong = node.open().await;
    wrong.data("x", true).await;
    let mut empty = node.open().await;
    empty.close();
    let mut nothing = node.open().await;
    let message = ClientMsg { body: None };
    let sender = nothing.send.as_ref().expect("open");
    sender.send(message).await.expect("sent");
    for peer in [&mut wrong, &mut empty, &mut nothing] {
        let status = peer.broken().await;
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.message(), "Protocol failure: expected ClientMsg_Try");
    }
    node.end().await;
}

#[tokio::test]
async fn an_input_without_its_last_piece_breaks_the_protocol_and_the_call() {
    let node = Node::new(1).await;
    for n in 0..3 {
        let mut peer = node.begin(try_call("f", &n.to_string(), "echo")).await;
        node.bench.seen(&n.to_string()).await;
        peer.data("half", false).await;
        match n {
            0 => peer.close(),
            1 => {
                peer.send(client_msg::Body::Try(try_call("f", "x", "")))
                    .await
            }
            _ => {
                let message = ClientMsg { body: None };
                peer.send
                    .as_ref()
                    .expect("open")
                    .send(message)
                    .await
                    .expect("sent");
            }
        }
        let status = peer.broken().await;
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(
            status.message(),
            "Protocol failure: expected ClientMsg_Data"
        );
    }
    assert_eq!(node.bench.metrics.completed.get(), 0);
    node.end().await;
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_in_the_account() {
    let node = Node::with(
        1,
        Settings {
            status_image: Some(STATUS_IMAGE.into()),
            ..settings()
        },
    )
    .await;
    let good = || document("f", "id", "echo");
    let change = |change: &dyn Fn(&mut CallJson)| {
        let mut call = good();
        change(&mut call);
        try_document(&call)
    };
    let hash = |hash: &str| TryCall {
        slot_hash_id: hash.into(),
        ..try_document(&good())
    };
    let cases: [(TryCall, i32, &str, &str); 10] = [
        (
            TryCall {
                models_call_json: "{".into(),
                ..TryCall::default()
            },
            500,
            "models_call_json: ",
            "",
        ),
        (
            TryCall {
                models_call_json: r#"{"id":"id","image":"i","timeout":"soon"}"#.into(),
                ..TryCall::default()
            },
            500,
            "models_call_json: ",
            "id",
        ),
        (
            change(&|call| call.image.clear()),
            400,
            "Missing image on Fn",
            "id",
        ),
        (
            change(&|call| call.image = STATUS_IMAGE.into()),
            400,
            "Invalid Fn image",
            "id",
        ),
        (
            change(&|call| call.timeout = u64::MAX),
            500,
            "models_call_json: timeout: too long",
            "id",
        ),
        (
            change(&|call| drop(call.headers.insert("a b".into(), vec!["c".into()]))),
            500,
            "models_call_json: headers: not the name of a header",
            "",
        ),
        (
            change(&|call| call.cpus = MilliCpus::new(1_000_000).expect("small")),
            400,
            "Requested CPU/Memory cannot be allocated",
            "id",
        ),
        (hash("0"), 500, "slot_hash_id: ", "id"),
        (hash("zz"), 500, "slot_hash_id: ", "id"),
        (
            with_extension(try_document(&good()), MAX_WAIT_MILLIS, "soon"),
            500,
            "extensions: hearth-max-wait-millis: ",
            "id",
        ),
    ];
    for (message, code, text, id) in cases {
        let shown = format!("{message:?}");
        let answer = node.call(message, &[]).await;
        assert!(answer.head.is_none(), "{shown}");
        assert_eq!(answer.error().0, code, "{shown}");
        assert!(
            answer.error().1.starts_with(text),
            "{shown}: {:?}",
            answer.finished
        );
        let finished = answer.finished;
        assert_eq!(finished.details, id, "{shown}");
        assert!(Timestamp::parse(&finished.created_at).is_some());
        assert_eq!(
            (finished.started_at.as_str(), finished.completed_at.as_str()),
            ("", "")
        );
    }
    assert_eq!(node.bench.driver.state().created, 0);
    node.end().await;
}

#[tokio::test]
async fn errors_of_functions_are_blamed_on_them() {
    let node = Node::new(1).await;
    let mut slow = document("slow", "slow", "hang");
    slow.timeout = 1;
    let cases = [
        (try_call("f", "1", "fail"), (502, "function failed", true)),
        (
            try_call("f", "2", "invalid"),
            (502, "invalid function response", true),
        ),
        (
            try_call("f", "3", "crash"),
            (502, "error receiving function response", true),
        ),
        (try_document(&slow), (504, "Timed out", true)),
    ];
    for (message, expected) in cases {
        let answer = node.call(message, &[b"input"]).await;
        assert_eq!(answer.error(), expected);
        assert!(answer.head.is_none());
        let finished = answer.finished;
        assert!(!finished.started_at.is_empty() && !finished.completed_at.is_empty());
        assert!(finished.scheduler_duration > 0 && finished.execution_duration > 0);
        if finished.error_code == 504 {
            assert!(finished.execution_duration >= 1_000_000_000, "{finished:?}");
        }
    }
    node.end().await;
}

#[tokio::test]
async fn an_answer_that_breaks_in_the_middle_says_so_at_its_end() {
    let node = Node::new(1).await;
    let mut peer = node.begin(try_call("f", "1", "stream")).await;
    peer.input(&[b"x"]).await;
    assert_eq!(peer.head().await.status_code, 200);
    let container = node.bench.world.container_of("1");
    node.bench.world.kill(&container);
    let answer = peer.answer().await;
    assert_eq!(answer.output, b"head,");
    assert_eq!(
        answer.error(),
        (502, "error receiving function response", true)
    );
    node.end().await;
}

#[tokio::test]
async fn a_live_answer_flows_while_the_call_runs() {
    let node = Node::new(1).await;
    let mut peer = node.begin(try_call("f", "1", "stream")).await;
    peer.input(&[]).await;
    peer.head().await;
    match peer.next().await.expect("no error") {
        Some(runner_msg::Body::Data(DataFrame { data, eof: false })) => assert_eq!(data, "head,"),
        other => panic!("no data: {other:?}"),
    }
    assert_eq!(node.status().await.active, 1);
    node.bench.world.release("1");
    let answer = peer.answer().await;
    assert_eq!(answer.output, b"tail");
    assert!(answer.finished.success);
    node.end().await;
}

/// spec/A: kept on the wire for old load balancers.
#[tokio::test]
async fn a_function_must_not_answer_before_it_has_its_input() {
    let node = Node::new(1).await;
    let mut peer = node.begin(try_call("f", "1", "early")).await;
    peer.data("half", false).await;
    let expected = "function invoked write before receiving entire request";
    let answer = peer.answer().await;
    assert_eq!(answer.error(), (502, expected, true));
    assert!(answer.head.is_none());

    let message = with_extension(try_call("f", "2", "early"), EARLY_ANSWER, "1");
    let mut peer = node.begin(message).await;
    peer.data("half", false).await;
    assert_eq!(peer.answer().await.output, b"early");
    node.end().await;
}

/// What a function leaves unread is no fault of it.
#[tokio::test]
async fn a_function_may_ignore_an_input_that_is_complete() {
    let node = Node::new(1).await;
    for n in 0..20 {
        let answer = node
            .call(try_call("f", &n.to_string(), "early"), &[b"input"])
            .await;
        assert_eq!(answer.output, b"early", "{:?}", answer.finished);
    }
    node.end().await;
}

#[tokio::test]
async fn a_function_that_closes_before_it_has_its_input_is_told_apart() {
    let node = Node::new(1).await;
    let mut peer = node.begin(try_call("f", "1", "vanish")).await;
    peer.data("half", false).await;
    let expected = "function closed pipe while receiving request";
    assert_eq!(peer.answer().await.error(), (502, expected, true));
    node.end().await;
}

#[tokio::test]
async fn a_runner_without_room_refuses_in_time() {
    let node = Node::new(1).await;
    let mut first = node.begin(try_call("f", "1", "wait")).await;
    first.input(&[]).await;
    node.bench.seen("1").await;
    let busy = (503, "Timed out - server too busy", false);

    let message = with_extension(try_call("f", "2", "echo"), MAX_WAIT_MILLIS, "20");
    assert_eq!(node.call(message, &[]).await.error(), busy);

    // Before the load balancer's own time is over, so that it hears of it.
    let mut peer = node.open_within(Duration::from_secs(3)).await;
    peer.send(client_msg::Body::Try(try_call("f", "3", "echo")))
        .await;
    assert_eq!(peer.answer().await.error(), busy);

    let status = node.status().await;
    assert_eq!((status.active, status.requests_received), (1, 3));
    assert_eq!(status.requests_handled, 0);
    node.bench.world.release("1");
    assert!(first.answer().await.finished.success);
    assert_eq!(node.status().await.requests_handled, 1);
    node.end().await;
}

#[tokio::test]
async fn calls_wait_no_longer_than_the_runner_wants() {
    let node = Node::with(
        1,
        Settings {
            max_wait: Some(Duration::from_millis(20)),
            ..settings()
        },
    )
    .await;
    node.bench.script(|script| {
        script.start = Arc::new(|_| crate::driver::fake::Step::Hang);
    });
    let answer = node.call(try_call("f", "1", "echo"), &[]).await;
    assert_eq!(answer.error().0, 503);
    node.end().await;
}

/// spec/08 8.4: as a number that is none of gRPC's.
#[tokio::test]
async fn a_stream_on_which_no_call_comes_is_refused() {
    let node = Node::new(1).await;
    let mut peer = node.open_within(Duration::from_secs(3)).await;
    let status = peer.broken().await;
    // What a client makes of a number that it does not know.
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(status.message(), "Timed out - server too busy");
    let status = node.status().await;
    assert_eq!((status.requests_received, status.requests_handled), (1, 0));
    node.end().await;
}

#[tokio::test]
async fn the_number_of_a_refusal_is_on_the_wire() {
    use http_body_util::BodyExt as _;
    use tonic::codegen::Service as _;

    use crate::grpc::status_number::{StatusNumbers, busy};

    let inner = tower::service_fn(|_: http::Request<()>| async {
        let mut trailers = http::HeaderMap::new();
        busy().add_header(&mut trailers).expect("headers");
        let frame = Ok::<_, Status>(http_body::Frame::trailers(trailers));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter([frame]));
        Ok(http::Response::new(tonic::body::Body::new(body)))
    });
    let answer = StatusNumbers(inner).call(http::Request::new(())).await;
    let body = answer.expect("an answer").into_body().collect().await;
    let body = body.expect("a body");
    let trailers = body.trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "503");
    assert_eq!(trailers.len(), 2, "{trailers:?}");
}

#[tokio::test]
async fn a_load_balancer_that_gives_up_cancels_its_call() {
    let node = Node::new(1).await;
    // In the function, in its input, in its answer, and in the queue.
    let mut running = node.begin(try_call("f", "1", "hang")).await;
    running.input(&[]).await;
    node.bench.seen("1").await;
    let waiting = node.begin(try_call("f", "2", "echo")).await;
    eventually("a waiting call", async || {
        node.bench.metrics.queued.get() == 1
    })
    .await;
    drop(waiting);
    eventually("it leaves", async || node.bench.metrics.queued.get() == 0).await;
    drop(running);
    eventually("it ends", async || node.bench.metrics.running.get() == 0).await;
    let reading = node.begin(try_call("f", "3", "echo")).await;
    node.bench.seen("3").await;
    drop(reading);
    eventually("it ends", async || node.bench.metrics.running.get() == 0).await;
    let mut answering = node.begin(try_call("f", "4", "stream")).await;
    answering.input(&[]).await;
    answering.head().await;
    drop(answering);
    eventually("it ends", async || node.bench.metrics.running.get() == 0).await;
    assert_eq!(node.bench.metrics.canceled.get(), 4);
    eventually("none is active", async || node.status().await.active == 0).await;
    assert_eq!(node.status().await.requests_handled, 4);
    node.end().await;
}

#[tokio::test]
async fn a_detached_call_is_answered_when_it_starts_and_ends_by_itself() {
    let node = Node::new(2).await;
    let detached = |id: &str, what: &str| {
        let mut call = document("f", id, what);
        call.kind = "detached".into();
        try_document(&call)
    };
    let mut peer = node.begin(detached("1", "wait")).await;
    peer.input(&[b"input"]).await;
    let head = peer.head().await;
    assert_eq!((head.status_code, head.headers.len()), (202, 0));
    node.bench.seen("1").await;
    node.bench.world.release("1");
    let answer = peer.answer().await;
    assert!(answer.finished.success && answer.pieces.is_empty());
    assert_eq!(answer.finished.details, "1");

    let answer = node.call(detached("2", "fail"), &[]).await;
    assert_eq!(answer.head.as_ref().map(|head| head.status_code), Some(202));
    assert_eq!(answer.error(), (502, "function failed", true));

    let mut peer = node.begin(detached("3", "wait")).await;
    peer.input(&[b"input"]).await;
    peer.head().await;
    node.bench.seen("3").await;
    drop(peer);
    eventually("the stream ends", async || node.status().await.active == 0).await;
    assert_eq!(node.bench.metrics.running.get(), 1);
    node.bench.world.release("3");
    eventually("it completes", async || {
        node.bench.metrics.completed.get() == 2
    })
    .await;
    node.end().await;
}

/// A detached call that was begun does not depend on its load balancer: its input was there before.
#[tokio::test]
async fn a_detached_call_is_begun_when_its_input_is_there() {
    let node = Node::new(1).await;
    let mut call = document("f", "1", "echo");
    call.kind = "detached".into();
    let mut peer = node.begin(try_document(&call)).await;
    peer.data("half", false).await;
    let whole = node.call(try_call("f", "2", "echo"), &[b"x"]).await;
    assert!(whole.finished.success, "the container is free");
    peer.data("whole", true).await;
    assert!(peer.answer().await.finished.success);
    let order: Vec<_> = node.bench.world.seen.borrow().clone();
    let order: Vec<_> = order.iter().map(|(call, _)| call.as_str()).collect();
    assert_eq!(order, ["2", "1"]);

    // Beyond a limit it is passed on as it comes.
    call.id = "3".into();
    call.headers.insert("Do".into(), vec!["wait".into()]);
    let mut peer = node.begin(try_document(&call)).await;
    for _ in 0..700 {
        peer.data(vec![7; 10_240], false).await;
    }
    assert_eq!(peer.head().await.status_code, 202);
    peer.data("", true).await;
    node.bench.world.release("3");
    assert!(peer.answer().await.finished.success);

    // One whose load balancer goes away before is not begun.
    call.id = "4".into();
    let mut peer = node.begin(try_document(&call)).await;
    peer.data("half", false).await;
    peer.close();
    let expected = "Protocol failure: expected ClientMsg_Data";
    assert_eq!(peer.broken().await.message(), expected);
    assert_eq!(node.bench.world.seen.borrow().len(), 3);
    node.end().await;
}

/// A function that takes nothing makes its load balancer wait, and costs the runner no memory.
#[tokio::test]
async fn input_that_nobody_takes_stays_with_the_load_balancer() {
    let node = Node::new(1).await;
    let mut first = node.begin(try_call("f", "1", "wait")).await;
    first.input(&[]).await;
    node.bench.seen("1").await;
    let waiting = node.begin(try_call("f", "2", "echo")).await;
    let send = waiting.send.clone().expect("open");
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        let piece = client_msg::Body::Data(DataFrame {
            data: Bytes::from(vec![0; 10_240]),
            eof: false,
        });
        let message = ClientMsg { body: Some(piece) };
        for _ in 0..10_000 {
            if send.send(message.clone()).await.is_err() {
                return;
            }
            count.fetch_add(10_240, std::sync::atomic::Ordering::SeqCst);
        }
    });
    // Other calls go through while it stands still.
    let mut before = 0;
    eventually("it stands still", async || {
        assert_eq!(node.status().await.active, 2);
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        now > 0 && now == std::mem::replace(&mut before, now)
    })
    .await;
    assert!(before < 2 << 20, "{before}");
    sending.abort();
    drop(waiting);
    node.end().await;
}

#[tokio::test]
async fn a_draining_runner_refuses_new_calls_and_finishes_those_that_run() {
    let node = Node::new(2).await;
    let mut running = node.begin(try_call("f", "1", "wait")).await;
    running.input(&[]).await;
    node.bench.seen("1").await;
    node.bench.agent.drain();
    let answer = node.call(try_call("f", "2", "echo"), &[]).await;
    assert_eq!(answer.error(), (503, "Timed out - server too busy", false));
    node.bench.world.release("1");
    assert!(running.answer().await.finished.success);
    node.end().await;
}

#[tokio::test]
async fn a_function_is_parsed_once_for_each_key_of_it() {
    let node = Node::new(1).await;
    let mut message = try_call("f", "1", "echo");
    message.slot_hash_id = key_of(&message);
    let key = message.slot_hash_id.to_ascii_uppercase();
    assert!(node.call(message, &[]).await.finished.success);
    let message = TryCall {
        models_call_json: r#"{"id":"2","config":"not looked at"}"#.into(),
        slot_hash_id: key,
        ..TryCall::default()
    };
    let answer = node.call(message, &[b"input"]).await;
    assert_eq!(
        (answer.output.as_slice(), answer.finished.image.as_str()),
        (&b"input"[..], "image")
    );
    assert_eq!(node.bench.driver.state().created, 1);
    node.end().await;
}

/// The key that a load balancer computes.
fn key_of(message: &TryCall) -> String {
    let call: CallJson = serde_json::from_str(&message.models_call_json).expect("a call");
    call.fn_spec().slot_key().to_string()
}

#[tokio::test]
async fn who_names_a_function_by_anothers_key_changes_nothing_for_that_one() {
    let node = Node::new(2).await;
    let mut own = try_call("f", "1", "echo");
    own.slot_hash_id = key_of(&own);
    let mut false_one = try_call("g", "2", "echo");
    false_one.models_call_json = false_one
        .models_call_json
        .replace(r#""image":"image""#, r#""image":"another""#);
    false_one.slot_hash_id.clone_from(&own.slot_hash_id);
    assert_ne!(key_of(&false_one), own.slot_hash_id);
    let answer = node.call(false_one, &[]).await;
    assert_eq!(answer.finished.image, "another");
    let answer = node.call(own, &[]).await;
    assert_eq!(answer.finished.image, "image");
    node.end().await;
}

#[tokio::test]
async fn go_writes_empty_maps_as_null() {
    let node = Node::new(1).await;
    let message = TryCall {
        models_call_json:
            r#"{"id":"1","image":"image","type":"sync","timeout":5,"idle_timeout":600,
            "memory":64,"config":null,"annotations":null,"headers":null}"#
                .into(),
        ..TryCall::default()
    };
    assert_eq!(node.call(message, &[b"input"]).await.output, b"input");
    node.end().await;
}

#[tokio::test]
async fn what_the_runner_cannot_do_is_said_as_the_original_says_it() {
    let node = Node::new(1).await;
    let config = proto::runner::ConfigMsg {
        config: [("key".to_owned(), "value".to_owned())].into(),
    };
    soon(node.protocol().configure_runner(config))
        .await
        .expect("no error");
    let logs = node.protocol().stream_logs(tokio_stream::empty()).await;
    let status = logs.expect_err("no logs");
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(status.message(), "runner not configured with logStreamer");
    node.end().await;
}

/// Many calls at once, on one connection, of several functions.
#[tokio::test]
async fn calls_do_not_mix() {
    let node: SharedNode = Arc::new(Node::new(4).await);
    let calls = (0..100).map(|n: u32| {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let function = format!("f{}", n % 3);
            let mut peer = node.begin(try_call(&function, &n.to_string(), "nap")).await;
            let input = vec![n as u8; (n as usize) * 1000];
            for piece in input.chunks(10_000) {
                peer.data(piece.to_vec(), false).await;
            }
            peer.data("", true).await;
            let answer = peer.answer().await;
            assert!(answer.output == input, "{n}");
            assert_eq!(answer.finished.details, n.to_string());
        })
    });
    for call in calls.collect::<Vec<_>>() {
        soon(call).await.expect("no panic");
    }
    let node = Arc::into_inner(node).expect("nobody else");
    assert_eq!(node.status().await.requests_handled, 100);
    node.end().await;
}
