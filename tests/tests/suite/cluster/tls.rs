//! Mutual TLS between the nodes.

use std::sync::Arc;

use hearth_tests::authority::Authority;
use hearth_tests::cluster::Shape;
use hearth_tests::process::Process;
use hearth_tests::{Cluster, eventually};
use nodekit::config::GrpcConfig;
use nodekit::grpc_channel::{GrpcChannels, GrpcPeer, PeerKind};
use nodekit::tls::{NodeTls, Role};
use proto::hybrid::hybrid_client::HybridClient;
use proto::hybrid::{AddNodeRequest, GetFnRequest, RegisterRequest};
use proto::runner::runner_protocol_client::RunnerProtocolClient;
use serde_json::json;
use tonic::Code;

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
        ("lb-without-certificate", None),
        ("lb-of-another-authority", Some(&other)),
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

/// A connection of the node `name`, whose certificate the cluster's authority signed.
fn peer(
    cluster: &Cluster,
    authority: &Authority,
    name: &str,
    address: &str,
    role: Role,
) -> GrpcPeer {
    let place = cluster.place(&format!("{name}-as-a-client"));
    if !place.exists() {
        std::fs::create_dir(&place).expect("a directory");
        authority.equip(&place, name, &[authority]);
    }
    let file = |name: &str| place.join(name).display().to_string();
    let config = GrpcConfig {
        node_cert: file("cert.pem"),
        node_cert_key: file("key.pem"),
        node_cert_authority: file("authority.pem"),
        ..GrpcConfig::default()
    };
    let tls = NodeTls::load(&config).expect("good files");
    let channels = GrpcChannels::new(&config, tls, role);
    let address = channels.address(address).expect("an address");
    channels
        .connect(address, PeerKind::Hearth)
        .expect("a channel")
}

fn code<T>(answer: Result<T, tonic::Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Whoever has the certificate of one runner can neither read functions, nor change what load
/// balancers see, nor act for another runner, nor give calls to one.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_runner_is_good_for_that_runner_alone() {
    let authority = Arc::new(Authority::new("the cluster's"));
    let cluster = cluster(&authority).await;
    let hello = hello(&cluster).await;
    hello.call("").await.expect(200);
    let api = cluster.apis[0].grpc_address().to_owned();
    let runner = cluster.runners[0].grpc_address().to_owned();
    let to_api = |name: &str| {
        let peer = peer(&cluster, &authority, name, &api, Role::Api);
        HybridClient::new(peer.channel())
    };
    let to_runner = |name: &str| {
        let peer = peer(&cluster, &authority, name, &runner, Role::Runner);
        RunnerProtocolClient::new(peer.channel())
    };
    let get = GetFnRequest {
        id: "unknown".to_owned(),
    };
    let register = |id: &str| RegisterRequest {
        runner_id: id.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        version: "1".to_owned(),
        draining: false,
    };
    let denied = Code::PermissionDenied;

    let mut thief = to_api("runner-7");
    assert_eq!(code(thief.get_fn(get.clone()).await), denied);
    let node = AddNodeRequest {
        address: "127.0.0.1:1".to_owned(),
    };
    assert_eq!(code(thief.add_node(node).await), denied);
    assert_eq!(code(thief.register(register("runner-0")).await), denied);
    assert_eq!(code(thief.register(register("runner-7")).await), Code::Ok);
    assert_eq!(code(to_runner("runner-7").status(()).await), denied);
    assert_eq!(code(to_runner("api-7").status(()).await), denied);

    let mut lb = to_api("lb-7");
    assert_eq!(code(lb.get_fn(get).await), Code::NotFound);
    assert_eq!(code(lb.register(register("lb-7")).await), denied);
    assert_eq!(code(to_runner("lb-7").status(()).await), Code::Ok);

    // A runner is not talked to as an API node, nor the other way round.
    let peer = |address: &str, role| peer(&cluster, &authority, "lb-7", address, role);
    let get = GetFnRequest { id: "x".to_owned() };
    let mistaken = HybridClient::new(peer(&runner, Role::Api).channel())
        .get_fn(get)
        .await;
    assert_eq!(code(mistaken), Code::Unavailable);
    let mut mistaken = RunnerProtocolClient::new(peer(&api, Role::Runner).channel());
    assert_eq!(code(mistaken.status(()).await), Code::Unavailable);
    hello.call("").await.expect(200);
}
