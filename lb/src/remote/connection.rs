//! One HTTP/2 connection to a runner: its streams, and whether anybody is at the other end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use http::{Method, Request, Uri, Version};
use nodekit::exchange::Target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::carry::{Carrying, Place, keep};
use super::connector::Io;
use super::stream::Receiving;

/// How much of one stream's output may wait here for a slow client.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// The same for the connection: no limit, or a few slow clients would stop all others.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Cancelled streams that are remembered for a while, because the peer may not know yet.
const MAX_RESET_STREAMS: usize = 1024;

/// How often a connection is looked at, and for how long it may be quiet with streams on it before
/// its peer is asked for a sign of life.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const QUIET: Duration = Duration::from_millis(500);

/// The methods that are called.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rpc {
    Engage,
    Status,
    WatchState,
    Carry,
    /// No runner has it, and each says so at once: an answer from whoever still lives. PING would
    /// do the same, but a gRPC server in Go hangs up on a client that sends it often.
    Alive,
}

const RPCS: [(Rpc, &str); 5] = [
    (Rpc::Engage, "/RunnerProtocol/Engage"),
    (Rpc::Status, "/RunnerProtocol/Status"),
    (
        Rpc::WatchState,
        "/hearth.runner.v1.RunnerExtension/WatchState",
    ),
    (Rpc::Carry, "/hearth.runner.v1.RunnerExtension/Carry"),
    (Rpc::Alive, "/hearth.runner.v1.RunnerExtension/Alive"),
];

/// The URIs of the methods at one address.
#[derive(Debug)]
pub(crate) struct Uris([Uri; RPCS.len()]);

impl Uris {
    /// None if `address` is no `host:port`.
    pub(crate) fn new(address: &str) -> Option<Self> {
        let mut uris: [Uri; RPCS.len()] = Default::default();
        for (rpc, path) in RPCS {
            let uri = Uri::builder().scheme("http").authority(address);
            uris[rpc as usize] = uri.path_and_query(path).build().ok()?;
        }
        Some(Self(uris))
    }

    fn get(&self, rpc: Rpc) -> Uri {
        self.0[rpc as usize].clone()
    }
}

/// The streams of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    streams: SendRequest<Bytes>,
    uris: Arc<Uris>,
    /// Streams, and calls on a stream of many; not that stream itself.
    in_flight: Arc<AtomicUsize>,
    seen: Arc<Seen>,
    carrying: Arc<Carrying>,
}

/// One open stream; the connection counts it until this is dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) receive: Receiving,
    pub(crate) in_flight: InFlight,
}

/// Keeps a stream, or a call beside others, counted.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// How many streams and calls it has.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Waits for the first sign of life. The system accepts connections for a process that is
    /// stopped, and a call sent there could not be taken back.
    pub(crate) async fn heard(&self) {
        self.seen.first.cancelled().await;
    }

    /// Opens a stream. Nothing is sent to the peer before the first message is.
    pub(crate) async fn open(&self, rpc: Rpc) -> Result<Opened, h2::Error> {
        let mut streams = self.streams.clone();
        std::future::poll_fn(|cx| streams.poll_ready(cx)).await?;
        let (head, send) = streams.send_request(request(self.uris.get(rpc)), false)?;
        Ok(Opened {
            send,
            receive: Receiving::new(head),
            in_flight: InFlight::new(&self.in_flight),
        })
    }

    /// Waits until it is known whether calls may share a stream.
    pub(crate) async fn asked_to_carry(&self) {
        self.carrying.answered().await;
    }

    /// Where a call of `target` may be begun beside others, if anywhere.
    pub(crate) fn place(&self, target: &Target) -> Option<Place> {
        let carrier = self.carrying.with_room(target)?;
        Some(Place::new(carrier, InFlight::new(&self.in_flight)))
    }
}

pub(super) fn request(uri: Uri) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert("te", const { http::HeaderValue::from_static("trailers") });
    headers.insert(
        http::header::CONTENT_TYPE,
        const { http::HeaderValue::from_static("application/grpc") },
    );
    headers.insert(
        http::header::USER_AGENT,
        const { http::HeaderValue::from_static(concat!("hearth-lb/", env!("CARGO_PKG_VERSION"))) },
    );
    request
}

/// Makes a connection of `io`: its streams, and what must be polled for them to move. That ends when
/// the connection does, when it is to stop and the last stream is over, or when nothing has come
/// from the peer for `silence` after it was asked. The peer is asked for a stream of many calls if
/// `multiplex`.
pub(crate) async fn handshake(
    io: Box<dyn Io>,
    uris: Arc<Uris>,
    silence: Duration,
    multiplex: bool,
    stop: CancellationToken,
) -> Result<(Connection, impl Future<Output = String> + Send), h2::Error> {
    let seen = Arc::new(Seen::now());
    let io = Watched {
        io,
        seen: Arc::clone(&seen),
    };
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .enable_push(false)
        // Clients may go away in crowds, and what their calls still send is no fault of the runner.
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(None);
    let (streams, connection) = builder.handshake::<_, Bytes>(io).await?;
    let in_flight = Arc::new(AtomicUsize::new(0));
    let carrying = Arc::new(match multiplex {
        true => Carrying::default(),
        false => Carrying::unused(),
    });
    let watch = Watch {
        in_flight: Arc::clone(&in_flight),
        seen: Arc::clone(&seen),
        carrying: Arc::clone(&carrying),
        silence,
        stop,
    };
    let asking = streams.clone();
    let alive = uris.get(Rpc::Alive);
    let keeping = multiplex.then(|| {
        let uri = uris.get(Rpc::Carry);
        keep(Arc::clone(&carrying), streams.clone(), uri)
    });
    let driving = async move {
        tokio::select! {
            biased;
            result = drive(connection, keeping) => match result {
                Ok(()) => "the connection is over".to_owned(),
                Err(error) => error.to_string(),
            },
            why = watch.until_dead(asking, alive) => why.to_owned(),
        }
    };
    let connection = Connection {
        streams,
        uris,
        in_flight,
        seen,
        carrying,
    };
    Ok((connection, driving))
}

/// Moves the connection, and the stream of many calls before and after it.
async fn drive(
    connection: impl Future<Output = Result<(), h2::Error>>,
    keeping: Option<impl Future<Output = Infallible>>,
) -> Result<(), h2::Error> {
    let mut connection = pin!(connection);
    let Some(keeping) = keeping else {
        return connection.await;
    };
    let mut keeping = pin!(keeping);
    std::future::poll_fn(|cx| {
        let _ = keeping.as_mut().poll(cx).is_pending();
        let moved = connection.as_mut().poll(cx);
        let _ = keeping.as_mut().poll(cx).is_pending();
        moved
    })
    .await
}

/// Looks after a connection.
struct Watch {
    in_flight: Arc<AtomicUsize>,
    seen: Arc<Seen>,
    carrying: Arc<Carrying>,
    silence: Duration,
    stop: CancellationToken,
}

impl Watch {
    /// Ends when the peer has given no sign of life for too long, or when nobody needs it.
    async fn until_dead(self, mut streams: SendRequest<Bytes>, alive: Uri) -> &'static str {
        let mut asked: Option<(Instant, h2::client::ResponseFuture)> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.carrying.expire(Instant::now());
            let idle = self.in_flight.load(Ordering::Relaxed) == 0;
            if idle && self.stop.is_cancelled() {
                return "it is no longer needed";
            }
            match &asked {
                Some((since, _)) if self.seen.at() >= *since => asked = None,
                Some((since, _)) if since.elapsed() >= self.silence => return "it is silent",
                Some(_) => {}
                None if idle || self.seen.at().elapsed() < QUIET => {}
                None => {
                    let since = Instant::now();
                    // A connection that takes no more streams is closing: those that it has hear of
                    // its end.
                    if let Ok((answer, _)) = streams.send_request(request(alive.clone()), true) {
                        asked = Some((since, answer));
                    }
                }
            }
        }
    }
}

/// When anything came last from a peer.
#[derive(Debug)]
struct Seen {
    origin: Instant,
    nanos: AtomicU64,
    /// Cancelled when anything came at all.
    first: CancellationToken,
}

impl Seen {
    fn now() -> Self {
        Self {
            origin: Instant::now(),
            nanos: AtomicU64::new(0),
            first: CancellationToken::new(),
        }
    }

    fn touch(&self) {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // It is not 0 after the first time.
        if self.nanos.swap(nanos.max(1), Ordering::Relaxed) == 0 {
            self.first.cancel();
        }
    }

    fn at(&self) -> Instant {
        self.origin + Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

/// A connection that notes when something comes.
struct Watched {
    io: Box<dyn Io>,
    seen: Arc<Seen>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.seen.touch();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
