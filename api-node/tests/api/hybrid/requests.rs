//! Requests that no client of ours sends: every refusal names its field.

use proto::hybrid::get_app_request::By;
use proto::hybrid::hybrid_client::HybridClient;
use proto::hybrid::{
    AddNodeRequest, DeregisterRequest, GetAppRequest, GetFnRequest, GetTriggerRequest,
    ListNodesRequest, RegisterRequest, RemoveNodeRequest,
};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::node::{Node, sqlite};

async fn start() -> (HybridClient<Channel>, Node, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&sqlite(directory.path())).await;
    (node.client(), node, directory)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<Response<T>, Status>, field: &str) {
    let status = result.expect_err("must be refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with(field), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads() {
    let (mut client, _node, _directory) = start().await;
    refused(client.get_app(GetAppRequest { by: None }).await, "by:");
    let trigger = |app_id: &str, kind: &str, source: &str| GetTriggerRequest {
        app_id: app_id.to_owned(),
        r#type: kind.to_owned(),
        source: source.to_owned(),
    };
    refused(
        client.get_trigger(trigger("", "http", "/s")).await,
        "app_id:",
    );
    refused(client.get_trigger(trigger("a", "", "/s")).await, "type:");
    refused(
        client.get_trigger(trigger("a", "queue", "/s")).await,
        "type:",
    );
    refused(
        client.get_trigger(trigger("a", "http", "")).await,
        "source:",
    );
    refused(
        client.get_fn(GetFnRequest { id: String::new() }).await,
        "Missing Fn ID",
    );
    let too_long = By::Name("a".repeat(100_000));
    let request = GetAppRequest { by: Some(too_long) };
    let status = client.get_app(request).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations() {
    let (mut client, _node, _directory) = start().await;
    let good = RegisterRequest {
        runner_id: "r".to_owned(),
        address: "runner:9190".to_owned(),
        version: "1".to_owned(),
        draining: false,
    };
    let reply = client.register(good.clone()).await.expect("registered");
    let reply = reply.into_inner();
    assert_eq!((reply.lease_ms, reply.renew_after_ms), (3000, 1000));
    let long = "a".repeat(256);
    for id in ["", "a b", "\u{e4}", "a\0", &long] {
        let request = RegisterRequest {
            runner_id: id.to_owned(),
            ..good.clone()
        };
        refused(client.register(request).await, "runner_id:");
        let runner_id = id.to_owned();
        refused(
            client.deregister(DeregisterRequest { runner_id }).await,
            "runner_id:",
        );
    }
    for address in [
        "",
        "runner",
        "runner:0",
        "http://runner:1",
        ":1",
        "a b:1",
        "0.0.0.0:1",
        "[::]:1",
    ] {
        let request = RegisterRequest {
            address: address.to_owned(),
            ..good.clone()
        };
        refused(client.register(request).await, "address:");
    }
    for version in ["", "a\0", &long] {
        let request = RegisterRequest {
            version: version.to_owned(),
            ..good.clone()
        };
        refused(client.register(request).await, "version:");
    }
}

/// spec/07 7.2
#[tokio::test(flavor = "multi_thread")]
async fn listed_nodes() {
    let (mut client, _node, _directory) = start().await;
    for address in ["b:2", "a:1", "b:2"] {
        let address = address.to_owned();
        client
            .add_node(AddNodeRequest { address })
            .await
            .expect("added");
    }
    for address in ["unknown:1", "b:2", "b:2"] {
        let address = address.to_owned();
        client
            .remove_node(RemoveNodeRequest { address })
            .await
            .expect("removed");
    }
    let list = client
        .list_nodes(ListNodesRequest {})
        .await
        .expect("a list");
    assert_eq!(list.into_inner().addresses, ["a:1"]);
    for address in ["", "runner"] {
        let address = address.to_owned();
        let request = AddNodeRequest {
            address: address.clone(),
        };
        refused(client.add_node(request).await, "address:");
        refused(
            client.remove_node(RemoveNodeRequest { address }).await,
            "address:",
        );
    }
}
