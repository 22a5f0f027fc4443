//! What a runner says when a call does not go well: given back, or failed (spec/08 8.3).

use bytes::Bytes;
use domain::{Blame, ErrorCode};
use nodekit::body;
use proto::runner::CallFinished;

use crate::balancer::{Balancer, Options, call, streaming, whole};
use crate::peer::{Exchange, Net, Peer, failure};

/// The one that the function's calls are sent to first, and one that takes what it gives back.
const HOME: &str = "b:1";
const OTHER: &str = "a:1";

fn two(script: impl Fn(Exchange) -> Doing + Send + Sync + 'static) -> (Balancer, Peer, Peer) {
    let net = Net::default();
    let home = Peer::start(&net, HOME, script);
    let other = Peer::start(&net, OTHER, |exchange| Box::pin(exchange.echo()));
    (Balancer::new(&net, &[HOME, OTHER]), home, other)
}

type Doing = futures_util::future::BoxFuture<'static, ()>;

#[tokio::test(start_paused = true)]
async fn a_refusal_is_tried_elsewhere_with_the_whole_input() {
    // In all its forms: in the protocol, as a status alone or after messages, after some input.
    let scripts: [fn(Exchange) -> Doing; 4] = [
        |exchange| Box::pin(exchange.refuse()),
        |exchange| Box::pin(async move { exchange.end("503") }),
        |mut exchange| {
            Box::pin(async move {
                exchange
                    .send_raw(Bytes::from_static(&[0, 0, 0, 0, 0]))
                    .await;
                exchange.end("503");
            })
        },
        |mut exchange| {
            Box::pin(async move {
                exchange.frame().await;
                exchange.frame().await;
                exchange.refuse().await;
            })
        },
    ];
    for (row, script) in scripts.into_iter().enumerate() {
        let (balancer, home, other) = two(script);
        let input = vec![b'x'; 50_000];
        let answer = balancer.echo(&input).await.expect("the other one takes it");
        assert_eq!(answer.body, input, "{row}");
        assert_eq!(home.ledger(), other.ledger(), "{row}: the same call");
        assert_eq!(home.ledger().len(), 1, "{row}");
        balancer.assert_metric("fn_lb_placer_attempt_count_sum 2.0");
        balancer.assert_metric("fn_lb_placer_retry_busy_count 1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_runner_reaches_the_client_as_it_is() {
    let rows = [
        (502, "function failed", true, ErrorCode::FunctionFailed),
        (504, "Timed out", true, ErrorCode::CallTimeout),
        (
            400,
            "Requested CPU/Memory cannot be allocated",
            false,
            ErrorCode::ResourcesImpossible,
        ),
        (
            501,
            "Detach call functions are not supported on this server",
            false,
            ErrorCode::DetachedUnsupported,
        ),
        (
            404,
            "Failed to pull image 'x/y:1': not there",
            true,
            ErrorCode::ImagePullFailed,
        ),
        (
            502,
            "function invoked write before receiving entire request",
            true,
            ErrorCode::FunctionFailed,
        ),
        (500, "something unheard of", false, ErrorCode::Internal),
    ];
    for (status, text, user, code) in rows {
        let (balancer, home, other) = two(move |mut exchange| {
            Box::pin(async move {
                exchange.finished(failure(status, text, user)).await;
                exchange.end("0");
            })
        });
        let error = balancer.echo(b"x").await.expect_err("an error");
        assert_eq!(i32::from(error.status()), status, "{text}");
        assert_eq!((error.message(), error.code()), (text, code));
        let blame = if user { Blame::User } else { Blame::Service };
        assert_eq!(error.code().blame(), blame, "{text}");
        assert_eq!((home.ledger().len(), other.ledger().len()), (1, 0));
        balancer.assert_metric("fn_lb_placer_placed_error_count 1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_says_nothing_of_its_error() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            exchange.finished(CallFinished::default()).await;
            exchange.end("0");
        })
    });
    let error = Balancer::new(&net, &["a:1"])
        .echo(b"")
        .await
        .expect_err("an error");
    assert_eq!(
        (error.status(), error.message()),
        (500, "Unknown Error From Pure Runner")
    );
}

/// Any other status than 503 is placed: the call may have run (spec/08 8.3).
#[tokio::test(start_paused = true)]
async fn another_status_is_an_error_and_is_not_tried_again() {
    for status in ["0", "14", "13", "1", "8"] {
        let (balancer, home, other) =
            two(move |exchange| Box::pin(async move { exchange.end(status) }));
        let error = balancer.echo(b"x").await.expect_err("an error");
        assert_eq!(error.status(), 502, "{status}");
        assert_eq!(
            (home.ledger().len(), other.ledger().len()),
            (1, 0),
            "{status}"
        );
    }
}

/// spec/08 8.3 item 6
#[tokio::test(start_paused = true)]
async fn after_the_end_of_a_call_the_stream_must_end() {
    let scripts: [fn(Exchange) -> Doing; 4] = [
        |mut exchange| {
            Box::pin(async move {
                exchange.start(&[("Content-Length", "0")]).await;
                exchange.finished(success()).await;
                exchange.data("more").await;
                exchange.end("0");
            })
        },
        |mut exchange| {
            Box::pin(async move {
                exchange.finished(success()).await;
                exchange.finished(success()).await;
                exchange.end("0");
            })
        },
        |mut exchange| {
            Box::pin(async move {
                exchange.finished(success()).await;
                exchange.end_without_status();
            })
        },
        |mut exchange| {
            Box::pin(async move {
                exchange.start(&[("Content-Length", "0")]).await;
                exchange.finished(success()).await;
                exchange.end("13");
            })
        },
    ];
    for script in scripts {
        let net = Net::default();
        Peer::start(&net, "a:1", script);
        let error = Balancer::new(&net, &["a:1"])
            .echo(b"")
            .await
            .expect_err("an error");
        assert_eq!(
            (error.status(), error.message()),
            (500, "Purerunner missing EOF response")
        );
    }
}

fn success() -> CallFinished {
    CallFinished {
        success: true,
        ..CallFinished::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_conversation_is_an_error() {
    let scripts: [fn(Exchange) -> Doing; 5] = [
        // Output without a head.
        |mut exchange| {
            Box::pin(async move {
                exchange.data("x").await;
                exchange.well().await;
            })
        },
        // Bytes that are no message, too long a message, a compressed one, and half a one.
        |mut exchange| {
            Box::pin(async move {
                exchange
                    .send_raw(Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]))
                    .await;
                exchange.well().await;
            })
        },
        |mut exchange| {
            Box::pin(async move {
                exchange
                    .send_raw(Bytes::from_static(&[0, 0x7f, 0, 0, 0]))
                    .await;
                exchange.well().await;
            })
        },
        |mut exchange| {
            Box::pin(async move {
                exchange
                    .send_raw(Bytes::from_static(&[1, 0, 0, 0, 0]))
                    .await;
                exchange.well().await;
            })
        },
        |mut exchange| {
            Box::pin(async move {
                exchange
                    .send_raw(Bytes::from_static(&[0, 0, 0, 0, 9, 1]))
                    .await;
                exchange.end("0");
            })
        },
    ];
    for script in scripts {
        let net = Net::default();
        let peer = Peer::start(&net, "a:1", script);
        let error = Balancer::new(&net, &["a:1"])
            .echo(b"")
            .await
            .expect_err("an error");
        assert_eq!(error.status(), 502, "{error:?}");
        assert_eq!(peer.ledger().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_input_that_cannot_be_sent_again_is_tried_once() {
    let net = Net::default();
    let script = |mut exchange: Exchange| -> Doing {
        Box::pin(async move {
            exchange.frame().await;
            exchange.frame().await;
            exchange.refuse().await;
        })
    };
    let peers = [
        Peer::start(&net, "a:1", script),
        Peer::start(&net, "b:1", script),
    ];
    let mut options = Options::at(&["a:1", "b:1"]);
    options.config.replay_body_size = 15_000;
    let balancer = Balancer::with(std::sync::Arc::new(net), options);
    let error = balancer.echo(&[b'x'; 15_001]).await.expect_err("an error");
    assert_eq!((error.status(), error.code()), (503, ErrorCode::ServerBusy));
    assert_eq!(
        peers.iter().map(|peer| peer.ledger().len()).sum::<usize>(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_middle_of_a_streamed_answer_ends_it_with_that_error() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            exchange.start(&[]).await;
            exchange.data("some").await;
            exchange
                .finished(failure(502, "function response body too large", true))
                .await;
            exchange.end("0");
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let answer = balancer.run(call(body::empty())).await.expect("a head");
    let error = whole(answer).await.expect_err("an error");
    assert_eq!(error.code(), ErrorCode::ResponseBodyTooLarge);
}

/// A short answer is whole before the client hears of it: its error is a clean one.
#[tokio::test(start_paused = true)]
async fn an_error_in_the_middle_of_a_short_answer_is_the_answer() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            exchange.start(&[("Content-Length", "10")]).await;
            exchange.data("some").await;
            exchange.peer().cut();
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let error = balancer
        .run(call(body::empty()))
        .await
        .expect_err("an error");
    assert_eq!(error.status(), 502);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_status_is_no_answer() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            exchange.start_with(418, Vec::new()).await;
            exchange.well().await;
        })
    });
    let error = Balancer::new(&net, &["a:1"])
        .echo(b"")
        .await
        .expect_err("an error");
    assert_eq!(error.code(), ErrorCode::FunctionInvalidResponse);
}

/// The original sends the end of the input instead, so that half of it looks like all.
#[tokio::test(start_paused = true)]
async fn an_input_that_breaks_cancels_the_call() {
    let net = Net::default();
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    Peer::start(&net, "a:1", move |mut exchange| {
        let told = told.clone();
        Box::pin(async move {
            let first = exchange.frame().await.map(|frame| frame.data);
            told.send(first).await.expect("a test");
            let rest = exchange.frame().await.map(|frame| frame.data);
            told.send(rest).await.expect("a test");
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let (mut input, body) = streaming();
    let breaking = async {
        input
            .send_data(Bytes::from("half"))
            .await
            .expect("a reader");
        assert_eq!(heard.recv().await, Some(Some(Bytes::from("half"))));
        input.abort("the client is gone".into());
    };
    let (error, ()) = tokio::join!(balancer.run(call(body)), breaking);
    let error = error.expect_err("an error");
    assert_eq!(error.code(), ErrorCode::RequestBodyBroken);
    let rest = heard.recv().await;
    assert_eq!(rest, Some(None), "the runner sees a reset, not an end");
}
