//! API nodes that stop, die and come back.

use std::sync::Arc;
use std::time::Duration;

use api_node::hybrid::HybridSettings;
use domain::{Change, ErrorCode};
use hybrid_client::{CacheSettings, CachedControlPlane, ControlPlane, RemoteControlPlane};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use super::node::{Node, client_of, postgres, sqlite};
use super::{DEADLINE, until};

async fn told(changes: &mut Receiver<Change>, expected: Change) {
    let waiting = async { while changes.recv().await.expect("not too many") != expected {} };
    timeout(DEADLINE, waiting).await.expect("told in time");
}

async fn the_next_node_takes_over(end: impl FnOnce(&mut Node)) {
    let url = postgres().await;
    let (mut a, b) = (Node::start(&url).await, Node::start(&url).await);
    let app = b.app("a").await;
    let plane = RemoteControlPlane::new(client_of(&[&a, &b]));
    let mut changes = plane.changes();
    told(&mut changes, Change::Everything).await;
    plane.app(&app.id).await.expect("the first node answers");
    b.set_config(&app, "1").await;
    told(&mut changes, Change::App(app.id.clone())).await;
    end(&mut a);
    // No read fails, whichever way the node goes.
    for _ in 0..20 {
        plane.app(&app.id).await.expect("the second node answers");
    }
    // What may have changed meanwhile, and what changes from then on.
    told(&mut changes, Change::Everything).await;
    b.set_config(&app, "2").await;
    told(&mut changes, Change::App(app.id.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_node_takes_over_from_a_killed_one() {
    the_next_node_takes_over(Node::kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_node_takes_over_from_a_stopping_one() {
    the_next_node_takes_over(|node| node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_used_while_all_are_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(&sqlite(directory.path())).await;
    let app = node.app("a").await;
    let (func, other) = (node.func(&app, "f").await, node.func(&app, "g").await);
    node.trigger(&func, "t", "/t").await;
    let plane = RemoteControlPlane::new(client_of(&[&node]));
    let mut changes = plane.changes();
    let settings = CacheSettings {
        // Every lookup asks, so that it is the outage that is bridged.
        ttl: Duration::ZERO,
        stale_retry: Duration::ZERO,
        ..CacheSettings::default()
    };
    let cache = CachedControlPlane::new(Arc::new(plane), settings);
    told(&mut changes, Change::Everything).await;
    cache.target_by_fn(func.id.as_str()).await.expect("there");
    cache.target_by_trigger("a", "/t").await.expect("there");

    node.kill();
    for _ in 0..100 {
        let target = cache.target_by_fn(func.id.as_str()).await.expect("known");
        assert_eq!(target.spec.image, "image:1");
        cache.target_by_trigger("a", "/t").await.expect("known");
    }
    let unknown = cache.target_by_fn(other.id.as_str()).await;
    assert_eq!(
        unknown.expect_err("not known").code(),
        ErrorCode::StoreUnavailable
    );

    let settings = HybridSettings::default();
    let back = Node::start_at(node.address, &node.url, settings).await;
    told(&mut changes, Change::Everything).await;
    back.set_image(&func, "image:2").await;
    until("the new image is seen", async || {
        let target = cache.target_by_fn(func.id.as_str()).await.expect("there");
        target.spec.image == "image:2"
    })
    .await;
    cache.target_by_fn(other.id.as_str()).await.expect("there");
}
