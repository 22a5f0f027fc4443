//! The management API (spec/07 7.2, 7.4).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::{ApiError, ErrorCode, HostPort};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use lb::management::Management;
use lb::runners::NodeStore;
use nodekit::body::{self, Body};
use tower::ServiceExt as _;

use crate::balancer::{Balancer, Options, until};
use crate::peer::{Net, Peer};

/// Nodes in memory, or a store that is down.
#[derive(Default)]
struct Nodes {
    listed: Mutex<BTreeSet<HostPort>>,
    down: std::sync::atomic::AtomicBool,
}

impl Nodes {
    fn check(&self) -> Result<(), ApiError> {
        match self.down.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(ApiError::from(ErrorCode::StoreUnavailable).detail("password=hunter2")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl NodeStore for Nodes {
    async fn list(&self) -> Result<Vec<HostPort>, ApiError> {
        self.check()?;
        Ok(self
            .listed
            .lock()
            .expect("not poisoned")
            .iter()
            .cloned()
            .collect())
    }

    async fn add(&self, node: &HostPort) -> Result<(), ApiError> {
        self.check()?;
        self.listed
            .lock()
            .expect("not poisoned")
            .insert(node.clone());
        Ok(())
    }

    async fn remove(&self, node: &HostPort) -> Result<(), ApiError> {
        self.check()?;
        self.listed.lock().expect("not poisoned").remove(node);
        Ok(())
    }
}

struct Api {
    balancer: Balancer,
    nodes: Arc<Nodes>,
}

impl Api {
    fn new(net: &Net, addresses: &[&str]) -> Self {
        let nodes = Arc::new(Nodes::default());
        let mut options = Options::at(addresses);
        options.sources.nodes = Some(nodes.clone());
        let balancer = Balancer::with(Arc::new(net.clone()), options);
        Self { balancer, nodes }
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (u16, serde_json::Value) {
        let fallback = tower::service_fn(|request: Request<Body>| async move {
            Ok(Response::new(body::full(format!(
                "\"fallback {}\"",
                request.uri()
            ))))
        });
        let service = Management::new(self.balancer.runners.clone(), self.nodes.clone(), fallback);
        let request = Request::builder().method(method).uri(path);
        let request = request
            .body(body::full(body.to_owned()))
            .expect("a request");
        let answer = service.oneshot(request).await.expect("never fails");
        let status = answer.status().as_u16();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_added_listed_and_deleted() {
    let net = Net::default();
    Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
    let api = Api::new(&net, &[]);
    let empty = serde_json::json!({ "nodes": {} });
    assert_eq!(
        api.ask(Method::GET, "/1/lb/nodes", "").await,
        (200, empty.clone())
    );
    let added = serde_json::json!({ "msg": "node added" });
    let node = r#"{"node":"b:1"}"#;
    for _ in 0..2 {
        let answer = api.ask(Method::PUT, "/1/lb/nodes", node).await;
        assert_eq!(answer, (200, added.clone()));
    }
    until(|| api.balancer.runners.view().len() == 1).await;
    api.balancer.echo(b"x").await.expect("it is a runner");
    let online = serde_json::json!({ "nodes": { "b:1": "online" } });
    assert_eq!(api.ask(Method::GET, "/1/lb/nodes", "").await, (200, online));
    let deleted = serde_json::json!({ "msg": "node deleted" });
    let answer = api.ask(Method::DELETE, "/1/lb/nodes", node).await;
    assert_eq!(answer, (200, deleted));
    until(|| api.balancer.runners.view().is_empty()).await;
    assert_eq!(api.ask(Method::GET, "/1/lb/nodes", "").await, (200, empty));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_node_is_refused_by_its_name_and_errors_say_nothing_inside() {
    let api = Api::new(&Net::default(), &[]);
    for (body, part) in [
        ("", "EOF"),
        ("{}", "node"),
        (r#"{"node":1}"#, "string"),
        (r#"{"node":"b"}"#, "node: must be host:port"),
    ] {
        for method in [Method::PUT, Method::DELETE] {
            let (status, answer) = api.ask(method, "/1/lb/nodes", body).await;
            let told = answer["msg"].as_str().expect("a message").to_owned();
            assert!(status == 400 && told.contains(part), "{status} {told}");
        }
    }
    let long = "x".repeat(20_000);
    assert_eq!(api.ask(Method::PUT, "/1/lb/nodes", &long).await.0, 400);
    api.nodes
        .down
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let (status, answer) = api.ask(Method::GET, "/1/lb/nodes", "").await;
    assert_eq!(
        (status, answer["msg"].as_str()),
        (500, Some("Datastore unavailable"))
    );
}

/// What was listed last holds while the store is down.
#[tokio::test(start_paused = true)]
async fn runners_stay_while_the_store_is_down() {
    let net = Net::default();
    Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
    let api = Api::new(&net, &[]);
    api.ask(Method::PUT, "/1/lb/nodes", r#"{"node":"b:1"}"#)
        .await;
    until(|| api.balancer.runners.view().len() == 1).await;
    api.nodes
        .down
        .store(true, std::sync::atomic::Ordering::SeqCst);
    until(|| !api.balancer.has_metric("fn_lb_placer_rp_error_count 0")).await;
    api.balancer.echo(b"x").await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn other_verbs_are_empty_and_other_paths_the_fallbacks() {
    let api = Api::new(&Net::default(), &[]);
    for path in ["/1/lb/nodes", "/1/lb/stats"] {
        let answer = api.ask(Method::POST, path, "x").await;
        assert_eq!(answer, (200, serde_json::Value::Null));
    }
    let (_, answer) = api.ask(Method::GET, "/1/lb/nodes/", "").await;
    assert_eq!(answer, "fallback /1/lb/nodes/");
}

#[tokio::test(start_paused = true)]
async fn stats_are_what_happened_since_the_last_look() {
    let net = Net::default();
    Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
    let api = Api::new(&net, &["b:1"]);
    let empty = serde_json::json!({ "stats": [] });
    assert_eq!(
        api.ask(Method::GET, "/1/lb/stats", "").await,
        (200, empty.clone())
    );
    for _ in 0..3 {
        api.balancer.echo(b"x").await.expect("an answer");
    }
    let (_, stats) = api.ask(Method::GET, "/1/lb/stats", "").await;
    let line = &stats["stats"][0];
    assert_eq!(
        (&line["tp"], &line["node"], &line["func"]),
        (&3.into(), &"b:1".into(), &"F".into())
    );
    assert!(
        line["timestamp"].is_string() && line["wait"] == 0.0,
        "{line}"
    );
    assert_eq!(api.ask(Method::GET, "/1/lb/stats", "").await, (200, empty));
}
