//! Outcomes are posted to callback URLs, again until they are taken.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::calls::CallbackSettings;

contract!(
    an_outcome_is_posted_until_it_is_taken,
    an_address_that_is_refused_is_not_asked,
);

/// A server that answers with the statuses that it is given, and tells what it was sent.
pub(super) struct Receiver {
    pub(super) url: String,
    pub(super) posts: mpsc::Receiver<(HeaderMap, Value)>,
}

#[derive(Clone)]
struct Served {
    statuses: Arc<Mutex<VecDeque<u16>>>,
    posts: mpsc::Sender<(HeaderMap, Value)>,
}

async fn receive(State(served): State<Served>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let document = serde_json::from_slice(&body).expect("a document");
    served
        .posts
        .send((headers, document))
        .await
        .expect("a test");
    let status = served.statuses.lock().expect("a lock").pop_front();
    StatusCode::from_u16(status.unwrap_or(204)).expect("a status")
}

pub(super) async fn receiver(statuses: &[u16]) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (posts, received) = mpsc::channel(16);
    let served = Served {
        statuses: Arc::new(Mutex::new(statuses.iter().copied().collect())),
        posts,
    };
    let routes = Router::new()
        .route("/done", post(receive))
        .with_state(served);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Receiver {
        url: format!("http://{address}/done"),
        posts: received,
    }
}

fn settings(allow: &[&str]) -> CallsSettings {
    let defaults = CallsSettings::default();
    CallsSettings {
        callbacks: CallbackSettings {
            allow: allow
                .iter()
                .map(|network| network.parse().expect("a network"))
                .collect(),
            ..defaults.callbacks.clone()
        },
        ..defaults
    }
}

async fn run_with_callback(node: &Node, func: &Func, url: &str) -> CallId {
    let mut runner = node.runner("runner", 1, 1).await;
    let options = CallOptions {
        callback_url: Some(url.to_owned()),
        ..CallOptions::default()
    };
    let id = node.enqueue(func, options).await;
    let call = runner.next().await;
    runner.run(&call, answered(200, "output")).await;
    id
}

async fn an_outcome_is_posted_until_it_is_taken(f: Fixture) {
    let node = Node::with(&f, settings(&["127.0.0.0/8"])).await;
    let func = func(&f, "a").await;
    let mut receiver = receiver(&[500, 302]).await;
    let id = run_with_callback(&node, &func, &receiver.url).await;
    let mut deliveries = vec![];
    for number in 1..=3 {
        let received = timeout(SOON, receiver.posts.recv()).await;
        let (headers, document) = received.expect("in time").expect("a post");
        assert_eq!(document["call"]["id"], id.as_str());
        assert_eq!(document["call"]["status"], "success");
        assert_eq!(document["result"]["body"], "output");
        assert_eq!(headers["hearth-delivery-try"], number.to_string());
        deliveries.push(headers["hearth-delivery-id"].clone());
    }
    assert!(deliveries.iter().all(|delivery| delivery == deliveries[0]));
    assert_eq!(node.record(&id).await.status, CallState::Success);
    // Nothing is due any more, however long one waits.
    until("it is noted", || async {
        let due = node.calls.store().due_callbacks(Duration::ZERO, 10).await;
        due.expect("an answer").is_empty()
    })
    .await;
}

async fn an_address_that_is_refused_is_not_asked(f: Fixture) {
    let node = Node::with(&f, settings(&[])).await;
    let func = func(&f, "a").await;
    let mut receiver = receiver(&[]).await;
    let local = receiver.url.replace("127.0.0.1", "localhost");
    for url in [&receiver.url, &local] {
        run_with_callback(&node, &func, url).await;
    }
    until("both were tried", || async {
        node.metrics.callbacks_of("failed") >= 2
    })
    .await;
    assert!(receiver.posts.try_recv().is_err());
}
