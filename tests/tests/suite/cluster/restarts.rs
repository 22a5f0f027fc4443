//! Every node is restarted, one by one, under load. `HEARTH_ROLLS` says how many times.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hearth_tests::cluster::Shape;
use hearth_tests::process::Process;
use hearth_tests::{Cluster, Deployed};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::hello;

const CLIENTS: usize = 8;

/// How long a node may take to end its calls.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_every_node_fails_no_call() {
    let rolls = match std::env::var("HEARTH_ROLLS") {
        Ok(rolls) => rolls.parse().expect("a number"),
        Err(_) => 1,
    };
    let mut cluster = Cluster::start(Shape::default()).await;
    let hello = hello(&cluster).await;
    for lb in 0..2 {
        hello.through(&cluster.lb(lb)).call("").await.expect(200);
    }
    let load = Callers::start(&cluster, &hello);
    for _ in 0..rolls {
        for at in 0..cluster.apis.len() {
            restart(&mut cluster.apis[at]).await;
            load.goes_on().await;
        }
        for at in 0..cluster.runners.len() {
            restart(&mut cluster.runners[at]).await;
            for lb in &cluster.lbs {
                cluster.all_runners_known(lb).await;
            }
            load.goes_on().await;
        }
        for at in 0..cluster.lbs.len() {
            restart(&mut cluster.lbs[at]).await;
            cluster.all_runners_known(&cluster.lbs[at]).await;
            load.goes_on().await;
        }
    }
    load.stop().await;
}

async fn restart(node: &mut Process) {
    node.signal(Signal::TERM);
    assert!(node.ended(PATIENCE).await.success());
    node.start().await;
    node.ready().await;
}

/// Clients that open a connection for each call, at one load balancer after the other, and that go
/// to the next one only when a connection is refused: what was sent is not sent again.
struct Callers {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Callers {
    fn start(cluster: &Cluster, function: &Deployed) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let calls = Arc::<AtomicU64>::default();
        let address = |lb: &Process| -> SocketAddr { lb.address().parse().expect("an address") };
        let lbs: Vec<_> = cluster.lbs.iter().map(address).collect();
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 15\r\n\r\n\
             {{\"name\":\"load\"}}",
            function.path
        );
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (lbs, request) = (lbs.clone(), request.clone());
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            clients.spawn(async move {
                for turn in client.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    call(&lbs, turn, &request).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            stop,
            calls,
            clients,
        }
    }

    /// Waits for calls that began from now on.
    async fn goes_on(&self) {
        let enough = self.calls.load(Ordering::Relaxed) + 10 * CLIENTS as u64;
        hearth_tests::eventually("calls go on", async || {
            // One that failed says why.
            let goes_on = self.calls.load(Ordering::Relaxed) >= enough;
            (goes_on || self.clients.len() < CLIENTS).then_some(())
        })
        .await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}

async fn call(lbs: &[SocketAddr], turn: usize, request: &str) {
    let mut stream = None;
    for at in 0..lbs.len() {
        let lb = lbs[(turn + at) % lbs.len()];
        match TcpStream::connect(lb).await {
            Ok(connected) => {
                stream = Some((lb, connected));
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{lb}"),
        }
    }
    let (lb, mut stream) = stream.expect("one load balancer listens");
    let mut answer = String::new();
    let exchanged = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    let exchanged = exchanged.await;
    assert!(
        exchanged.is_ok() && answer.starts_with("HTTP/1.1 200"),
        "{lb}: {exchanged:?} {answer}"
    );
}
