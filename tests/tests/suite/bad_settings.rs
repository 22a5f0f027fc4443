//! Settings that cannot be followed: the start fails at once, and says which setting it was.

use std::process::Command;

use hearth_tests::authority::Authority;
use hearth_tests::{Deployed, Server, binary};
use serde_json::json;

#[test]
fn a_setting_that_cannot_be_followed_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let file = file.display().to_string();
    for (name, value) in [
        ("FN_PORT", "70000"),
        ("FN_DB_URL", "sqlite3://"),
        ("FN_DB_URL", "mysql://localhost/fn"),
        ("FN_DB_URL", "sqlite3:///proc/nowhere/fn.db"),
        ("FN_DOCKER_HOST", "unix:///nowhere/docker.sock"),
        ("FN_DOCKER_NETWORKS", "nowhere"),
        ("FN_DOCKER_AUTH", "{"),
        ("FN_DOCKER_LOAD_FILE", "/nowhere/images.tar"),
        ("FN_IOFS_PATH", &file),
        ("FN_RID_HEADER", "not a header"),
    ] {
        let output = Command::new(binary::hearth())
            .arg("up")
            .current_dir(directory.path())
            .env("FN_PORT", "0")
            .env("FN_IOFS_PATH", directory.path())
            .env("FN_LOG_LEVEL", "error")
            .env(name, value)
            .output()
            .expect("hearth runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}={value}: {said}");
        assert!(said.contains(name), "{name}={value}: {said}");
    }
}

#[test]
fn an_address_at_which_nobody_reaches_a_runner_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for address in ["runner", "runner:0", "0.0.0.0:9190", "[::]:9190"] {
        let output = Command::new(binary::hearth())
            .arg("runner")
            .current_dir(directory.path())
            .env("FN_PORT", "0")
            .env("FN_GRPC_PORT", "0")
            .env("FN_IOFS_PATH", directory.path())
            .env("FN_RUNNER_API_URL", "http://127.0.0.1:1")
            .env("FN_RUNNER_ADVERTISE_ADDRESS", address)
            .output()
            .expect("hearth runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{address}: {said}");
        assert!(
            said.contains("hearth: FN_RUNNER_ADVERTISE_ADDRESS: "),
            "{address}: {said}"
        );
    }
}

/// The others would refuse it, one call at a time.
#[test]
fn a_node_does_not_start_with_a_certificate_of_another_kind() {
    let authority = Authority::new("the cluster's");
    let directory = tempfile::tempdir().expect("a directory");
    for (kind, of) in [("api", "lb"), ("lb", "runner"), ("runner", "api")] {
        authority.equip(directory.path(), of, &[&authority]);
        let output = Command::new(binary::hearth())
            .arg(kind)
            .current_dir(directory.path())
            .env("FN_PORT", "0")
            .env("FN_GRPC_PORT", "0")
            .env("FN_IOFS_PATH", directory.path())
            .env("FN_RUNNER_API_URL", "https://127.0.0.1:1")
            .envs(Authority::settings(directory.path()))
            .output()
            .expect("hearth runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{kind}: {said}");
        let why = format!("FN_NODE_CERT: the certificate is for {of}, and not for {kind}");
        assert!(said.contains(&why), "{kind}: {said}");
    }
}

#[tokio::test]
async fn a_directory_for_sockets_may_be_named_from_the_working_directory() {
    let server = Server::start(&[("FN_IOFS_PATH", "iofs")]).await;
    Deployed::test_function(&server.client, "relative", json!({}))
        .await
        .call_json(json!({}))
        .await
        .expect(200);
}
