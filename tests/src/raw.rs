//! Requests that no HTTP library would send: bytes to a server, and the bytes that come back.

use std::time::Duration;

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

/// Sends bytes as far as they are taken, and hangs up; whatever comes back is the answer.
///
/// # Panics
/// When the server cannot be reached.
pub async fn throw(client: &Client, bytes: &[u8]) -> String {
    let mut stream = Connection::open(client).await.stream;
    // The server may have had enough before the end.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
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

    /// Reads up to the end of this text.
    ///
    /// # Panics
    /// When the server closes the connection before.
    pub async fn until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(text.as_bytes()) {
            read.push(self.stream.read_u8().await.expect("more of the answer"));
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads up to the end of an answer's head.
    ///
    /// # Panics
    /// When the server closes the connection before.
    pub async fn answer_head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads a whole answer: its head and its body, out of its chunks if it comes in chunks.
    ///
    /// # Panics
    /// When it breaks off.
    pub async fn answer(&mut self) -> (String, Vec<u8>) {
        let head = self.answer_head().await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let length = name.eq_ignore_ascii_case("content-length");
            length.then(|| value.trim().parse().expect("a length"))
        });
        let mut body = Vec::new();
        if let Some(length) = length {
            self.read_more(&mut body, length).await;
            return (head, body);
        }
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                self.read_more(&mut line, 1).await;
            }
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk's size");
            self.read_more(&mut body, size + 2).await;
            body.truncate(body.len() - 2);
            if size == 0 {
                return (head, body);
            }
        }
    }

    async fn read_more(&mut self, bytes: &mut Vec<u8>, length: usize) {
        let from = bytes.len();
        bytes.resize(from + length, 0);
        let read = self.stream.read_exact(&mut bytes[from..]).await;
        read.expect("the rest of the answer");
    }

    /// Reads as much as is sent until the connection ends, and keeps nothing of it but its length.
    pub async fn count(&mut self) -> u64 {
        let mut buffer = vec![0; 256 << 10];
        let mut count = 0;
        while let Ok(read @ 1..) = self.stream.read(&mut buffer).await {
            count += read as u64;
        }
        count
    }

    /// Sends a piece now and then until the server ends the connection; yields all that it has said.
    pub async fn drip(self, piece: &[u8], pace: Duration) -> String {
        let (mut reader, mut writer) = self.stream.into_split();
        let dripping = async {
            while writer.write_all(piece).await.is_ok() {
                tokio::time::sleep(pace).await;
            }
            std::future::pending::<()>().await;
        };
        let mut said = Vec::new();
        tokio::select! {
            _ = reader.read_to_end(&mut said) => {}
            () = dripping => {}
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Sends a chunked body of this length, or as much of it as is taken before the connection ends;
    /// yields the answer, and how much was taken.
    pub async fn upload(self, length: u64) -> (String, u64) {
        const CHUNK: usize = 64 << 10;
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; CHUNK], b"\r\n"].concat();
        let (mut reader, mut writer) = self.stream.into_split();
        let mut sent = 0;
        let sending = async {
            while sent < length && writer.write_all(&chunk).await.is_ok() {
                sent += CHUNK as u64;
            }
            let _ = writer.write_all(b"0\r\n\r\n").await;
            std::future::pending::<()>().await;
        };
        let mut said = Vec::new();
        tokio::select! {
            _ = reader.read_to_end(&mut said) => {}
            () = sending => {}
        }
        (String::from_utf8_lossy(&said).into_owned(), sent)
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
