//! The ledger: what was executed, by the word of the functions themselves. Each says its call's
//! number over TCP before it does anything else, and goes on when the number is noted; no node is in
//! between.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How often each call was executed.
pub(super) type Executions = HashMap<u64, u32>;

/// The ledger. It is closed when it is dropped.
pub(super) struct Ledger {
    address: String,
    executions: Arc<Mutex<Executions>>,
    task: JoinHandle<()>,
}

impl Ledger {
    /// Opens one at an address of the machine that containers reach.
    pub(super) async fn start(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let executions = Arc::<Mutex<Executions>>::default();
        Self {
            address: address.to_string(),
            task: tokio::spawn(serve(listener, Arc::clone(&executions))),
            executions,
        }
    }

    /// Where executions are told, as `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// What was executed until now.
    pub(super) fn executions(&self) -> Executions {
        lock(&self.executions).clone()
    }

    /// Begins anew.
    pub(super) fn forget(&self) {
        lock(&self.executions).clear();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, executions: Arc<Mutex<Executions>>) {
    let mut entries = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("a connection");
                entries.spawn(enter(stream, Arc::clone(&executions)));
            }
            Some(_) = entries.join_next() => {}
        }
    }
}

async fn enter(stream: TcpStream, executions: Arc<Mutex<Executions>>) {
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    // A function that dies before it has said which call it has does nothing for it.
    if stream.read_line(&mut line).await.is_err() || !line.ends_with('\n') {
        return;
    }
    let number = line.trim().parse().expect("the number of a call");
    *lock(&executions).entry(number).or_default() += 1;
}

fn lock(executions: &Mutex<Executions>) -> MutexGuard<'_, Executions> {
    executions.lock().unwrap_or_else(PoisonError::into_inner)
}
