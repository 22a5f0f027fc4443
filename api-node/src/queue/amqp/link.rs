//! One connection to the broker, whose every wait ends and which leaves nothing behind.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use lapin::runtime::default_runtime;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, Event};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::topology::{Topology, TopologyError};

/// How long the broker may take to let us in.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long the broker may take to answer anything else.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long the broker may take to say goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// What ends a connection, or keeps it from coming about.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// What the library says.
    #[error(transparent)]
    Amqp(#[from] lapin::Error),
    /// What is at the broker does not fit.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// No answer in time.
    #[error("the broker does not answer ({0})")]
    Silent(&'static str),
    /// The broker ended a consumer, as when the queue is deleted.
    #[error("the broker has ended the consumer")]
    ConsumerEnded,
    /// Messages came back.
    #[error("the queue is gone")]
    QueueGone,
    /// The broker takes part, and the queue does not.
    #[error("the queue confirmed nothing, and was deleted to be made anew")]
    QueueBroken,
}

/// What happens to a connection.
#[derive(Debug)]
pub(super) enum Happening {
    /// The broker takes no messages any more, for this reason.
    Blocked(String),
    /// It takes them again.
    Unblocked,
    /// The connection is gone.
    Lost(lapin::Error),
}

/// A connection. Its socket is closed when it is dropped, which ends the library's thread even when
/// the broker does not answer.
pub(super) struct Link {
    connection: Connection,
    /// The lock is never taken: it lets the connection be shared, which the library's stream does not.
    events: Mutex<Box<dyn Stream<Item = Event> + Send + Unpin>>,
    _socket: Socket,
}

impl Link {
    /// Connects, and declares what has to be there; `purpose` is what the broker shows its operator.
    pub(super) async fn connect(
        address: &Address,
        topology: &Topology,
        purpose: &str,
    ) -> Result<Self, LinkError> {
        let link = Self::open(address, purpose).await?;
        match link.declare(topology).await {
            Ok(()) => Ok(link),
            Err(error) => {
                link.close().await;
                Err(error)
            }
        }
    }

    async fn open(address: &Address, purpose: &str) -> Result<Self, LinkError> {
        let socket = Socket::default();
        let tls = address.tls.clone();
        let encrypted = address.is_encrypted();
        let handle = Arc::clone(&socket.0);
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("hearth {purpose}").into());
        let connecting = Connection::connector(
            address.uri.clone(),
            default_runtime()?,
            async move |uri, runtime| {
                let authority = uri.authority;
                let target = runtime.to_socket_addrs((authority.host.clone(), authority.port));
                let connecting = AsyncTcpStream::connect(&runtime, target);
                let stream = timeout(CONNECT_LIMIT, connecting)
                    .await
                    .map_err(io::Error::from)??;
                if let AsyncTcpStream::Plain(stream) = &stream {
                    // Acknowledgements are small, and somebody waits for each.
                    stream.get_ref().set_nodelay(true)?;
                    Handle::keep(&handle, stream.get_ref())?;
                }
                Ok(match encrypted {
                    true => stream.into_tls(&authority.host, tls.as_ref()).await?,
                    false => stream,
                })
            },
            properties,
        );
        let connection = timeout(CONNECT_LIMIT, connecting)
            .await
            .map_err(|_| LinkError::Silent("connecting"))??;
        Ok(Self {
            events: Mutex::new(Box::new(connection.events_listener())),
            connection,
            _socket: socket,
        })
    }

    /// On a channel of its own: a refusal ends the channel.
    async fn declare(&self, topology: &Topology) -> Result<(), LinkError> {
        let channel = self.channel().await?;
        timeout(ANSWER_LIMIT, topology.declare(&channel))
            .await
            .map_err(|_| LinkError::Silent("declaring the queue"))??;
        answer("closing a channel", channel.close(200, "OK".into())).await
    }

    /// Deletes the queue, so that the next connection makes it anew.
    pub(super) async fn delete_queue(&self, topology: &Topology) -> Result<(), LinkError> {
        let channel = self.channel().await?;
        answer("deleting the queue", topology.delete(&channel)).await?;
        Ok(())
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<Channel, LinkError> {
        answer("opening a channel", self.connection.create_channel()).await
    }

    /// What happens next; nothing may happen for ever.
    pub(super) async fn happening(&mut self) -> Happening {
        let events = self
            .events
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            match events.next().await {
                Some(Event::ConnectionBlocked(reason)) => return Happening::Blocked(reason),
                Some(Event::ConnectionUnblocked) => return Happening::Unblocked,
                // An error of a channel says so where the channel is used.
                Some(Event::Error(error)) if !self.connection.status().connected() => {
                    return Happening::Lost(error);
                }
                Some(_) => {}
                None => {
                    let gone = io::Error::from(io::ErrorKind::ConnectionAborted);
                    return Happening::Lost(gone.into());
                }
            }
        }
    }

    /// Ends the connection in good order, if the broker takes part.
    pub(super) async fn close(self) {
        let goodbye = self.connection.close(200, "OK".into());
        // There is nothing to be done about a broker that has gone already.
        let _ = timeout(GOODBYE_LIMIT, goodbye).await;
    }
}

/// Waits for an answer of the broker, but not for ever.
pub(super) async fn answer<T>(
    what: &'static str,
    future: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    match timeout(ANSWER_LIMIT, future).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(LinkError::Silent(what)),
    }
}

/// A second handle of a connection's socket: the library keeps a thread for each connection until the
/// socket ends, and a broker that is halted would never end it.
#[derive(Default)]
struct Socket(Arc<Mutex<Handle>>);

#[derive(Default)]
enum Handle {
    /// There is no socket yet.
    #[default]
    None,
    /// There is one.
    Open(TcpStream),
    /// Nobody wants one any more.
    Unwanted,
}

impl Handle {
    fn keep(handle: &Mutex<Self>, stream: &tokio::net::TcpStream) -> io::Result<()> {
        let stream = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        let mut handle = handle.lock().unwrap_or_else(PoisonError::into_inner);
        match *handle {
            Self::Unwanted => Err(io::ErrorKind::ConnectionAborted.into()),
            Self::None | Self::Open(_) => {
                *handle = Self::Open(stream);
                Ok(())
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Handle::Open(socket) = std::mem::replace(&mut *handle, Handle::Unwanted) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// The pauses between tries to connect: they grow, and start anew after a connection that held. They are
/// of random length, so that nodes do not come back together.
pub(super) struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_millis(1600);

    pub(super) fn new() -> Self {
        Self(Self::FIRST)
    }

    pub(super) fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    pub(super) async fn pause(&mut self) {
        let pause = self.0;
        self.0 = Self::LONGEST.min(pause * 2);
        // Hashers are seeded by the system.
        let random = RandomState::new().hash_one(0) % 1000;
        sleep(pause / 2 + pause / 2000 * u32::try_from(random).unwrap_or_default()).await;
    }
}
