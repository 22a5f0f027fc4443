//! Runners that register, drain, leave and vanish, and those who watch them.

use std::time::Duration;

use api_node::hybrid::HybridSettings;
use domain::{HostPort, RegisteredRunner};
use hybrid_client::{RegisteredRunners, Registration};
use proto::hybrid::{RegisterRequest, RunnerList, WatchRunnersRequest};
use tokio::time::timeout;
use tonic::Streaming;

use super::node::{Node, client_of, postgres, sqlite};
use super::{DEADLINE, until};

fn runner(id: &str, address: &str) -> RegisteredRunner {
    RegisteredRunner {
        id: id.into(),
        address: HostPort::parse(address).expect("an address"),
        version: "1".into(),
        draining: false,
    }
}

/// Waits until exactly these runners are listed.
async fn listed(watch: &RegisteredRunners, expected: &[&RegisteredRunner]) {
    let mut list = watch.list();
    let waiting = list.wait_for(|list| {
        list.as_ref()
            .is_some_and(|list| list.iter().eq(expected.iter().copied()))
    });
    let in_time = timeout(DEADLINE, waiting).await.is_ok();
    let found = watch.list().borrow().clone();
    assert!(in_time, "{found:?} instead of {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_listed_by_all_api_nodes_until_it_leaves() {
    let url = postgres().await;
    let (a, b) = (Node::start(&url).await, Node::start(&url).await);
    let watches = [&a, &b].map(|node| RegisteredRunners::watch(client_of(&[node])));
    let all_list = async |expected: &[&RegisteredRunner]| {
        for watch in &watches {
            listed(watch, expected).await;
        }
    };
    all_list(&[]).await;
    let (mut first, second) = (runner("one", "host:1"), runner("two", "host:2"));
    let one = Registration::start(client_of(&[&a]), first.clone());
    all_list(&[&first]).await;
    until("it knows", async || *one.registered().borrow()).await;
    let two = Registration::start(client_of(&[&b]), second.clone());
    all_list(&[&first, &second]).await;
    one.set_draining(true);
    first.draining = true;
    all_list(&[&first, &second]).await;
    one.close().await;
    all_list(&[&second]).await;
    drop(two);
    all_list(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runners_with_one_address_the_newer_is_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&sqlite(directory.path())).await;
    let watch = RegisteredRunners::watch(client_of(&[&node]));
    let (old, new) = (runner("z-old", "host:1"), runner("a-new", "host:1"));
    let _older = Registration::start(client_of(&[&node]), old.clone());
    listed(&watch, &[&old]).await;
    let newer = Registration::start(client_of(&[&node]), new.clone());
    listed(&watch, &[&new]).await;
    newer.close().await;
    listed(&watch, &[&old]).await;
}

async fn next(stream: &mut Streaming<RunnerList>) -> Vec<String> {
    let message = timeout(DEADLINE, stream.message()).await.expect("in time");
    let list = message.expect("no error").expect("a list");
    list.runners
        .into_iter()
        .map(|runner| runner.runner_id)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_vanishes_is_off_the_list_when_its_lease_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = HybridSettings {
        lease: Duration::from_millis(300),
        runner_poll: Duration::from_millis(20),
        ..HybridSettings::default()
    };
    let address = ([127, 0, 0, 1], 0).into();
    let node = Node::start_at(address, &sqlite(directory.path()), settings).await;
    let mut client = node.client();
    let mut stream = client
        .watch_runners(WatchRunnersRequest {})
        .await
        .expect("a watch")
        .into_inner();
    assert_eq!(next(&mut stream).await, [""; 0]);
    let request = RegisterRequest {
        runner_id: "one".to_owned(),
        address: "host:1".to_owned(),
        version: "1".to_owned(),
        draining: false,
    };
    client.register(request).await.expect("registered");
    // The whole list at each change, and nothing in between.
    assert_eq!(next(&mut stream).await, ["one"]);
    assert_eq!(next(&mut stream).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_survives_an_outage_of_all_api_nodes() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = HybridSettings {
        lease: Duration::from_millis(500),
        renew_after: Duration::from_millis(100),
        runner_poll: Duration::from_millis(20),
    };
    let address = ([127, 0, 0, 1], 0).into();
    let url = sqlite(directory.path());
    let mut node = Node::start_at(address, &url, settings.clone()).await;
    let watch = RegisteredRunners::watch(client_of(&[&node]));
    let one = runner("one", "host:1");
    let registration = Registration::start(client_of(&[&node]), one.clone());
    listed(&watch, &[&one]).await;

    node.kill();
    let mut list = watch.list();
    list.mark_unchanged();
    let registered = registration.registered();
    until("the lease is over", async || !*registered.borrow()).await;
    let back = Node::start_at(node.address, &url, settings).await;
    until("registered again", async || *registered.borrow()).await;
    // Another runner shows that the watch is back.
    let two = runner("two", "host:2");
    let _other = Registration::start(client_of(&[&back]), two.clone());
    let changed = timeout(DEADLINE, list.changed()).await;
    changed.expect("in time").expect("a watch");
    let both = list.borrow_and_update().clone().expect("a list");
    assert_eq!(*both, [one, two], "nobody was off the list meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_listed_through_the_client() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&sqlite(directory.path())).await;
    let client = client_of(&[&node]);
    let address = HostPort::parse("lb:8080").expect("an address");
    client.add_listed_node(&address).await.expect("added");
    assert_eq!(client.listed_nodes().await.expect("a list"), ["lb:8080"]);
    client.remove_listed_node(&address).await.expect("removed");
    assert_eq!(client.listed_nodes().await.expect("a list"), [""; 0]);
}
