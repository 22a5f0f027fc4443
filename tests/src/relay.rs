//! A relay of TCP connections that a test can make slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Most pieces that are under way in one direction of a connection, and how long they may be.
const PIECES: usize = 256;
const PIECE_BYTES: usize = 64 << 10;

/// A relay. Its connections end with it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    delay_millis: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on `address`, and relays to `target`, as `host:port`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(address: SocketAddr, target: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let delay_millis = Arc::new(AtomicU64::new(0));
        let task = serve(listener, target.to_owned(), Arc::clone(&delay_millis));
        Self {
            address,
            delay_millis,
            task: tokio::spawn(task),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, what comes is passed on after this time, in each direction.
    pub fn delay(&self, millis: u64) {
        self.delay_millis.store(millis, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, target: String, delay: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(connection(stream, target.clone(), Arc::clone(&delay)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, target: String, delay: Arc<AtomicU64>) {
    // A client of a target that is not there sees its connection end.
    let Ok(server) = TcpStream::connect(&target).await else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pass(from_client, to_server, &delay),
        pass(from_server, to_client, &delay)
    );
}

/// Passes on what comes until there is no more.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: &AtomicU64) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = async move {
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            match from.read_buf(&mut piece).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
            if sender.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
