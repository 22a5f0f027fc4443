//! A ledger outside the system: what was executed, by the word of the functions themselves. Each says
//! a line over TCP, and goes on when the line is noted; no node is in between.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A ledger. It is closed when it is dropped.
pub struct Ledger {
    address: String,
    lines: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Ledger {
    /// Opens one at an address of the machine that containers reach.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn start(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        Self {
            address: address.to_string(),
            task: tokio::spawn(serve(listener, Arc::clone(&lines))),
            lines,
        }
    }

    /// Where lines are told, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was told until now.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    /// Enters a line for somebody who has no way to tell it.
    pub fn enter(&self, line: String) {
        lock(&self.lines).push(line);
    }

    /// Begins anew.
    pub fn forget(&self) {
        lock(&self.lines).clear();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, lines: Arc<Mutex<Vec<String>>>) {
    let mut entries = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("a connection");
                entries.spawn(enter(stream, Arc::clone(&lines)));
            }
            Some(_) = entries.join_next() => {}
        }
    }
}

async fn enter(stream: TcpStream, lines: Arc<Mutex<Vec<String>>>) {
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    // A function that dies before it has said which call it has does nothing for it.
    if stream.read_line(&mut line).await.is_ok() && line.ends_with('\n') {
        lock(&lines).push(line.trim_end().to_owned());
    }
}

fn lock(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}
