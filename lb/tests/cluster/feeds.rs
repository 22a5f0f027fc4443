//! What runners tell of themselves, and how they are asked.

use std::time::Duration;

use lb::placement::Health;
use proto::runner_extension::{NodeLoad, StateUpdate};

use crate::balancer::{Balancer, until};
use crate::peer::{Answering, Net, Peer};

fn update(running: u32, draining: bool) -> StateUpdate {
    StateUpdate {
        complete: true,
        load: Some(NodeLoad {
            running,
            memory_free_bytes: 1 << 30,
            cpu_total_millis: 1000,
            ..NodeLoad::default()
        }),
        draining,
        heartbeat_ms: 1000,
        ..StateUpdate::default()
    }
}

fn load(balancer: &Balancer) -> u32 {
    balancer
        .runners
        .view()
        .first()
        .map_or(0, |runner| runner.load)
}

fn health(balancer: &Balancer, address: &str) -> Option<Health> {
    let view = balancer.runners.view();
    let found = view.iter().find(|runner| &*runner.address == address);
    found.map(|runner| runner.health)
}

#[tokio::test(start_paused = true)]
async fn the_feed_is_taken_in_as_it_comes() {
    let net = Net::default();
    let peer = Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    peer.tell(update(3, false));
    let balancer = Balancer::new(&net, &["a:1"]);
    until(|| load(&balancer) == 3).await;
    peer.tell(update(7, false));
    until(|| load(&balancer) == 7).await;
    assert_eq!(peer.watches(), 1);
    peer.tell(update(7, true));
    until(|| health(&balancer, "a:1") == Some(Health::Draining)).await;
    assert!(balancer.echo(b"x").await.is_err(), "it takes no calls");
    peer.tell(update(0, false));
    until(|| health(&balancer, "a:1") == Some(Health::Healthy)).await;
    balancer.echo(b"x").await.expect("an answer");
}

/// Three heartbeats without a word.
#[tokio::test(start_paused = true)]
async fn a_feed_that_falls_silent_is_lost_and_asked_for_again() {
    let net = Net::default();
    let peer = Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    peer.tell(update(3, false));
    let balancer = Balancer::new(&net, &["a:1"]);
    until(|| load(&balancer) == 3).await;
    tokio::time::sleep(Duration::from_millis(2900)).await;
    assert_eq!((load(&balancer), peer.watches()), (3, 1));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(load(&balancer), 0, "nothing is known of others' calls");
    until(|| peer.watches() == 2 && load(&balancer) == 3).await;
    balancer
        .echo(b"x")
        .await
        .expect("it is a runner all the same");
}

#[tokio::test(start_paused = true)]
async fn a_runner_without_a_feed_is_asked_seldom_and_given_calls() {
    let net = Net::default();
    let peer = Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    let balancer = Balancer::new(&net, &["a:1"]);
    balancer.echo(b"x").await.expect("an answer");
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(peer.watches(), 1);
    balancer.echo(b"x").await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_does_not_say_how_it_is_is_ejected_and_comes_back() {
    for how in [Answering::Never, Answering::Failing] {
        let net = Net::default();
        let sick = Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
        Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
        let balancer = Balancer::new(&net, &["a:1", "b:1"]);
        let is_ejected = || matches!(health(&balancer, "a:1"), Some(Health::Ejected { .. }));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!is_ejected());
        sick.answer_status(how);
        until(is_ejected).await;
        let before = sick.ledger().len();
        for _ in 0..10 {
            balancer.echo(b"x").await.expect("the other one");
        }
        assert_eq!(sick.ledger().len(), before, "{how:?}");
        sick.answer_status(Answering::Well);
        until(|| !is_ejected()).await;
    }
}

/// The end of its connections is noticed at once, not at the next look.
#[tokio::test(start_paused = true)]
async fn a_runner_that_is_killed_is_asked_at_once_and_then_left_alone() {
    let net = Net::default();
    let peer = Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
    let balancer = Balancer::new(&net, &["a:1", "b:1"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    net.remove("a:1");
    peer.cut();
    let killed = tokio::time::Instant::now();
    for _ in 0..50 {
        balancer.echo(b"x").await.expect("the other one");
    }
    until(|| matches!(health(&balancer, "a:1"), Some(Health::Ejected { .. }))).await;
    assert!(
        killed.elapsed() < Duration::from_secs(3),
        "{:?}",
        killed.elapsed()
    );
    assert!(peer.ledger().is_empty() || peer.ledger().len() < 50);
    Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    until(|| !matches!(health(&balancer, "a:1"), Some(Health::Ejected { .. }))).await;
}
