//! Mutual TLS between the nodes.

use std::sync::Arc;

use hearth_tests::authority::Authority;
use hearth_tests::cluster::Shape;
use hearth_tests::process::Process;
use hearth_tests::{Cluster, eventually};
use serde_json::json;

use super::{Load, hello};

const NODES: [&str; 4] = ["api-0", "api-1", "runner-0", "lb-0"];

async fn cluster(authority: &Arc<Authority>) -> Cluster {
    Cluster::start(Shape {
        lbs: 1,
        runners: 1,
        authority: Some(Arc::clone(authority)),
        ..Shape::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_call_fails() {
    let old = Arc::new(Authority::new("old"));
    let new = Authority::new("new");
    let cluster = cluster(&old).await;
    let hello = hello(&cluster).await;
    hello.call("").await.expect(200);
    let load = Load::start(&cluster, &hello, 4);
    let taken_over = async |times: usize| {
        let nodes = cluster
            .apis
            .iter()
            .chain(&cluster.runners)
            .chain(&cluster.lbs);
        for node in nodes {
            eventually("the node takes the files over", async || {
                let text = node.log_text();
                (text.matches("certificates reloaded").count() >= times).then_some(())
            })
            .await;
        }
    };
    // Both are trusted first, then the certificates change, and at last the old authority goes.
    let steps: [(&Authority, &[&Authority]); 3] = [
        (&old, &[&old, &new]),
        (&new, &[&old, &new]),
        (&new, &[&new]),
    ];
    for (step, (signer, trusted)) in steps.into_iter().enumerate() {
        for node in NODES {
            signer.equip(&cluster.place(node), node, trusted);
        }
        taken_over(step + 1).await;
    }
    load.stop().await;
    for lb in &cluster.lbs {
        cluster.all_runners_known(lb).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_the_right_certificate_is_talked_to() {
    let authority = Arc::new(Authority::new("the cluster's"));
    let cluster = cluster(&authority).await;
    let hello = hello(&cluster).await;
    hello.call("").await.expect(200);
    let other = Authority::new("somebody else");
    let api = cluster.apis[0].grpc_address().to_owned();
    let runner = cluster.runners[0].grpc_address().to_owned();
    let strangers: [(&str, Option<&Authority>); 2] = [
        ("without-certificate", None),
        ("of-another-authority", Some(&other)),
    ];
    for (name, signer) in strangers {
        let place = cluster.place(name);
        std::fs::create_dir(&place).expect("a directory");
        let mut settings = vec![
            ("FN_RUNNER_API_URL".to_owned(), api.clone()),
            ("FN_RUNNER_ADDRESSES".to_owned(), runner.clone()),
        ];
        if let Some(signer) = signer {
            signer.equip(&place, name, &[&authority, signer]);
            settings.extend(Authority::settings(&place));
        }
        let mut stranger = Process::new("lb", &place, settings);
        stranger.start().await;
        // It learns nothing of functions,
        let answer = hello.through(&stranger.client()).call("").await;
        assert_eq!(answer.status, 503, "{name}: {answer:?}");
        // and of runners only that they do not answer.
        let nodes = stranger.client().get("/1/lb/nodes").await;
        assert_ne!(nodes.json()["nodes"][&runner], json!("online"), "{name}");
    }
    hello.call("").await.expect(200);
}
