//! What API nodes tell load balancers and runners, and what goes on without them.

use hearth_tests::cluster::Shape;
use hearth_tests::{Cluster, Deployed, eventually};
use serde_json::json;

use super::{Load, hello};

#[tokio::test(flavor = "multi_thread")]
async fn an_update_through_one_api_node_reaches_every_load_balancer() {
    let cluster = Cluster::start(Shape {
        // Without the push nobody would ask again during this test.
        settings: vec![("FN_CACHE_TTL".to_owned(), "1h".to_owned())],
        runners: 1,
        ..Shape::default()
    })
    .await;
    let func = Deployed::test_function(&cluster.api(0), "updated", json!({})).await;
    let version = async |lb: usize| {
        let answer = func.through(&cluster.lb(lb)).call_json(json!({})).await;
        answer.expect(200).json()["config"]["VERSION"].clone()
    };
    for lb in 0..2 {
        assert_eq!(version(lb).await, json!(null));
    }
    let change = json!({ "config": { "VERSION": "2" } });
    let path = format!("/v2/fns/{}", func.fn_id);
    let updated = cluster.api(1).put(&path, change.to_string()).await;
    updated.expect(200);
    for lb in 0..2 {
        eventually("the new version is called", async || {
            (version(lb).await == json!("2")).then_some(())
        })
        .await;
    }
    cluster.api(0).delete(&path).await.expect(204);
    for lb in 0..2 {
        eventually("the function is gone", async || {
            let answer = func.through(&cluster.lb(lb)).call("").await;
            (answer.status == 404).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_functions_go_on_without_any_api_node() {
    let mut cluster = Cluster::start(Shape {
        // Everything that is known is out of date at once.
        settings: vec![("FN_CACHE_TTL".to_owned(), "100ms".to_owned())],
        runners: 2,
        ..Shape::default()
    })
    .await;
    let hello = hello(&cluster).await;
    // Load balancers that were there before it still have to hear that it is new, and forget it then.
    for lb in &mut cluster.lbs {
        lb.kill();
        lb.start().await;
    }
    for lb in 0..2 {
        cluster.all_runners_known(&cluster.lbs[lb]).await;
        hello.through(&cluster.lb(lb)).call("").await.expect(200);
    }
    let load = Load::start(&cluster, &hello, 4);
    for api in &mut cluster.apis {
        api.kill();
    }
    for _ in 0..200 {
        hello.call("").await.expect(200);
    }
    // What nobody knows cannot be asked for: that is no 404.
    let unknown = cluster.lb(0).post("/invoke/unknown", "").await;
    assert_eq!(unknown.status, 503, "{unknown:?}");
    for api in &mut cluster.apis {
        api.start().await;
        api.ready().await;
    }
    eventually("what does not exist is known again", async || {
        let answer = cluster.lb(0).post("/invoke/unknown", "").await;
        (answer.status == 404).then_some(())
    })
    .await;
    load.stop().await;
    let func = Deployed::test_function(&cluster.api(1), "new", json!({})).await;
    func.through(&cluster.lb(1))
        .call_json(json!({}))
        .await
        .expect(200);
}
