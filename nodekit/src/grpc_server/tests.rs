//! The gRPC listener over real sockets: what a peer may not do, and how a node stops.

use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::runner::{ClientMsg, DataFrame, RunnerMsg, client_msg, runner_msg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::test_node::{
    ALERT, DEADLINE, Log, SHORT, TestNode, ask, client, patient, until, within,
};
use super::*;
use crate::grpc_channel::{GrpcPeer, was_never_sent};
use crate::tls::Role;
use crate::tls::test_authority::{Authority, Files};

/// What a client sends first: the preface, and settings without a setting.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn connect(node: &TestNode) -> TcpStream {
    TcpStream::connect(node.address)
        .await
        .expect("a connection")
}

/// Waits until the server closes the connection.
async fn closed(mut stream: TcpStream) {
    let mut sent = Vec::new();
    // A reset is an end too.
    let _ = within(stream.read_to_end(&mut sent)).await;
}

fn data(text: &'static str) -> ClientMsg {
    ClientMsg {
        body: Some(client_msg::Body::Data(DataFrame {
            data: Bytes::from_static(text.as_bytes()),
            eof: false,
        })),
    }
}

/// A call that goes on as long as its sender is there.
async fn call(peer: &GrpcPeer) -> (mpsc::Sender<ClientMsg>, Streaming<RunnerMsg>) {
    let (sender, receiver) = mpsc::channel(1);
    let answers = within(client(peer).engage(ReceiverStream::new(receiver)))
        .await
        .expect("an answer");
    (sender, answers.into_inner())
}

async fn echoed(call: &mut (mpsc::Sender<ClientMsg>, Streaming<RunnerMsg>), text: &'static str) {
    call.0.send(data(text)).await.expect("sent");
    let answer = within(call.1.next())
        .await
        .expect("more")
        .expect("a message");
    let Some(runner_msg::Body::Data(frame)) = answer.body else {
        panic!("not data: {answer:?}");
    };
    assert_eq!(frame.data, text);
}

#[tokio::test]
async fn requests_carry_who_asks_and_until_when() {
    let node = TestNode::start(patient(), None).await;
    let peer = node.peer(None);
    let status = ask(&peer).await.expect("an answer");
    assert_eq!((status.id.as_str(), status.failed), ("", false));
    assert_ne!(status.active, 0);
    let mut request = Request::new(());
    request.set_timeout(DEADLINE);
    let status = client(&peer).status(request).await.expect("an answer");
    assert!(status.into_inner().failed);
}

#[tokio::test]
async fn running_calls_finish_before_a_node_stops() {
    let node = TestNode::start(patient(), None).await;
    let peer = node.peer(None);
    let mut call = call(&peer).await;
    echoed(&mut call, "before").await;
    node.shutdown.cancel();
    let address = node.address;
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    echoed(&mut call, "after").await;
    let refused = ask(&peer).await.expect_err("no new calls");
    assert!(was_never_sent(&refused), "{refused:?}");
    let (sender, mut answers) = call;
    drop(sender);
    assert!(within(answers.next()).await.is_none(), "the call ends well");
    assert_eq!(node.ended().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn calls_that_do_not_end_are_cut_off() {
    let limits = GrpcLimits {
        shutdown_timeout: Some(SHORT),
        ..patient()
    };
    let node = TestNode::start(limits, None).await;
    let mut call = call(&node.peer(None)).await;
    echoed(&mut call, "before").await;
    assert_eq!(node.stop().await, Drained { aborted: 1 });
    let end = within(call.1.next()).await.expect("an end");
    let error = end.expect_err("it is cut off");
    assert!(!was_never_sent(&error), "{error:?}");
}

#[tokio::test]
async fn a_node_without_calls_stops_at_once() {
    let node = TestNode::start(patient(), None).await;
    let idle = node.peer(None);
    ask(&idle).await.expect("an answer");
    let unopened = connect(&node).await;
    assert_eq!(node.stop().await, Drained { aborted: 0 });
    closed(unopened).await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let (log, _guard) = Log::capture();
    let limits = GrpcLimits {
        max_connections: 1,
        ..patient()
    };
    let node = TestNode::start(limits, None).await;
    let first = node.peer(None);
    ask(&first).await.expect("an answer");
    closed(connect(&node).await).await;
    log.wait_for("FN_GRPC_MAX_CONNECTIONS").await;
    ask(&first)
        .await
        .expect("it is not in the way of the first");
    drop(first);
    let next = node.peer(None);
    within(async { while ask(&next).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_is_noticed() {
    let limits = GrpcLimits {
        keep_alive: Some(ALERT),
        ..patient()
    };
    let node = TestNode::start(limits, None).await;
    let present = node.peer(None);
    let before = ask(&present).await.expect("an answer");
    let mut gone = connect(&node).await;
    gone.write_all(OPENING).await.expect("sent");
    closed(gone).await;
    let after = ask(&present).await.expect("an answer");
    assert_eq!(before.active, after.active, "who answers stays connected");
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let (log, _guard) = Log::capture();
    let limits = GrpcLimits {
        handshake_timeout: Some(SHORT),
        ..patient()
    };
    let authority = Authority::new("one");
    let tls = Files::new(&authority.good(), &authority.pem()).load();
    let plain = TestNode::start(limits.clone(), None).await;
    let secure = TestNode::start(limits, Some(tls.clone())).await;
    closed(connect(&plain).await).await;
    closed(connect(&secure).await).await;
    let mut silent = tls
        .connect("127.0.0.1", Role::Runner, connect(&secure).await)
        .await
        .expect("TLS");
    let mut sent = Vec::new();
    let _ = within(silent.read_to_end(&mut sent)).await;
    log.wait_for("it was not opened in time").await;
}

#[tokio::test]
async fn slow_handshakes_are_in_nobodys_way() {
    let authority = Authority::new("one");
    let tls = Files::new(&authority.good(), &authority.pem()).load();
    let node = TestNode::start(patient(), Some(tls.clone())).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(connect(&node).await);
    }
    ask(&node.peer(Some(tls))).await.expect("an answer");
    assert_eq!(node.stop().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_and_named() {
    let (log, _guard) = Log::capture();
    let node = TestNode::start(patient(), None).await;
    let mut browser = connect(&node).await;
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    browser.write_all(request).await.expect("sent");
    closed(browser).await;
    log.wait_for("the peer does not speak HTTP/2").await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_alone() {
    let node = TestNode::start(patient(), None).await;
    let peer = node.peer(None);
    let mut request = Request::new(());
    let large = "x".repeat(100_000).parse().expect("a value");
    request.metadata_mut().insert("large", large);
    let refused = within(client(&peer).status(request)).await;
    refused.expect_err("too large");
    ask(&peer).await.expect("an answer");
    assert_eq!(node.calls(), 1);
}

#[tokio::test]
async fn stalled_readers_leave_room_for_others() {
    let node = TestNode::start(patient(), None).await;
    let peer = node.peer(None);
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let (sender, answers) = call(&peer).await;
        let fill = tokio::spawn({
            let sender = sender.clone();
            async move {
                let frame = DataFrame {
                    data: Bytes::from_static(&[0; 10_240]),
                    eof: false,
                };
                // More than fits: the last ones are not taken.
                for _ in 0..16 * STREAM_WINDOW / 10_240 {
                    let body = Some(client_msg::Body::Data(frame.clone()));
                    if sender.send(ClientMsg { body }).await.is_err() {
                        return;
                    }
                }
            }
        });
        stalled.push((sender, answers, fill));
    }
    let full = |stalled: &[(mpsc::Sender<ClientMsg>, _, _)]| {
        stalled.iter().all(|(sender, _, _)| sender.capacity() == 0)
    };
    until("the windows are full", || full(&stalled)).await;
    let mut other = call(&peer).await;
    echoed(&mut other, "through").await;
}
