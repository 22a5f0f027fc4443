//! Many calls on one stream: `Carry`, rule by rule.

use std::time::Duration;

use bytes::Bytes;
use domain::ErrorCode;
use h2::Reason;
use http::HeaderValue;
use http_body_util::BodyExt as _;
use nodekit::body;
use nodekit::exchange::{CallRequest, CallResult, CallTimings};
use proto::call_json::CallJson;
use proto::carry::{INITIAL_CREDIT, MAX_CALLS};
use proto::runner_extension::{CarryOut, Head, Outcome, carry_in};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::balancer::{Balancer, Options, call, spec, streaming, until, whole};
use crate::carrying::{Carrying, handed, ok};
use crate::peer::{Net, Peer};

/// The one that the function's calls are sent to first, and one that takes what it gives back.
const HOME: &str = "b:1";
const OTHER: &str = "a:1";

/// A runner at `address` that knows nothing but streams of many calls.
fn carrier(net: &Net, address: &str) -> (Peer, tokio::sync::mpsc::Receiver<Carrying>) {
    let peer = Peer::start(net, address, |_| unreachable!("a call on its own stream"));
    let (script, streams) = handed();
    peer.carry(script);
    (peer, streams)
}

/// Such a runner, and its load balancer.
async fn one() -> (Balancer, Peer, Carrying) {
    let net = Net::default();
    let (peer, mut streams) = carrier(&net, HOME);
    let balancer = Balancer::new(&net, &[HOME]);
    let stream = streams.recv().await.expect("a stream");
    (balancer, peer, stream)
}

/// Such a runner, and another one that answers.
async fn two() -> (Balancer, Peer, Peer, Carrying) {
    let net = Net::default();
    let (home, mut streams) = carrier(&net, HOME);
    let other = Peer::start(&net, OTHER, |exchange| Box::pin(exchange.echo()));
    let balancer = Balancer::new(&net, &[HOME, OTHER]);
    let stream = streams.recv().await.expect("a stream");
    until(|| balancer.runners.view().len() == 2).await;
    (balancer, home, other, stream)
}

fn start(balancer: &Balancer, call: CallRequest) -> JoinHandle<CallResult> {
    let placed = balancer.placed.clone();
    tokio::spawn(async move { lb::Runner::run(&*placed, call).await })
}

async fn body_of(running: JoinHandle<CallResult>) -> Bytes {
    let answer = running.await.expect("no panic").expect("an answer");
    whole(answer).await.expect("a whole answer").body
}

#[tokio::test(start_paused = true)]
async fn a_small_call_is_one_message_each_way() {
    let (balancer, peer, mut stream) = one().await;
    let mut first = call(body::full("input"));
    first.headers.append("x-a", HeaderValue::from_static("1"));
    first
        .headers
        .append("x-a", HeaderValue::from_bytes(b"\xff").expect("a value"));
    let (id, target) = (first.id.to_string(), first.target.clone());
    let running = start(&balancer, first);
    let (number, begin) = stream.begin().await;
    assert_eq!(
        (begin.id, begin.slot_key),
        (id, target.slot_key.as_bytes().to_vec().into())
    );
    assert_eq!(
        (&begin.data[..], begin.eof, begin.detached),
        (&b"input"[..], true, false)
    );
    let headers: Vec<_> = begin
        .headers
        .iter()
        .map(|h| (&*h.name, &*h.value))
        .collect();
    assert_eq!(headers, [("x-a", &b"1"[..]), ("x-a", b"\xff")]);
    let wait = Duration::from_nanos(begin.wait_nanos);
    assert!(
        wait > Duration::from_secs(8) && wait <= Duration::from_secs(10),
        "{wait:?}"
    );
    let function: CallJson = serde_json::from_slice(&begin.function_json).expect("JSON");
    assert_eq!(function.image, spec().image);
    stream
        .say(CarryOut {
            call: number,
            head: Some(ok(&[("x-b", "2"), ("connection", "x"), ("bad name", "x")])),
            data: "output".into(),
            outcome: Some(Outcome {
                scheduling: 3,
                execution: 4,
                image_pull: 5,
                container_create: 6,
                container_init: 7,
                ..Outcome::default()
            }),
            credit: None,
        })
        .await;
    let answer = running.await.expect("no panic").expect("an answer");
    let answer = whole(answer).await.expect("a whole answer");
    assert_eq!(answer.body, "output");
    assert_eq!(
        (answer.headers.len(), &answer.headers["x-b"]),
        (1, &HeaderValue::from_static("2"))
    );
    let nanos = Duration::from_nanos;
    let expected = CallTimings {
        scheduling: nanos(3),
        execution: nanos(4),
        image_pull: nanos(5),
        container_create: nanos(6),
        container_init: nanos(7),
    };
    assert_eq!(
        answer.timings, expected,
        "the length was not told, and all was there"
    );
    // The function was described, and is no longer.
    let running = start(&balancer, call(body::empty()));
    let (second, begin) = stream.begin().await;
    assert_ne!(second, number);
    assert!(begin.function_json.is_empty() && begin.eof && begin.data.is_empty());
    // What is said of a call that is over is for nobody.
    stream.data(number, "late").await;
    stream.answer(second, "").await;
    assert_eq!(body_of(running).await, "");
    until(|| balancer.in_flight(HOME) == 0).await;
    assert_eq!((peer.carries(), peer.ledger().len()), (1, 2));
    balancer.assert_metric("fn_lb_placer_placed_ok_count 2");
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_does_not_know_it_is_asked_once_per_connection() {
    let net = Net::default();
    let peer = Peer::start(&net, HOME, |exchange| Box::pin(exchange.echo()));
    let balancer = Balancer::new(&net, &[HOME]);
    for _ in 0..50 {
        assert_eq!(balancer.echo(b"x").await.expect("an answer").body, "x");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!((peer.carries(), peer.ledger().len()), (1, 50));
}

#[tokio::test(start_paused = true)]
async fn it_can_be_turned_off() {
    let net = Net::default();
    let peer = Peer::start(&net, HOME, |exchange| Box::pin(exchange.echo()));
    peer.carry(|_| panic!("it was turned off"));
    let mut options = Options::at(&[HOME]);
    options.config.runner_multiplex = false;
    let balancer = Balancer::with(std::sync::Arc::new(net), options);
    assert_eq!(balancer.echo(b"x").await.expect("an answer").body, "x");
    assert_eq!(peer.carries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_tried_elsewhere_with_the_whole_input() {
    let (balancer, home, other, mut stream) = two().await;
    for length in [1, 50_000, 200_000] {
        let input = vec![b'x'; length];
        let running = start(&balancer, call(body::full(input.clone())));
        let (number, _) = stream.begin().await;
        stream.refuse(number).await;
        assert_eq!(body_of(running).await, input, "{length}");
    }
    assert_eq!(home.ledger(), other.ledger(), "the same calls");
    balancer.assert_metric("fn_lb_placer_retry_busy_count 3");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_runner_reaches_the_client_as_it_is() {
    let (balancer, _home, other, mut stream) = two().await;
    let rows = [
        (
            "FunctionFailed",
            502,
            "function failed",
            ErrorCode::FunctionFailed,
        ),
        ("CallTimeout", 504, "Timed out", ErrorCode::CallTimeout),
        (
            "ImagePullFailed",
            404,
            "Failed to pull image 'x'",
            ErrorCode::ImagePullFailed,
        ),
        ("Unheard", 418, "something", ErrorCode::Internal),
        ("Internal", 500, "broken", ErrorCode::Internal),
        ("Internal", 0, "", ErrorCode::Internal),
    ];
    for (name, status, text, code) in rows {
        let running = start(&balancer, call(body::full("x")));
        let (number, _) = stream.begin().await;
        let outcome = Outcome {
            error: name.to_owned(),
            error_status: status,
            error_text: text.to_owned(),
            ..Outcome::default()
        };
        stream.outcome(number, outcome).await;
        let error = running.await.expect("no panic").expect_err("an error");
        let expected = if status == 0 { 500 } else { status };
        assert_eq!(
            (i32::from(error.status()), error.code()),
            (expected, code),
            "{name}"
        );
        let text = if text.is_empty() {
            "Unknown Error From Pure Runner"
        } else {
            text
        };
        assert_eq!(error.message(), text);
    }
    assert_eq!(other.ledger().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_none_and_output_before_it() {
    let (balancer, _home, other, mut stream) = two().await;
    let running = start(&balancer, call(body::full("x")));
    let (number, _) = stream.begin().await;
    let head = Some(Head {
        status: 302,
        headers: Vec::new(),
    });
    stream
        .say(CarryOut {
            call: number,
            head,
            ..CarryOut::default()
        })
        .await;
    let error = running.await.expect("no panic").expect_err("an error");
    assert_eq!(error.code(), ErrorCode::FunctionInvalidResponse);
    assert_cancelled(&mut stream, number).await;
    let running = start(&balancer, call(body::full("x")));
    let (number, _) = stream.begin().await;
    stream.data(number, "output").await;
    let error = running.await.expect("no panic").expect_err("an error");
    assert_eq!((error.status(), other.ledger().len()), (502, 0));
    assert_cancelled(&mut stream, number).await;
}

async fn assert_cancelled(stream: &mut Carrying, number: u64) {
    let message = stream.next().await.expect("a message");
    assert_eq!(message.call, number);
    assert!(
        matches!(message.body, Some(carry_in::Body::Cancel(_))),
        "{message:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_in_both_directions() {
    let (balancer, _peer, mut stream) = one().await;
    let (mut input, body) = streaming();
    let running = start(&balancer, call(body));
    let (number, begin) = stream.begin().await;
    assert!(!begin.eof && begin.data.is_empty());
    stream.head(number).await;
    let mut answer = running.await.expect("no panic").expect("an answer").body;
    for expected in ["one", "two", "three"] {
        input
            .send_data(Bytes::from(expected))
            .await
            .expect("a reader");
        // The input is read as the answer is.
        let frame = tokio::spawn(async move { (answer.frame().await, answer) });
        let message = stream.next().await.expect("a message");
        let Some(carry_in::Body::Piece(piece)) = message.body else {
            panic!("no piece");
        };
        assert_eq!((&piece.data[..], piece.eof), (expected.as_bytes(), false));
        stream.data(number, piece.data).await;
        let (frame, rest) = frame.await.expect("no panic");
        answer = rest;
        let frame = frame.expect("a piece").expect("sound");
        assert_eq!(frame.into_data().expect("data"), expected);
    }
    drop(input);
    let end = tokio::spawn(async move { answer.frame().await.is_none() });
    let message = stream.next().await.expect("a message");
    assert!(matches!(message.body, Some(carry_in::Body::Piece(piece)) if piece.eof));
    stream.outcome(number, Outcome::default()).await;
    assert!(end.await.expect("no panic"));
}

#[tokio::test(start_paused = true)]
async fn an_input_goes_as_far_as_its_credit() {
    let (balancer, _peer, mut stream) = one().await;
    let input: Vec<u8> = (0..300_000).map(|number| number as u8).collect();
    let slow = start(&balancer, call(body::full(input.clone())));
    let (number, begin) = stream.begin().await;
    let mut came = begin.data.to_vec();
    let mut credit = INITIAL_CREDIT as usize;
    while came.len() < credit {
        came.extend_from_slice(&piece(&mut stream, number).await.data);
    }
    assert_eq!(came.len(), credit);
    // It waits, and no other call does.
    let quick = start(&balancer, call(body::full("quick")));
    let (other, _) = stream.begin().await;
    stream.answer(other, "well").await;
    assert_eq!(body_of(quick).await, "well");
    let last = loop {
        stream.credit(number, 40_000).await;
        credit += 40_000;
        let mut eof = false;
        while came.len() < credit.min(input.len()) {
            let piece = piece(&mut stream, number).await;
            came.extend_from_slice(&piece.data);
            eof = piece.eof;
        }
        if came.len() == input.len() {
            break eof;
        }
    };
    assert!(last && came == input);
    stream.answer(number, "done").await;
    assert_eq!(body_of(slow).await, "done");
}

async fn piece(stream: &mut Carrying, number: u64) -> proto::runner_extension::Piece {
    let message = stream.next().await.expect("a message");
    assert_eq!(message.call, number);
    match message.body {
        Some(carry_in::Body::Piece(piece)) => piece,
        other => unreachable!("no piece: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_holds_back_its_call_alone() {
    let (balancer, _peer, mut stream) = one().await;
    let slow = start(&balancer, call(body::empty()));
    let (number, _) = stream.begin().await;
    stream.head(number).await;
    let mut slow = slow.await.expect("no panic").expect("an answer").body;
    let all = INITIAL_CREDIT as usize;
    for _ in 0..all / 1024 {
        stream.data(number, vec![b'x'; 1024]).await;
    }
    // Others have their answers, more of them than the stream could hold.
    for _ in 0..100 {
        let quick = start(&balancer, call(body::empty()));
        let (other, _) = stream.begin().await;
        stream.answer(other, vec![b'y'; 60_000]).await;
        assert_eq!(body_of(quick).await.len(), 60_000);
    }
    // As it reads, the runner may go on.
    let mut read = 0;
    while read < all {
        let frame = slow.frame().await.expect("a piece").expect("sound");
        read += frame.into_data().expect("data").len();
    }
    let message = stream.next().await.expect("a message");
    let Some(carry_in::Body::Credit(credit)) = message.body else {
        panic!("no credit");
    };
    assert!(credit.bytes >= INITIAL_CREDIT / 2 && credit.bytes <= INITIAL_CREDIT);
    stream.data(number, vec![b'z'; 20_000]).await;
    stream.outcome(number, Outcome::default()).await;
    let rest = slow.collect().await.expect("sound").to_bytes();
    assert_eq!(rest.len(), 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_sends_more_than_it_may_loses_that_call() {
    let (balancer, _peer, mut stream) = one().await;
    let running = start(&balancer, call(body::empty()));
    let (number, _) = stream.begin().await;
    let other = start(&balancer, call(body::empty()));
    let (second, _) = stream.begin().await;
    stream.head(number).await;
    let answer = running.await.expect("no panic").expect("an answer");
    for _ in 0..5 {
        stream.data(number, vec![b'x'; 16 << 10]).await;
    }
    assert_cancelled(&mut stream, number).await;
    assert_eq!(whole(answer).await.expect_err("an error").status(), 502);
    stream.answer(second, "well").await;
    assert_eq!(body_of(other).await, "well");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_cancels_its_call() {
    let (balancer, _peer, mut stream) = one().await;
    let running = start(&balancer, call(body::full("x")));
    let (number, _) = stream.begin().await;
    running.abort();
    assert_cancelled(&mut stream, number).await;
    until(|| balancer.in_flight(HOME) == 0).await;
    // Within its body, while the input still comes.
    let (_input, body) = streaming();
    let running = start(&balancer, call(body));
    let (number, _) = stream.begin().await;
    stream.head(number).await;
    let answer = running.await.expect("no panic").expect("a head");
    drop(answer);
    assert_cancelled(&mut stream, number).await;
    until(|| balancer.in_flight(HOME) == 0).await;
    balancer.assert_metric("fn_lb_placer_placed_abort_count 2");
}

#[tokio::test(start_paused = true)]
async fn an_input_that_breaks_cancels_its_call() {
    let (balancer, _peer, mut stream) = one().await;
    let (input, body) = streaming();
    let running = start(&balancer, call(body));
    let (number, _) = stream.begin().await;
    input.abort("the client is gone".into());
    running.await.expect("no panic").expect_err("an error");
    assert_cancelled(&mut stream, number).await;
}

#[tokio::test(start_paused = true)]
async fn a_detached_call_is_answered_when_it_starts_and_goes_on() {
    let (balancer, _peer, mut stream) = one().await;
    let mut detached = call(body::full("in"));
    detached.detached = true;
    let running = start(&balancer, detached);
    let (number, begin) = stream.begin().await;
    assert!(begin.detached && begin.eof);
    let head = Some(Head {
        status: 202,
        headers: Vec::new(),
    });
    stream
        .say(CarryOut {
            call: number,
            head,
            ..CarryOut::default()
        })
        .await;
    assert_eq!(body_of(running).await, "");
    assert_eq!(balancer.in_flight(HOME), 1, "it runs");
    stream.outcome(number, Outcome::default()).await;
    until(|| balancer.in_flight(HOME) == 0).await;
}

/// All at once, and none of them is sent again.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_lost_fails_the_calls_that_it_had() {
    let losses: [fn(Carrying); 5] = [
        |stream| stream.peer().cut(),
        |stream| stream.reset(Reason::CANCEL),
        |stream| stream.reset(Reason::REFUSED_STREAM),
        |stream| stream.end("14"),
        |mut stream| {
            tokio::spawn(async move { stream.say_raw(&[0, 0, 0, 0, 1, 0xff]).await });
        },
    ];
    for (row, lose) in losses.into_iter().enumerate() {
        let (balancer, home, other, mut stream) = two().await;
        let running: Vec<_> = (0..5)
            .map(|_| start(&balancer, call(body::full("x"))))
            .collect();
        let mut last = 0;
        for _ in 0..5 {
            last = stream.begin().await.0;
        }
        // One has begun to answer.
        stream.head(last).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        lose(stream);
        for running in running {
            let answer = running.await.expect("no panic");
            let error = match answer {
                Ok(answer) => whole(answer).await.expect_err("no silent end"),
                Err(error) => error,
            };
            assert_eq!(error.status(), 502, "{row}");
        }
        assert!(began.elapsed() < Duration::from_millis(10), "{row}");
        assert_eq!((home.ledger().len(), other.ledger().len()), (5, 0), "{row}");
    }
}

/// A runner that ends a stream well has begun no call of which it has not told the outcome.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_well_gives_back_what_was_not_begun() {
    let (balancer, home, other, mut stream) = two().await;
    let running: Vec<_> = (0..4)
        .map(|number| start(&balancer, call(body::full(format!("{number}")))))
        .collect();
    let mut numbers = Vec::new();
    for _ in 0..4 {
        numbers.push(stream.begin().await.0);
    }
    stream.answer(numbers[0], "done").await;
    stream.head(numbers[1]).await;
    stream.end("0");
    let mut answers = Vec::new();
    for running in running {
        answers.push(match running.await.expect("no panic") {
            Ok(answer) => whole(answer).await.map(|answer| answer.body),
            Err(error) => Err(error),
        });
    }
    assert_eq!(answers[0].as_ref().expect("an answer"), "done");
    assert_eq!(answers[1].as_ref().expect_err("an error").status(), 502);
    assert_eq!(answers[2].as_ref().expect("an answer"), "2");
    assert_eq!(answers[3].as_ref().expect("an answer"), "3");
    assert_eq!((home.ledger().len(), other.ledger().len()), (4, 2));
}

/// The peer takes no byte more: what waits for it was not begun.
#[tokio::test(start_paused = true)]
async fn a_call_of_which_nothing_was_sent_is_tried_elsewhere() {
    let (balancer, home, other, stream) = two().await;
    // Nobody reads: the windows fill up, and what comes then waits. No call sends more than its
    // credit, so that takes a few.
    let stuck: Vec<_> = (0..4)
        .map(|_| start(&balancer, call(body::full(vec![b'x'; 100_000]))))
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let waiting = start(&balancer, call(body::full("waiting")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.peer().cut();
    assert_eq!(body_of(waiting).await, "waiting");
    for stuck in stuck {
        // Of the last ones nothing may have been sent, either.
        if let Err(error) = stuck.await.expect("no panic") {
            assert_eq!(error.status(), 502);
        }
    }
    drop(home);
    assert!(!other.ledger().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_given_up() {
    let (balancer, home, other, mut stream) = two().await;
    let running = start(&balancer, call(body::full("x")));
    stream.begin().await;
    home.freeze();
    let began = Instant::now();
    let error = running.await.expect("no panic").expect_err("an error");
    assert_eq!((error.status(), other.ledger().len()), (502, 0));
    assert!(
        began.elapsed() <= Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_only_takes_its_time_is_not() {
    let (balancer, _peer, mut stream) = one().await;
    let running = start(&balancer, call(body::full("x")));
    let (number, _) = stream.begin().await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    stream.answer(number, "well").await;
    assert_eq!(body_of(running).await, "well");
}

#[tokio::test(start_paused = true)]
async fn no_call_is_without_an_end() {
    let net = Net::default();
    let (_peer, mut streams) = carrier(&net, HOME);
    let mut options = Options::at(&[HOME]);
    options.config.execution_headroom = Some(Duration::from_secs(5));
    let balancer = Balancer::with(std::sync::Arc::new(net), options);
    let mut stream = streams.recv().await.expect("a stream");
    let began = Instant::now();
    let running = start(&balancer, call(body::full("x")));
    let (number, _) = stream.begin().await;
    let error = running.await.expect("no panic").expect_err("an error");
    assert_eq!(error.status(), 502);
    // Ten seconds of waiting, thirty of the function, five more.
    assert_eq!(began.elapsed().as_secs(), 45);
    assert_cancelled(&mut stream, number).await;
}

/// What it has is finished; what is new goes elsewhere, and the stream ends with its last call.
#[tokio::test(start_paused = true)]
async fn a_peer_that_says_goodbye_costs_no_call() {
    let (balancer, home, other, mut stream) = two().await;
    let (mut input, body) = streaming();
    let first = start(&balancer, call(body));
    let (number, _) = stream.begin().await;
    home.leave();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(
        balancer.echo(b"second").await.expect("an answer").body,
        "second"
    );
    input
        .send_data(Bytes::from("more"))
        .await
        .expect("a reader");
    drop(input);
    let (call, input) = stream.whole().await.expect("an input");
    assert_eq!((call, &input[..]), (number, &b"more"[..]));
    stream.answer(number, "first").await;
    assert_eq!(body_of(first).await, "first");
    assert!(stream.next().await.is_none(), "the stream is over");
    assert_eq!((home.ledger().len(), other.ledger().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_over_is_followed_by_another() {
    let net = Net::default();
    let (peer, mut streams) = carrier(&net, HOME);
    let balancer = Balancer::new(&net, &[HOME]);
    for round in 1..4 {
        let mut stream = streams.recv().await.expect("a stream");
        tokio::time::sleep(Duration::from_millis(1)).await;
        let running = start(&balancer, call(body::empty()));
        let (number, begin) = stream.begin().await;
        assert!(
            !begin.function_json.is_empty(),
            "each stream is told of the function"
        );
        stream.answer(number, "x").await;
        assert_eq!(body_of(running).await, "x");
        stream.end("0");
        assert_eq!(peer.carries(), round);
    }
}

/// Calls beyond what a stream takes have streams of their own.
#[tokio::test(start_paused = true)]
async fn a_stream_has_no_more_calls_than_the_runner_takes() {
    let net = Net::default();
    let peer = Peer::start(&net, HOME, |exchange| Box::pin(exchange.echo()));
    let (script, mut streams) = handed();
    peer.carry(script);
    let balancer = Balancer::new(&net, &[HOME]);
    let mut stream = streams.recv().await.expect("a stream");
    tokio::time::sleep(Duration::from_millis(10)).await;
    let running: Vec<_> = (0..MAX_CALLS + 10)
        .map(|_| start(&balancer, call(body::empty())))
        .collect();
    let numbers = std::cell::RefCell::new(Vec::new());
    let reading = async {
        loop {
            let (number, _) = stream.begin().await;
            numbers.borrow_mut().push(number);
        }
    };
    tokio::select! {
        () = reading => {}
        () = until(|| peer.ledger().len() == MAX_CALLS + 10) => {}
    }
    let numbers = numbers.into_inner();
    assert!(
        numbers.len() <= MAX_CALLS && numbers.len() > MAX_CALLS / 2,
        "{}",
        numbers.len()
    );
    for number in numbers {
        stream.answer(number, "").await;
    }
    for running in running {
        assert_eq!(body_of(running).await, "");
    }
}

#[tokio::test]
async fn over_a_real_network() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let peer = Peer::new(|_| panic!("a call on its own stream"));
    peer.carry(Carrying::echo_in_pieces);
    // It ends with the test's runtime.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            peer.serve(stream);
        }
    });
    let mut options = Options::at(&[&address]);
    options.grpc.grpc_connections = 3;
    let connector = lb::remote::NodeConnector::new(None, options.config.tcp_timeout());
    let balancer = Balancer::with(std::sync::Arc::new(connector), options);
    let input = vec![b'x'; 3 << 20];
    let all = [0, 1, 100_000, 3 << 20].map(|length| {
        let (balancer, input) = (&balancer, &input[..length]);
        async move { assert!(balancer.echo(input).await.expect("an answer").body == input) }
    });
    futures_util::future::join_all(all).await;
}
