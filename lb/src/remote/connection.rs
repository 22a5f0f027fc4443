//! One HTTP/2 connection to a runner: its streams, and whether anybody is at the other end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use http::{Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
    /// No runner has it, and each says so at once: an answer from whoever still lives. PING would
    /// do the same, but a gRPC server in Go hangs up on a client that sends it often.
    Alive,
}

const RPCS: [(Rpc, &str); 4] = [
    (Rpc::Engage, "/RunnerProtocol/Engage"),
    (Rpc::Status, "/RunnerProtocol/Status"),
    (
        Rpc::WatchState,
        "/hearth.runner.v1.RunnerExtension/WatchState",
    ),
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
    in_flight: Arc<AtomicUsize>,
    seen: Arc<Seen>,
}

/// One open stream; the connection counts it until this is dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) receive: Receiving,
    pub(crate) in_flight: InFlight,
}

/// Keeps a stream counted.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// How many streams it has.
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
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Opened {
            send,
            receive: Receiving::new(head),
            in_flight: InFlight(Arc::clone(&self.in_flight)),
        })
    }
}

fn request(uri: Uri) -> Request<()> {
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
/// from the peer for `silence` after it was asked.
pub(crate) async fn handshake(
    io: Box<dyn Io>,
    uris: Arc<Uris>,
    silence: Duration,
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
    let watch = Watch {
        in_flight: Arc::clone(&in_flight),
        seen: Arc::clone(&seen),
        silence,
        stop,
    };
    let asking = streams.clone();
    let alive = uris.get(Rpc::Alive);
    let driving = async move {
        tokio::select! {
            result = connection => match result {
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
    };
    Ok((connection, driving))
}

/// Looks after a connection.
struct Watch {
    in_flight: Arc<AtomicUsize>,
    seen: Arc<Seen>,
    silence: Duration,
    stop: CancellationToken,
}

impl Watch {
    /// Ends when the peer has given no sign of life for too long, or when nobody needs it.
    async fn until_dead(self, mut streams: SendRequest<Bytes>, alive: Uri) -> &'static str {
        let mut asked: Option<(Instant, h2::client::ResponseFuture)> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
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
