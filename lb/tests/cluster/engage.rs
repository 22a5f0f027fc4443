//! Calls that go well, message by message.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::BodyExt as _;
use lb::remote::NodeConnector;
use nodekit::body;
use nodekit::exchange::CallTimings;
use proto::runner::{CallFinished, DataFrame, HttpHeader, runner_msg};
use tokio::sync::mpsc;

use crate::balancer::{Balancer, Options, call, streaming, until, whole};
use crate::peer::{Net, Peer, framed, handed};

#[tokio::test(start_paused = true)]
async fn a_call_is_a_try_then_frames_then_an_answer_with_its_account() {
    let net = Net::default();
    let (seen, mut messages) = mpsc::channel(8);
    Peer::start(&net, "a:1", move |mut exchange| {
        let seen = seen.clone();
        Box::pin(async move {
            seen.send(exchange.call.models_call_json.clone())
                .await
                .expect("a test");
            seen.send(exchange.call.slot_hash_id.clone())
                .await
                .expect("a test");
            let input = exchange.input().await.expect("an input");
            exchange
                .start(&[
                    ("Content-Type", "a/b"),
                    ("X-A", "1"),
                    ("X-A", "2"),
                    ("Connection", "x"),
                    ("Content-Length", "5"),
                ])
                .await;
            exchange.data(input).await;
            exchange
                .finished(CallFinished {
                    success: true,
                    scheduler_duration: 3_000_000,
                    execution_duration: 4_000_000,
                    image_pull_wait_duration: 5,
                    ctr_create_duration: 6,
                    init_start_time: 7,
                    ..CallFinished::default()
                })
                .await;
            exchange.end("0");
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let mut call = call(body::full("input"));
    call.headers
        .insert("x-foo", HeaderValue::from_static("bar"));
    let key = call.target.slot_key.to_string();
    let answer = balancer.run(call).await.expect("an answer");
    let answer = whole(answer).await.expect("a whole answer");
    assert_eq!(answer.body, "input");
    assert_eq!(answer.headers["content-type"], "a/b");
    assert_eq!(answer.headers.get_all("x-a").iter().count(), 2);
    assert!(
        !answer.headers.contains_key("connection"),
        "it is the runner's own"
    );
    let expected = CallTimings {
        scheduling: Duration::from_millis(3),
        execution: Duration::from_millis(4),
        image_pull: Duration::from_nanos(5),
        container_create: Duration::from_nanos(6),
        container_init: Duration::from_nanos(7),
    };
    assert_eq!(answer.timings, expected);
    let json = messages.recv().await.expect("a call");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["image"], &json["fn_id"]),
        (&"x/y:1".into(), &"F".into())
    );
    assert_eq!(json["headers"]["X-Foo"][0], "bar");
    assert_eq!(messages.recv().await, Some(key));
    until(|| balancer.in_flight("a:1") == 0).await;
    balancer.assert_metric("fn_lb_placer_placed_ok_count 1");
}

/// spec/08 8.2, 8.3: to the byte.
#[tokio::test(start_paused = true)]
async fn the_input_is_frames_of_at_most_10240_bytes_the_last_with_eof() {
    /// Lengths of frames, and whether they say that nothing follows.
    type Frames = &'static [(usize, bool)];
    let rows: [(&[usize], Frames); 4] = [
        (&[], &[(0, true)]),
        (&[1], &[(1, true)]),
        (&[10_240], &[(10_240, true)]),
        (
            &[10_241, 30_000],
            &[
                (10_240, false),
                (1, false),
                (10_240, false),
                (10_240, false),
                (9520, false),
                (0, true),
            ],
        ),
    ];
    for (pieces, expected) in rows {
        let net = Net::default();
        let (seen, mut frames) = mpsc::channel(16);
        Peer::start(&net, "a:1", move |mut exchange| {
            let seen = seen.clone();
            Box::pin(async move {
                while let Some(raw) = exchange.receive_raw().await {
                    seen.send(raw).await.expect("a test");
                }
                drop(seen);
                exchange.start(&[]).await;
                exchange.well().await;
            })
        });
        let balancer = Balancer::new(&net, &["a:1"]);
        // The last piece of a body of pieces is not known to be the last.
        let input = match pieces {
            [] => body::empty(),
            [length] => body::full(vec![b'x'; *length]),
            _ => {
                let (mut sender, body) = streaming();
                let pieces = pieces.to_vec();
                tokio::spawn(async move {
                    for length in pieces {
                        let piece = Bytes::from(vec![b'x'; length]);
                        sender.send_data(piece).await.expect("a reader");
                    }
                });
                body
            }
        };
        let answer = balancer.run(call(input)).await.expect("an answer");
        whole(answer).await.expect("a whole answer");
        for (length, eof) in expected {
            let frame = DataFrame {
                data: vec![b'x'; *length].into(),
                eof: *eof,
            };
            let body = Some(proto::runner::client_msg::Body::Data(frame));
            let message = framed(&proto::runner::ClientMsg { body });
            assert_eq!(frames.recv().await, Some(message), "{pieces:?}");
        }
        assert_eq!(frames.try_recv().ok(), None, "{pieces:?}");
    }
    // What the encoder of this test writes is what spec/08 says.
    let body = Some(proto::runner::client_msg::Body::Data(DataFrame {
        data: "x".into(),
        eof: true,
    }));
    let golden: &[u8] = &[0, 0, 0, 0, 7, 0x12, 5, 0x0a, 1, b'x', 0x10, 1];
    assert_eq!(framed(&proto::runner::ClientMsg { body }), golden);
}

/// Our runner and the original's differ in such things.
#[tokio::test(start_paused = true)]
async fn an_answer_may_have_frames_with_eof_empty_ones_and_messages_unheard_of() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            // A message without a body, and one with a field that is none of ours.
            exchange
                .send_raw(Bytes::from_static(&[0, 0, 0, 0, 0]))
                .await;
            exchange
                .start(&[("bad name", "x"), ("X-B", "bad\nvalue")])
                .await;
            exchange
                .send_raw(Bytes::from_static(&[0, 0, 0, 0, 3, 0x7a, 1, 9]))
                .await;
            exchange.start(&[("X-Second", "start")]).await;
            exchange.data("").await;
            exchange.data("out").await;
            let frame = |data: &'static str| DataFrame {
                data: data.into(),
                eof: true,
            };
            exchange.send(runner_msg::Body::Data(frame("put"))).await;
            exchange.send(runner_msg::Body::Data(frame(""))).await;
            exchange.well().await;
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let answer = balancer.echo(b"").await.expect("an answer");
    assert_eq!(answer.body, "output");
    assert!(answer.headers.is_empty(), "{:?}", answer.headers);
}

/// More than a map of headers can hold.
#[tokio::test(start_paused = true)]
async fn more_headers_than_fit_are_left_out() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            let header = |number: usize| HttpHeader {
                key: format!("x-{number}"),
                value: String::new(),
            };
            exchange
                .start_with(200, (0..70_000).map(header).collect())
                .await;
            exchange.well().await;
        })
    });
    let answer = Balancer::new(&net, &["a:1"])
        .echo(b"")
        .await
        .expect("an answer");
    assert!(answer.headers.len() > 10_000);
}

#[tokio::test(start_paused = true)]
async fn success_without_a_head_is_an_empty_answer() {
    let net = Net::default();
    Peer::start(&net, "a:1", |exchange| Box::pin(exchange.well()));
    let balancer = Balancer::new(&net, &["a:1"]);
    let answer = balancer.echo(b"x").await.expect("an answer");
    assert!(answer.body.is_empty() && answer.headers.is_empty());
}

/// What a Hearth runner does, and an original one refuses.
#[tokio::test(start_paused = true)]
async fn bodies_stream_in_both_directions() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            exchange.start(&[]).await;
            while let Some(frame) = exchange.frame().await {
                exchange.data(frame.data).await;
                if frame.eof {
                    break;
                }
            }
            exchange.well().await;
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let (mut input, body) = streaming();
    let mut answer = balancer.run(call(body)).await.expect("an answer").body;
    for piece in ["one", "two", "three"] {
        input.send_data(Bytes::from(piece)).await.expect("a reader");
        let frame = answer.frame().await.expect("a piece").expect("sound");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    drop(input);
    assert!(answer.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_stops_the_runner() {
    let net = Net::default();
    let (sent, mut sending) = mpsc::channel(1);
    Peer::start(&net, "a:1", move |mut exchange| {
        let sent = sent.clone();
        Box::pin(async move {
            exchange.start(&[]).await;
            for _ in 0..1000 {
                if !exchange.data(vec![b'x'; 10_000]).await {
                    return;
                }
                sent.send(exchange.capacity()).await.expect("a test");
            }
            exchange.well().await;
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let answer = balancer.run(call(body::empty())).await.expect("an answer");
    // Of ten megabytes it sends what fits the windows, and no more in an hour.
    let mut pieces = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(20), sending.recv()).await {
        pieces += 1;
    }
    assert!(pieces < 200, "{pieces} pieces for nobody");
    tokio::spawn(async move { while sending.recv().await.is_some() {} });
    let answer = whole(answer).await.expect("a whole answer");
    assert_eq!(answer.body.len(), 10_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_detached_call_is_answered_when_it_starts_and_goes_on() {
    let net = Net::default();
    let (script, mut exchanges) = handed();
    Peer::start(&net, "a:1", script);
    let balancer = Balancer::new(&net, &["a:1"]);
    let mut detached = call(body::full("in"));
    detached.detached = true;
    let placed = balancer.placed.clone();
    let running = tokio::spawn(async move { lb::Runner::run(&*placed, detached).await });
    let mut exchange = exchanges.recv().await.expect("a call");
    assert!(
        exchange
            .call
            .models_call_json
            .contains(r#""type":"detached""#)
    );
    assert_eq!(exchange.input().await.as_deref(), Some(&b"in"[..]));
    exchange.start_with(202, Vec::<HttpHeader>::new()).await;
    let answer = running.await.expect("no panic").expect("an answer");
    assert!(whole(answer).await.expect("an answer").body.is_empty());
    assert_eq!(balancer.in_flight("a:1"), 1, "it runs");
    exchange.well().await;
    until(|| balancer.in_flight("a:1") == 0).await;
}

#[tokio::test]
async fn over_a_real_network() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let peer = Peer::new(|exchange| Box::pin(exchange.echo()));
    // It ends with the test's runtime.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            peer.serve(stream);
        }
    });
    let mut options = Options::at(&[&address]);
    options.grpc.grpc_connections = 3;
    let connector = NodeConnector::new(None, options.config.tcp_timeout());
    let balancer = Balancer::with(std::sync::Arc::new(connector), options);
    let input = vec![b'x'; 3 << 20];
    for length in [0, 1, 100_000, 3 << 20] {
        let answer = balancer.echo(&input[..length]).await.expect("an answer");
        assert_eq!(answer.body, input[..length]);
    }
}
