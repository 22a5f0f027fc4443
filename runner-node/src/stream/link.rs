//! The agent's way to the function in one container: its socket, and a connection that is kept
//! between calls.

use std::io;
use std::time::Duration;

use super::connection::Connection;
use super::socket_open::Socket;

/// The way to one function. It is idle: while a call runs, the call owns it.
#[derive(Debug)]
pub struct Link {
    pub(super) socket: Socket,
    pub(super) connection: Option<Connection>,
    pub(super) max_header_bytes: usize,
}

impl Link {
    /// A link that connects when it is first used. An answer's head may have up to
    /// `max_header_bytes` bytes.
    pub fn new(socket: Socket, max_header_bytes: usize) -> Self {
        Self {
            socket,
            connection: None,
            max_header_bytes,
        }
    }

    /// Whether the kept connection can take a call. If not, the next call makes a new one.
    pub fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_quiet)
    }

    /// A new connection.
    pub(super) async fn connect(&mut self) -> io::Result<Connection> {
        let stream = self.socket.connect().await?;
        Connection::start(stream, self.max_header_bytes).await
    }

    /// Connects as soon as the function accepts connections: an FDK that binds `lsnr.sock` directly
    /// makes the name appear before it listens, and before it lets us write. The caller bounds the
    /// wait.
    ///
    /// # Errors
    /// What `connect(2)` says, other than that nobody listens yet.
    pub(super) async fn connect_when_listening(&mut self) -> io::Result<()> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.connect().await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) if is_not_yet(&error) => {}
                Err(error) => return Err(error),
            }
            // There is no event for listen(2).
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied
    )
}
