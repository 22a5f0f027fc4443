//! Requests that no HTTP library would send: bytes to a server, and the bytes that come back.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Client;

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
