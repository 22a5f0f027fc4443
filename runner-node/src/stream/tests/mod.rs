//! The contract, against real Unix sockets: functions here are scripts that send exact bytes.

mod answers;
mod cancellation;
mod connections;
mod directory;
mod requests;
mod socket_attacks;
mod streaming;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{ErrorCode, Timestamp};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use nodekit::body::Body;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::*;
use crate::driver::SocketMount;

/// Every wait of a test that should end ends long before this.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("the test waits in vain")
}

/// A directory for socket directories, and the configuration that uses it.
fn base() -> (TempDir, SocketDirConfig) {
    let base = tempfile::tempdir().expect("a temporary directory");
    let config = SocketDirConfig {
        path: Some(base.path().to_owned()),
        unprivileged: true,
        ..SocketDirConfig::default()
    };
    (base, config)
}

fn path_of(dir: &SocketDir) -> PathBuf {
    match dir.mount() {
        SocketMount::Directory { source, .. } => source,
        other => panic!("not a directory: {other:?}"),
    }
}

/// A container whose function is a script.
struct Container {
    _base: TempDir,
    dir: SocketDir,
    listener: UnixListener,
}

impl Container {
    fn new() -> Self {
        let (base, config) = base();
        let dir = SocketDir::create(&config).expect("a socket directory");
        let listener = UnixListener::bind(path_of(&dir).join("lsnr.sock")).expect("a listener");
        Self {
            _base: base,
            dir,
            listener,
        }
    }

    /// The agent's link, and the function's end of its connection.
    async fn connect(&mut self) -> (Link, Peer) {
        let link = soon(self.dir.ready(Limits::MAX_HEADER_BYTES))
            .await
            .expect("the function listens");
        (link, self.accept().await)
    }

    async fn accept(&mut self) -> Peer {
        let (stream, _) = soon(self.listener.accept()).await.expect("a connection");
        Peer { stream }
    }

    /// Whether the agent has asked for another connection.
    async fn is_asked(&mut self) -> bool {
        tokio::select! {
            biased;
            accepted = self.listener.accept() => accepted.is_ok(),
            () = std::future::ready(()) => false,
        }
    }
}

/// The function's end of a connection.
struct Peer {
    stream: UnixStream,
}

/// A request as it was on the wire.
#[derive(Debug)]
struct Wire {
    head: String,
    body: Vec<u8>,
}

impl Peer {
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = soon(self.stream.read_u8()).await.expect("a request head");
            head.push(byte);
        }
        String::from_utf8(head).expect("heads are text here")
    }

    /// One chunk; empty for the last.
    async fn chunk(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(soon(self.stream.read_u8()).await.expect("a chunk size"));
        }
        let line = std::str::from_utf8(&line).expect("a chunk size is text");
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size is hexadecimal");
        let mut data = vec![0; size + 2];
        soon(self.stream.read_exact(&mut data))
            .await
            .expect("a whole chunk");
        assert_eq!(data.split_off(size), b"\r\n");
        data
    }

    /// A whole request, which must be chunked.
    async fn request(&mut self) -> Wire {
        let head = self.head().await;
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                return Wire { head, body };
            }
            body.extend(chunk);
        }
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref()))
            .await
            .expect("the agent reads");
    }

    async fn answer(&mut self, body: &str) {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Whether the agent closed the connection, after whatever it had still sent.
    async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset says the same as an end.
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
    }
}

/// What a dispatch ended with.
struct Ended {
    result: Result<Answer, DispatchError>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// The function's end, where it must stay open.
    _peer: Option<Peer>,
}

impl Ended {
    /// The report; there must be exactly one, by now or soon.
    async fn report(&mut self) -> Report {
        only_report(&mut self.reports).await
    }

    async fn reusable(&mut self) -> Link {
        match self.report().await.outcome {
            Outcome::Reusable(link) => link,
            Outcome::Broken(cause) => panic!("broken: {cause:?}"),
        }
    }

    async fn broken(&mut self) -> Cause {
        match self.report().await.outcome {
            Outcome::Reusable(_) => panic!("the container must be discarded"),
            Outcome::Broken(cause) => cause,
        }
    }

    fn code(&self) -> ErrorCode {
        match &self.result {
            Ok(answer) => panic!("an answer: {answer:?}"),
            Err(DispatchError::Failed(error) | DispatchError::NotSent { error, .. }) => {
                error.code()
            }
        }
    }

    fn answer(&mut self) -> Answer {
        let gone = Err(DispatchError::Failed(ErrorCode::Internal.into()));
        std::mem::replace(&mut self.result, gone).expect("an answer")
    }

    async fn text(&mut self) -> String {
        let body = soon(self.answer().body.collect()).await.expect("a body");
        String::from_utf8(body.to_bytes().to_vec()).expect("text")
    }
}

async fn only_report(reports: &mut mpsc::UnboundedReceiver<Report>) -> Report {
    let report = soon(reports.recv()).await.expect("no report");
    assert!(
        soon(reports.recv()).await.is_none(),
        "the sender lives only in `done`"
    );
    report
}

fn reporter() -> (
    impl FnOnce(Report) + Send + 'static,
    mpsc::UnboundedReceiver<Report>,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let done = move |report| sender.send(report).expect("the test waits for the report");
    (done, receiver)
}

fn call(body: impl Into<Bytes>) -> Call {
    Call {
        id: "01CALL".into(),
        headers: HeaderMap::new(),
        body: nodekit::body::full(body),
        deadline: Instant::now() + PATIENCE,
        deadline_at: Timestamp::from_unix_millis(1_551_434_400_999),
    }
}

fn call_with(body: Body) -> Call {
    Call {
        body,
        ..call(Bytes::new())
    }
}

async fn dispatch_with(limits: Limits, link: Link, call: Call) -> Ended {
    let (done, reports) = reporter();
    let dispatcher = Dispatcher::new(limits, TaskTracker::new());
    let result = soon(dispatcher.dispatch(link, call, done)).await;
    Ended {
        result,
        reports,
        _peer: None,
    }
}

async fn dispatch(link: Link, call: Call) -> Ended {
    dispatch_with(Limits::default(), link, call).await
}

/// A body that the test feeds.
fn fed() -> (mpsc::Sender<Result<Bytes, ErrorCode>>, Body) {
    let (sender, mut receiver) = mpsc::channel::<Result<Bytes, ErrorCode>>(1);
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = http_body_util::StreamBody::new(futures_util::StreamExt::map(frames, |read| {
        read.map(http_body::Frame::data)
            .map_err(domain::ApiError::from)
    }));
    (sender, nodekit::body::stream(body))
}

/// The deadline of a call that is meant to time out.
fn in_millis(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

fn names_in(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}
