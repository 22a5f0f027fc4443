//! A change through one API node is seen by the clients of every other one.

use std::sync::Arc;
use std::time::Duration;

use domain::ErrorCode;
use hybrid_client::{CacheSettings, CachedControlPlane, RemoteControlPlane};

use super::node::{Node, client_of, postgres};
use super::until;

/// A cache that asks again only when it is told to.
fn cache_of(nodes: &[&Node]) -> CachedControlPlane {
    let plane = RemoteControlPlane::new(client_of(nodes));
    let settings = CacheSettings {
        ttl: Duration::from_secs(3600),
        ..CacheSettings::default()
    };
    CachedControlPlane::new(Arc::new(plane), settings)
}

async fn image(cache: &CachedControlPlane, id: &str) -> Result<String, ErrorCode> {
    let target = cache.target_by_fn(id).await;
    target
        .map(|target| target.spec.image.clone())
        .map_err(|error| error.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_by_the_clients_of_all_api_nodes() {
    let url = postgres().await;
    let (a, b) = (Node::start(&url).await, Node::start(&url).await);
    let app = a.app("a").await;
    let func = a.func(&app, "f").await;
    a.trigger(&func, "t", "/t").await;
    let id = func.id.as_str();
    let caches = [cache_of(&[&a]), cache_of(&[&b])];
    let all_see = async |expected: Result<&str, ErrorCode>| {
        for cache in &caches {
            until("the change is seen", async || {
                image(cache, id).await.as_deref() == expected.as_ref().map(|image| *image)
            })
            .await;
        }
    };
    all_see(Ok("image:1")).await;
    for (n, node) in [&a, &b, &a, &b].into_iter().enumerate() {
        let image = format!("image:new-{n}");
        node.set_image(&func, &image).await;
        all_see(Ok(&image)).await;
    }
    for cache in &caches {
        cache.target_by_trigger("a", "/t").await.expect("a trigger");
    }
    b.store.delete_fn(&func.id).await.expect("deleted");
    all_see(Err(ErrorCode::FnNotFound)).await;
    for cache in &caches {
        until("the trigger is gone", async || {
            let found = cache.target_by_trigger("a", "/t").await;
            found.is_err_and(|error| error.code() == ErrorCode::TriggerNotFound)
        })
        .await;
    }
}
