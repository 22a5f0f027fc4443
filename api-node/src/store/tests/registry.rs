//! Leases by the database's clock, and listed nodes.

use std::time::Duration;

use domain::{HostPort, RegisteredRunner};
use tokio::time::timeout;

use super::super::{RunnerLease, Store};
use super::{Fixture, contract};

contract!(
    a_runner_registers_renews_and_leaves,
    a_lease_ends_by_the_clock_of_the_database,
    only_a_change_is_told,
    another_server_hears_of_a_runner,
    a_new_address_is_a_new_registration,
    what_is_long_gone_is_forgotten,
    nodes_are_listed,
);

const LEASE: Duration = Duration::from_secs(60);

fn runner(id: &str, address: &str) -> RegisteredRunner {
    RegisteredRunner {
        id: id.into(),
        address: HostPort::parse(address).expect("an address"),
        version: "1".into(),
        draining: false,
    }
}

async fn register(store: &dyn Store, runner: &RegisteredRunner) {
    store
        .register_runner(runner, Some("owner"), LEASE)
        .await
        .expect("registered");
}

async fn leases(store: &dyn Store) -> Vec<RunnerLease> {
    store.runners().await.expect("a list").leases
}

async fn a_runner_registers_renews_and_leaves(f: Fixture) {
    let store = &*f.store;
    let mut a = runner("a", "host:1");
    register(store, &a).await;
    register(store, &runner("b", "host:2")).await;
    let first = leases(store).await;
    assert_eq!(first.len(), 2);
    assert_eq!(first[0].runner, a);
    assert_eq!(first[0].owner.as_deref(), Some("owner"));
    assert!((1..=60_000).contains(&first[0].left), "{first:?}");

    // As if time had gone by.
    f.sql("UPDATE runners SET lease_until = lease_until - 30000, registered_at = 5")
        .await;
    a.draining = true;
    a.version = "2".into();
    register(store, &a).await;
    let second = leases(store).await;
    assert_eq!((&second[0].runner, second[0].registered_at), (&a, 5));
    assert!(second[0].left > second[1].left + 20_000, "{second:?}");

    store.deregister_runner("a").await.expect("gone");
    store.deregister_runner("a").await.expect("still gone");
    assert_eq!(leases(store).await.len(), 1);
}

async fn a_lease_ends_by_the_clock_of_the_database(f: Fixture) {
    let store = &*f.store;
    let short = Duration::from_millis(50);
    store
        .register_runner(&runner("a", "host:1"), None, short)
        .await
        .expect("registered");
    let ended = async { while leases(store).await[0].left > 0 {} };
    timeout(Duration::from_secs(30), ended)
        .await
        .expect("the lease ends");
    register(store, &runner("a", "host:1")).await;
    assert!(leases(store).await[0].left > 0);
}

async fn only_a_change_is_told(f: Fixture) {
    let store = &*f.store;
    let changes = store.runner_changes();
    let count = || *changes.borrow();
    let mut a = runner("a", "host:1");
    let before = count();
    register(store, &a).await;
    assert_eq!(count(), before + 1);
    register(store, &a).await;
    assert_eq!(count(), before + 1, "renewed");
    a.draining = true;
    register(store, &a).await;
    assert_eq!(count(), before + 2, "draining");
    f.sql("UPDATE runners SET lease_until = lease_until - 61000")
        .await;
    register(store, &a).await;
    assert!(count() >= before + 3, "back");
    let before = count();
    store.deregister_runner("a").await.expect("gone");
    assert!(count() > before, "gone");
    let before = count();
    store.deregister_runner("unknown").await.expect("gone");
    // Writing behind the store's back counts for an SQLite file; nothing else does.
    assert!(count() <= before + 1);
}

async fn another_server_hears_of_a_runner(f: Fixture) {
    let other = f.open_again().await.expect("opens");
    let mut changes = other.runner_changes();
    changes.mark_unchanged();
    register(&*f.store, &runner("a", "host:1")).await;
    timeout(Duration::from_secs(30), changes.changed())
        .await
        .expect("told in time")
        .expect("the store is there");
    assert_eq!(leases(&*other).await.len(), 1);
}

async fn a_new_address_is_a_new_registration(f: Fixture) {
    let store = &*f.store;
    register(store, &runner("a", "host:1")).await;
    f.sql("UPDATE runners SET registered_at = 5").await;
    register(store, &runner("a", "host:2")).await;
    let lease = leases(store).await.remove(0);
    assert_eq!(lease.runner.address.as_str(), "host:2");
    assert!(lease.registered_at > 5);
}

async fn what_is_long_gone_is_forgotten(f: Fixture) {
    let store = &*f.store;
    register(store, &runner("a", "host:1")).await;
    f.sql("UPDATE runners SET lease_until = lease_until - 600000")
        .await;
    assert_eq!(leases(store).await.len(), 1, "it may still come back");
    f.sql("UPDATE runners SET lease_until = lease_until - 60000")
        .await;
    assert_eq!(leases(store).await, []);
    register(store, &runner("b", "host:2")).await;
    f.sql("UPDATE runners SET lease_until = lease_until + 660000")
        .await;
    assert_eq!(leases(store).await.len(), 1, "its row was deleted");
}

async fn nodes_are_listed(f: Fixture) {
    let store = &*f.store;
    for address in ["b:2", "a:1", "b:2"] {
        let address = HostPort::parse(address).expect("an address");
        store.add_node(&address).await.expect("added");
    }
    assert_eq!(store.nodes().await.expect("a list"), ["a:1", "b:2"]);
    for address in ["a:1", "a:1", "unknown:1"] {
        let address = HostPort::parse(address).expect("an address");
        store.remove_node(&address).await.expect("removed");
    }
    assert_eq!(store.nodes().await.expect("a list"), ["b:2"]);
}
