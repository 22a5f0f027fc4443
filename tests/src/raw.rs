//! Requests that no HTTP library would send: bytes to a server, and the bytes that come back.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Client;
use crate::eventually::PATIENCE;

/// Sends bytes, and answers with all that comes back until the server closes the connection: let the
/// last request say `Connection: close`.
///
/// # Panics
/// When the server cannot be reached, or does not read.
pub async fn exchange(client: &Client, request: &[u8]) -> String {
    let mut connection = Connection::open(client).await;
    connection
        .try_send(request)
        .await
        .expect("the server reads");
    connection.rest().await
}

/// A connection on which bytes are sent as they are.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn open(client: &Client) -> Self {
        let address = client.base().trim_start_matches("http://");
        Self {
            stream: TcpStream::connect(address)
                .await
                .expect("the server listens"),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads up to the end of an answer's head.
    ///
    /// # Panics
    /// When the server closes the connection before.
    pub async fn answer_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.expect("an answer"));
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    /// All that comes back until the server closes the connection.
    ///
    /// # Panics
    /// When it is cut off.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.stream
            .read_to_end(&mut rest)
            .await
            .expect("the server answers");
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// A server that takes connections and never says a word.
pub struct Silent {
    /// Host and port.
    pub address: String,
    seen: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Silent {
    /// Starts it on loopback.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (sender, seen) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.push(stream);
                sender.send_replace(connections.len());
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// Waits until somebody has connected.
    ///
    /// # Panics
    /// When nobody does in time.
    pub async fn connected(&self) {
        let mut seen = self.seen.clone();
        let connected = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| *seen > 0)).await;
        connected
            .expect("somebody connects in time")
            .expect("it still listens");
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
