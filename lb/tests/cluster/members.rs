//! Runners that come and go.

use std::sync::Arc;
use std::time::Duration;

use domain::RegisteredRunner;
use lb::runners::{DirectoryWatch, RunnerDirectory};
use nodekit::body;
use tokio::sync::watch;

use crate::balancer::{Balancer, Options, call, host_port, until, whole};
use crate::peer::{Net, Peer, handed};

/// The list of registered runners, in the hands of a test.
struct Directory(watch::Sender<Option<Arc<[RegisteredRunner]>>>);

impl RunnerDirectory for Directory {
    fn runners(&self) -> DirectoryWatch {
        self.0.subscribe()
    }
}

impl Directory {
    fn list(&self, runners: &[(&str, &str, bool)]) {
        let runner = |(id, address, draining): &(&str, &str, bool)| RegisteredRunner {
            id: Arc::from(*id),
            address: host_port(address),
            version: "1".into(),
            draining: *draining,
        };
        self.0
            .send_replace(Some(runners.iter().map(runner).collect()));
    }
}

fn registered(net: &Net) -> (Arc<Directory>, Balancer) {
    let directory = Arc::new(Directory(watch::Sender::new(None)));
    let mut options = Options::at(&[]);
    options.sources.directory = Some(directory.clone());
    (directory, Balancer::with(Arc::new(net.clone()), options))
}

fn addresses(balancer: &Balancer) -> Vec<String> {
    let view = balancer.runners.view();
    view.iter()
        .map(|runner| runner.address.to_string())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn runners_join_and_leave_as_they_register() {
    let net = Net::default();
    let (script, mut exchanges) = handed();
    Peer::start(&net, "a:1", script);
    Peer::start(&net, "b:1", |exchange| Box::pin(exchange.echo()));
    let (directory, balancer) = registered(&net);
    let placed = balancer.placed.clone();
    let first =
        tokio::spawn(async move { lb::Runner::run(&*placed, call(body::full("first"))).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A call that waits goes to the first that joins, long before it would look itself.
    let joined = tokio::time::Instant::now();
    directory.list(&[("1", "a:1", false)]);
    let exchange = exchanges.recv().await.expect("a call");
    assert!(
        joined.elapsed() < Duration::from_millis(200),
        "{:?}",
        joined.elapsed()
    );
    // One that leaves keeps its calls and gets no new ones.
    directory.list(&[("1", "a:1", true), ("2", "b:1", false)]);
    until(|| addresses(&balancer) == ["b:1"]).await;
    assert_eq!(balancer.echo(b"x").await.expect("an answer").body, "x");
    tokio::time::sleep(Duration::from_secs(5)).await;
    exchange.echo().await;
    let first = first.await.expect("no panic").expect("an answer");
    assert_eq!(whole(first).await.expect("whole").body, "first");
}

#[tokio::test(start_paused = true)]
async fn another_process_at_an_address_is_another_runner() {
    let net = Net::default();
    Peer::start(&net, "a:1", |exchange| Box::pin(exchange.echo()));
    let (directory, balancer) = registered(&net);
    directory.list(&[("1", "a:1", false)]);
    until(|| addresses(&balancer) == ["a:1"]).await;
    let first = balancer.runners.view()[0].id;
    directory.list(&[("1", "a:1", false)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(balancer.runners.view()[0].id, first);
    directory.list(&[("2", "a:1", false)]);
    until(|| balancer.runners.view()[0].id != first).await;
    balancer.echo(b"x").await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_calls_up_to_a_limit() {
    let net = Net::default();
    let (script, mut exchanges) = handed();
    Peer::start(&net, "a:1", script);
    let balancer = Balancer::new(&net, &["a:1"]);
    let placed = balancer.placed.clone();
    let running =
        tokio::spawn(async move { lb::Runner::run(&*placed, call(body::full("x"))).await });
    let exchange = exchanges.recv().await.expect("a call");
    assert!(!balancer.runners.shutdown(Duration::from_secs(20)).await);
    exchange.echo().await;
    running.await.expect("no panic").expect("an answer");
    assert!(balancer.runners.shutdown(Duration::from_secs(20)).await);
}
