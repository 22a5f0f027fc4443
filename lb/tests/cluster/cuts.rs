//! Connections that end, stall or never come, and clients that go away.

use std::time::Duration;

use domain::ErrorCode;
use h2::Reason;
use http_body_util::BodyExt as _;
use nodekit::body;
use tokio::time::Instant;

use crate::balancer::{Balancer, call, until, whole};
use crate::peer::{Exchange, Net, Peer, handed};

type Doing = futures_util::future::BoxFuture<'static, ()>;

fn sent(peers: &[Peer]) -> usize {
    peers.iter().map(|peer| peer.ledger().len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_is_not_there_is_passed_over() {
    let net = Net::default();
    let peer = Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
    for address in ["a:1", "c:1"] {
        let balancer = Balancer::new(&net, &[address, "b:1"]);
        assert_eq!(balancer.echo(b"x").await.expect("an answer").body, "x");
    }
    assert_eq!(peer.ledger().len(), 2);
}

/// The system accepts connections for a process that is stopped: a call sent there would be lost.
#[tokio::test(start_paused = true)]
async fn a_runner_that_was_never_heard_of_is_passed_over() {
    let net = Net::default();
    // Where the function's calls go first.
    let stopped = Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
    stopped.freeze();
    Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    let balancer = Balancer::new(&net, &["a:1", "b:1"]);
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(balancer.echo(b"x").await.expect("an answer").body, "x");
        assert!(
            began.elapsed() < Duration::from_millis(150),
            "{:?}",
            began.elapsed()
        );
    }
}

/// The peer promises that it never looked at the call.
#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_tried_elsewhere() {
    let net = Net::default();
    // Where the function's calls go first.
    let refusing = Peer::start(&net, "b:1", |exchange| {
        Box::pin(async move { exchange.reset(Reason::REFUSED_STREAM) })
    });
    Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    let balancer = Balancer::new(&net, &["a:1", "b:1"]);
    assert_eq!(balancer.echo(b"x").await.expect("an answer").body, "x");
    assert_eq!(refusing.ledger().len(), 1);
    balancer.assert_metric("fn_lb_placer_retry_error_count 1");
}

#[tokio::test(start_paused = true)]
async fn a_stream_reset_otherwise_is_not() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let net = Net::default();
        let script =
            move |exchange: Exchange| -> Doing { Box::pin(async move { exchange.reset(reason) }) };
        let peers = [
            Peer::start(&net, "a:1", script),
            Peer::start(&net, "b:1", script),
        ];
        let balancer = Balancer::new(&net, &["a:1", "b:1"]);
        let error = balancer.echo(b"x").await.expect_err("an error");
        assert_eq!((error.status(), sent(&peers)), (502, 1), "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_after_the_call_was_sent_fails_the_call() {
    let net = Net::default();
    let script = |mut exchange: Exchange| -> Doing {
        Box::pin(async move {
            exchange.input().await;
            exchange.peer().cut();
        })
    };
    let peers = [
        Peer::start(&net, "a:1", script),
        Peer::start(&net, "b:1", script),
    ];
    let balancer = Balancer::new(&net, &["a:1", "b:1"]);
    let error = balancer.echo(b"x").await.expect_err("an error");
    assert_eq!((error.status(), sent(&peers)), (502, 1), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_within_an_answer_is_never_a_silent_end() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            exchange.start(&[]).await;
            exchange.data("some").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            exchange.peer().cut();
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let mut body = balancer
        .run(call(body::empty()))
        .await
        .expect("a head")
        .body;
    let piece = body.frame().await.expect("a piece").expect("sound");
    assert_eq!(piece.into_data().expect("data"), "some");
    assert!(body.frame().await.expect("not an end").is_err());
}

/// A peer that leaves finishes what it has; what is new goes elsewhere, and nothing fails.
#[tokio::test(start_paused = true)]
async fn a_peer_that_says_goodbye_costs_no_call() {
    let net = Net::default();
    let (script, mut exchanges) = handed();
    let leaving = Peer::start(&net, "a:1", script);
    let balancer = Balancer::new(&net, &["a:1"]);
    let first = tokio::spawn({
        let placed = balancer.placed.clone();
        async move { lb::Runner::run(&*placed, call(body::full("first"))).await }
    });
    let exchange = exchanges.recv().await.expect("a call");
    leaving.leave();
    // One that waits until there is somebody to take it.
    Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    let second = tokio::spawn({
        let placed = balancer.placed.clone();
        async move { lb::Runner::run(&*placed, call(body::full("second"))).await }
    });
    exchange.echo().await;
    let first = first.await.expect("no panic").expect("an answer");
    assert_eq!(whole(first).await.expect("whole").body, "first");
    let second = second.await.expect("no panic").expect("an answer");
    assert_eq!(whole(second).await.expect("whole").body, "second");
    assert_eq!(leaving.ledger().len(), 1);
}

/// A half-open connection, or a process that is stopped: the client is told within the silence
/// allowed, and the call is not sent again.
#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_given_up() {
    let net = Net::default();
    let script = |exchange: Exchange| -> Doing {
        Box::pin(async move {
            exchange.peer().freeze();
            std::future::pending().await
        })
    };
    let peers = [
        Peer::start(&net, "a:1", script),
        Peer::start(&net, "b:1", script),
    ];
    let balancer = Balancer::new(&net, &["a:1", "b:1"]);
    let began = Instant::now();
    let error = balancer.echo(b"x").await.expect_err("an error");
    assert_eq!((error.status(), sent(&peers)), (502, 1));
    assert!(
        began.elapsed() <= Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

/// A call may take its time, as long as its runner is there.
#[tokio::test(start_paused = true)]
async fn a_peer_that_only_takes_its_time_is_not() {
    let net = Net::default();
    Peer::start(&net, "a:1", |exchange| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            exchange.echo().await;
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    assert_eq!(balancer.echo(b"x").await.expect("an answer").body, "x");
}

/// A runner that lives but never finishes is given up at last.
#[tokio::test(start_paused = true)]
async fn no_call_is_without_an_end() {
    let net = Net::default();
    Peer::start(&net, "a:1", |exchange| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(exchange);
        })
    });
    let mut options = crate::balancer::Options::at(&["a:1"]);
    options.config.execution_headroom = Some(Duration::from_secs(5));
    let balancer = Balancer::with(std::sync::Arc::new(net), options);
    let began = Instant::now();
    let error = balancer.echo(b"x").await.expect_err("an error");
    assert_eq!(error.status(), 502);
    // Ten seconds of waiting, thirty of the function, five more.
    assert_eq!(began.elapsed().as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_cancels_its_call() {
    let net = Net::default();
    let (script, mut exchanges) = handed();
    Peer::start(&net, "a:1", script);
    let balancer = Balancer::new(&net, &["a:1"]);
    // Before the head of the answer.
    let placed = balancer.placed.clone();
    let running = tokio::spawn(async move {
        drop(lb::Runner::run(&*placed, call(body::full("x"))).await);
    });
    let mut exchange = exchanges.recv().await.expect("a call");
    running.abort();
    assert_eq!(exchange.reset_by_peer().await, Reason::CANCEL);
    until(|| balancer.in_flight("a:1") == 0).await;
    // Within its body, while the input still comes.
    let (_input, streaming) = crate::balancer::streaming();
    let running = balancer.run(call(streaming));
    let answering = async {
        let mut exchange = exchanges.recv().await.expect("a call");
        exchange.start(&[]).await;
        exchange.data("some").await;
        exchange
    };
    let (answer, mut exchange) = tokio::join!(running, answering);
    let mut answer = answer.expect("a head");
    answer.body.frame().await.expect("a piece").expect("sound");
    drop(answer);
    assert_eq!(exchange.reset_by_peer().await, Reason::CANCEL);
    until(|| balancer.in_flight("a:1") == 0).await;
    balancer.assert_metric("fn_lb_placer_placed_abort_count 2");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_while_waiting_is_counted() {
    let net = Net::default();
    Peer::start(&net, "a:1", |exchange| Box::pin(exchange.refuse()));
    let balancer = Balancer::new(&net, &["a:1"]);
    let waiting = tokio::time::timeout(Duration::from_secs(1), balancer.echo(b"x"));
    assert!(waiting.await.is_err());
    balancer.assert_metric("fn_lb_placer_client_cancelled_count 1");
    let error = balancer.echo(b"x").await.expect_err("busy");
    assert_eq!(error.code(), ErrorCode::ServerBusy);
}
