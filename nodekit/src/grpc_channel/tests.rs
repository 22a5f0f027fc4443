//! Channels over real sockets: what a caller gets when a node is not there, or not any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tonic::Code;

use super::*;
use crate::grpc_server::Access;
use crate::grpc_server::test_node::{
    LONG, Log, SHORT, TestNode, ask, client, patient, peer_of, within,
};
use crate::tls::test_authority::{Authority, Files};

/// Settings without a setting.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const PING: u8 = 6;
const PREFACE_LENGTH: usize = 24;

fn config() -> GrpcConfig {
    GrpcConfig {
        grpc_connections: 1,
        grpc_connect_timeout: Some(LONG),
        grpc_keepalive_interval: None,
        ..GrpcConfig::default()
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[tokio::test]
async fn calls_take_turns_on_the_connections() {
    let node = TestNode::start(patient(), None).await;
    let config = GrpcConfig {
        grpc_connections: 3,
        ..config()
    };
    let peer = peer_of(&config, node.address, None);
    let mut ports = Vec::new();
    for _ in 0..6 {
        ports.push(ask(&peer).await.expect("an answer").active);
    }
    assert_eq!(ports[..3], ports[3..]);
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3);
}

#[tokio::test]
async fn a_node_that_comes_back_is_connected_to_again() {
    let (log, _guard) = Log::capture();
    let first = TestNode::start(patient(), None).await;
    let address = first.address;
    let peer = first.peer(None);
    ask(&peer).await.expect("an answer");
    first.stop().await;
    let error = ask(&peer).await.expect_err("nobody is there");
    assert!(was_never_sent(&error), "{error:?}");
    log.wait_for("a node cannot be connected to").await;
    let server = crate::grpc_server::GrpcServer::bind(address, patient(), None)
        .await
        .expect("the port");
    let shutdown = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(server.serve(
        tonic::service::Routes::default(),
        Access(&[]),
        shutdown.clone(),
    ));
    // The new node has no services, and says so: it is reached.
    within(async {
        while ask(&peer).await.expect_err("no service").code() != Code::Unimplemented {}
    })
    .await;
    shutdown.cancel();
    within(task).await.expect("the server ends");
}

#[tokio::test]
async fn a_node_that_is_gone_without_a_word_is_noticed() {
    let (listener, address) = listen().await;
    let config = GrpcConfig {
        grpc_keepalive_interval: Some(SHORT),
        grpc_keepalive_timeout: Some(SHORT),
        ..config()
    };
    let peer = peer_of(&config, address, None);
    let stalled = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(SETTINGS).await.expect("sent");
        stream
    };
    let (outcome, _stream) = tokio::join!(ask(&peer), within(stalled));
    let error = outcome.expect_err("nobody answers");
    assert!(!was_never_sent(&error), "{error:?}");
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
}

/// The types of the frames that come within a while.
async fn frames(mut stream: TcpStream) -> Vec<u8> {
    stream.write_all(SETTINGS).await.expect("sent");
    let mut types = Vec::new();
    let mut preface = [0; PREFACE_LENGTH];
    let read = async {
        stream.read_exact(&mut preface).await?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            types.push(head[3]);
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut body = vec![0; usize::try_from(length).expect("it fits")];
            stream.read_exact(&mut body).await?;
        }
    };
    let _: Result<std::io::Result<()>, _> = timeout(5 * SHORT, read).await;
    types
}

#[tokio::test]
async fn a_node_that_may_be_an_original_is_not_pinged() {
    let keep_alive = GrpcConfig {
        grpc_keepalive_interval: Some(SHORT / 10),
        grpc_keepalive_timeout: Some(LONG),
        ..config()
    };
    let channels = GrpcChannels::new(&keep_alive, None, Role::Runner);
    for (kind, pinged) in [(PeerKind::Unknown, false), (PeerKind::Hearth, true)] {
        let (listener, address) = listen().await;
        let address = channels.address(&address.to_string()).expect("an address");
        let peer = channels.connect(address, kind).expect("a channel");
        let call = tokio::spawn(async move { client(&peer).status(()).await });
        let (stream, _) = within(listener.accept()).await.expect("a connection");
        let frames = frames(stream).await;
        assert!(frames.len() > 1, "{frames:?}");
        assert_eq!(frames.contains(&PING), pinged, "{kind:?}: {frames:?}");
        call.abort();
    }
}

#[tokio::test]
async fn calls_wait_for_a_dead_node_together_and_not_in_turn() {
    let authority = Authority::new("one");
    let tls = Files::new(&authority.good(), &authority.pem()).load();
    let config = GrpcConfig {
        grpc_connect_timeout: Some(SHORT),
        ..config()
    };
    let (listener, address) = listen().await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = attempts.clone();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    let peer = peer_of(&config, address, Some(tls));
    let outcomes = join_all((0..50).map(|_| ask(&peer))).await;
    for outcome in outcomes {
        let error = outcome.expect_err("nobody answers");
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        assert!(was_never_sent(&error), "{error:?}");
    }
    let attempts = attempts.load(Ordering::SeqCst);
    assert!(attempts < 25, "{attempts} attempts for 50 calls");
    silent.abort();
}
