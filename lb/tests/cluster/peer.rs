//! A runner that does what a test says, down to the frames of HTTP/2, and the network to it.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use lb::remote::{Connector, Io};
use prost::Message;
use proto::runner::{
    CallFinished, CallResultStart, ClientMsg, DataFrame, HttpHeader, HttpRespMeta, RunnerMsg,
    RunnerStatus, TryCall, call_result_start, client_msg, runner_msg,
};
use proto::runner_extension::StateUpdate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::carrying::Carrying;

/// The network: runners by address.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<HashMap<String, Peer>>>);

impl Net {
    /// Nobody is at `address` any more; connections that are there stay.
    pub(crate) fn remove(&self, address: &str) {
        self.0.lock().expect("not poisoned").remove(address);
    }
}

#[async_trait]
impl Connector for Net {
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>> {
        let peer = self.0.lock().expect("not poisoned").get(address).cloned();
        let peer = peer.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        peer.serve(theirs);
        Ok(Box::new(ours))
    }
}

/// What a runner does with a call.
pub(crate) type Script = dyn Fn(Exchange) -> BoxFuture<'static, ()> + Send + Sync;

/// A scripted runner.
#[derive(Clone)]
pub(crate) struct Peer(Arc<Inner>);

struct Inner {
    script: Box<Script>,
    /// Ids of calls whose `TryCall` came, in the order in which they came.
    ledger: Mutex<Vec<String>>,
    frozen: AtomicBool,
    /// Cancelled and replaced when all connections are cut.
    wire: Mutex<CancellationToken>,
    /// Tells connections to go away.
    leaving: CancellationToken,
    status: Mutex<Answering>,
    feed: Mutex<Option<watch::Sender<StateUpdate>>>,
    watches: AtomicUsize,
    /// What it does with a stream of many calls; without, it does not know what that is.
    carry: Mutex<Option<Arc<CarryScript>>>,
    carries: AtomicUsize,
}

type CarryScript = dyn Fn(Carrying) -> BoxFuture<'static, ()> + Send + Sync;

/// How a peer answers `Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answering {
    Well,
    Failing,
    Never,
}

impl Peer {
    /// A runner at `address`.
    pub(crate) fn start<F>(net: &Net, address: &str, script: F) -> Self
    where
        F: Fn(Exchange) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let peer = Self::new(script);
        let mut peers = net.0.lock().expect("not poisoned");
        peers.insert(address.to_owned(), peer.clone());
        peer
    }

    pub(crate) fn new<F>(script: F) -> Self
    where
        F: Fn(Exchange) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        Self(Arc::new(Inner {
            script: Box::new(script),
            ledger: Mutex::default(),
            frozen: AtomicBool::new(false),
            wire: Mutex::default(),
            leaving: CancellationToken::new(),
            status: Mutex::new(Answering::Well),
            feed: Mutex::default(),
            watches: AtomicUsize::new(0),
            carry: Mutex::default(),
            carries: AtomicUsize::new(0),
        }))
    }

    /// Calls whose `TryCall` came.
    pub(crate) fn ledger(&self) -> Vec<String> {
        self.0.ledger.lock().expect("not poisoned").clone()
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        let mut wire = self.0.wire.lock().expect("not poisoned");
        std::mem::take(&mut *wire).cancel();
    }

    /// Nothing moves any more, and nobody is told.
    pub(crate) fn freeze(&self) {
        self.0.frozen.store(true, Ordering::SeqCst);
    }

    /// Takes no new streams: GOAWAY, once it is seen to the end.
    pub(crate) fn leave(&self) {
        self.0.leaving.cancel();
    }

    pub(crate) fn answer_status(&self, how: Answering) {
        *self.0.status.lock().expect("not poisoned") = how;
    }

    /// Tells of its state from now on; `update` is what each watch sees first.
    pub(crate) fn tell(&self, update: StateUpdate) {
        let mut feed = self.0.feed.lock().expect("not poisoned");
        match &*feed {
            Some(feed) => drop(feed.send_replace(update)),
            None => *feed = Some(watch::Sender::new(update)),
        }
    }

    /// Takes many calls on one stream from now on.
    pub(crate) fn carry<F>(&self, script: F)
    where
        F: Fn(Carrying) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        *self.0.carry.lock().expect("not poisoned") = Some(Arc::new(script));
    }

    /// How often it was asked to.
    pub(crate) fn carries(&self) -> usize {
        self.0.carries.load(Ordering::SeqCst)
    }

    pub(crate) fn note(&self, call: &str) {
        let mut ledger = self.0.ledger.lock().expect("not poisoned");
        ledger.push(call.to_owned());
    }

    fn feed(&self) -> Option<watch::Receiver<StateUpdate>> {
        let feed = self.0.feed.lock().expect("not poisoned");
        feed.as_ref().map(watch::Sender::subscribe)
    }

    /// How often its state was asked for.
    pub(crate) fn watches(&self) -> usize {
        self.0.watches.load(Ordering::SeqCst)
    }

    pub(crate) fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let wire = self.0.wire.lock().expect("not poisoned").clone();
        let peer = self.clone();
        let io = Freezing {
            io,
            peer: self.clone(),
        };
        // It ends when it is cut, or with the test's runtime.
        tokio::spawn(async move { wire.run_until_cancelled(peer.connection(io)).await });
    }

    async fn connection(&self, io: impl AsyncRead + AsyncWrite + Unpin) {
        let Ok(mut connection) = h2::server::handshake(io).await else {
            return;
        };
        let mut stays = true;
        loop {
            let accepted = tokio::select! {
                accepted = connection.accept() => accepted,
                () = self.0.leaving.cancelled(), if stays => {
                    stays = false;
                    connection.graceful_shutdown();
                    continue;
                }
            };
            let Some(Ok((request, respond))) = accepted else {
                return;
            };
            let peer = self.clone();
            // As above.
            tokio::spawn(async move { peer.stream(request, respond).await });
        }
    }

    async fn stream(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        match request.uri().path() {
            "/RunnerProtocol/Engage" => {
                assert_eq!(request.headers()["content-type"], "application/grpc");
                assert_eq!(request.headers()["te"], "trailers");
                let mut exchange = Exchange::new(self.clone(), request.into_body(), respond);
                if let Some(Some(client_msg::Body::Try(call))) =
                    exchange.receive().await.map(|message| message.body)
                {
                    let json: serde_json::Value =
                        serde_json::from_str(&call.models_call_json).expect("JSON");
                    exchange.id = json["id"].as_str().expect("an id").to_owned();
                    self.note(&exchange.id);
                    exchange.call = call;
                    (self.0.script)(exchange).await;
                }
            }
            "/RunnerProtocol/Status" => {
                let status = *self.0.status.lock().expect("not poisoned");
                let failed = match status {
                    Answering::Never => return std::future::pending().await,
                    Answering::Well => false,
                    Answering::Failing => true,
                };
                let status = RunnerStatus {
                    failed,
                    ..RunnerStatus::default()
                };
                let mut send = respond.send_response(head(), false).expect("open");
                let _ = send.send_data(framed(&status), false);
                let _ = send.send_trailers(trailers("0", ""));
            }
            "/hearth.runner.v1.RunnerExtension/WatchState" => {
                self.0.watches.fetch_add(1, Ordering::SeqCst);
                let Some(mut feed) = self.feed() else {
                    let _ = respond.send_response(trailers_only("12"), true);
                    return;
                };
                let mut send = respond.send_response(head(), false).expect("open");
                loop {
                    let update = feed.borrow_and_update().clone();
                    if send.send_data(framed(&update), false).is_err()
                        || feed.changed().await.is_err()
                    {
                        return;
                    }
                }
            }
            "/hearth.runner.v1.RunnerExtension/Carry" => {
                self.0.carries.fetch_add(1, Ordering::SeqCst);
                let script = self.0.carry.lock().expect("not poisoned").clone();
                match script {
                    Some(script) => {
                        let send = respond.send_response(head(), false).expect("open");
                        script(Carrying::new(self.clone(), request.into_body(), send)).await;
                    }
                    None => drop(respond.send_response(trailers_only("12"), true)),
                }
            }
            _ => drop(respond.send_response(trailers_only("12"), true)),
        }
    }
}

/// A call as the runner sees it.
pub(crate) struct Exchange {
    peer: Peer,
    pub(crate) call: TryCall,
    /// The call's id.
    pub(crate) id: String,
    receive: RecvStream,
    buffer: BytesMut,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
}

impl Exchange {
    fn new(peer: Peer, receive: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self {
            peer,
            call: TryCall::default(),
            id: String::new(),
            receive,
            buffer: BytesMut::new(),
            respond,
            send: None,
        }
    }

    /// The runner itself.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The next message with its prefix, exactly as it was sent; none after the end or a reset.
    pub(crate) async fn receive_raw(&mut self) -> Option<Bytes> {
        loop {
            if let Some((prefix, rest)) = self.buffer.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
                if rest.len() >= length as usize {
                    return Some(self.buffer.split_to(5 + length as usize).freeze());
                }
            }
            let data = self.receive.data().await?.ok()?;
            let _ = self.receive.flow_control().release_capacity(data.len());
            self.buffer.extend_from_slice(&data);
        }
    }

    pub(crate) async fn receive(&mut self) -> Option<ClientMsg> {
        let mut message = self.receive_raw().await?;
        message.advance(5);
        Some(ClientMsg::decode(message).expect("a message"))
    }

    /// The next piece of the input.
    pub(crate) async fn frame(&mut self) -> Option<DataFrame> {
        match self.receive().await?.body? {
            client_msg::Body::Data(frame) => Some(frame),
            client_msg::Body::Try(_) => None,
        }
    }

    /// The whole input, if it came to its end.
    pub(crate) async fn input(&mut self) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let frame = self.frame().await?;
            all.extend_from_slice(&frame.data);
            if frame.eof {
                return Some(all);
            }
        }
    }

    pub(crate) async fn start(&mut self, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(key, value)| HttpHeader {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        });
        self.start_with(200, headers.collect()).await;
    }

    pub(crate) async fn start_with(&mut self, status_code: i32, headers: Vec<HttpHeader>) {
        let meta = call_result_start::Meta::Http(HttpRespMeta {
            status_code,
            headers,
        });
        let start = CallResultStart { meta: Some(meta) };
        self.send(runner_msg::Body::ResultStart(start)).await;
    }

    pub(crate) async fn data(&mut self, data: impl Into<Bytes>) -> bool {
        let data = data.into();
        self.send(runner_msg::Body::Data(DataFrame { data, eof: false }))
            .await
    }

    pub(crate) async fn finished(&mut self, finished: CallFinished) {
        self.send(runner_msg::Body::Finished(finished)).await;
    }

    pub(crate) async fn send(&mut self, body: runner_msg::Body) -> bool {
        self.send_raw(framed(&RunnerMsg { body: Some(body) })).await
    }

    /// Sends bytes as the peer takes them; whether it took them.
    pub(crate) async fn send_raw(&mut self, mut bytes: Bytes) -> bool {
        let respond = &mut self.respond;
        let send = self
            .send
            .get_or_insert_with(|| respond.send_response(head(), false).expect("open"));
        while !bytes.is_empty() {
            send.reserve_capacity(bytes.len());
            if send.capacity() == 0 {
                match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                    Some(Ok(_)) => continue,
                    _ => return false,
                }
            }
            let part = bytes.split_to(send.capacity().min(bytes.len()));
            if send.send_data(part, false).is_err() {
                return false;
            }
        }
        true
    }

    /// How much the load balancer would take at once.
    pub(crate) fn capacity(&mut self) -> usize {
        self.send.as_ref().map_or(0, SendStream::capacity)
    }

    /// Ends the stream with a status.
    pub(crate) fn end(mut self, code: &str) {
        match self.send.take() {
            Some(mut send) => drop(send.send_trailers(trailers(code, "said%20so"))),
            None => drop(self.respond.send_response(trailers_only(code), true)),
        }
    }

    /// Ends the stream without a status.
    pub(crate) fn end_without_status(mut self) {
        if let Some(mut send) = self.send.take() {
            let _ = send.send_data(Bytes::new(), true);
        }
    }

    pub(crate) fn reset(mut self, reason: Reason) {
        match self.send.take() {
            Some(mut send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// The call went well.
    pub(crate) async fn well(mut self) {
        self.finished(CallFinished {
            success: true,
            ..CallFinished::default()
        })
        .await;
        self.end("0");
    }

    /// Reads the input and answers with it.
    pub(crate) async fn echo(mut self) {
        let Some(input) = self.input().await else {
            return;
        };
        let length = input.len().to_string();
        self.start(&[("Content-Type", "a/b"), ("Content-Length", &length)])
            .await;
        for piece in input.chunks(10_240) {
            self.data(piece.to_vec()).await;
        }
        self.well().await;
    }

    /// Has no room.
    pub(crate) async fn refuse(mut self) {
        self.finished(failure(503, "Timed out - server too busy", false))
            .await;
        self.end("0");
    }

    /// Waits until the load balancer resets the stream.
    pub(crate) async fn reset_by_peer(&mut self) -> Reason {
        let waiting = std::future::poll_fn(|cx| match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        waiting.await.expect("a reset")
    }
}

pub(crate) fn failure(code: i32, text: &str, user: bool) -> CallFinished {
    CallFinished {
        success: false,
        error_code: code,
        error_str: text.to_owned(),
        error_user: user,
        ..CallFinished::default()
    }
}

pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).expect("room");
    bytes.freeze()
}

fn head() -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(()).expect("a response")
}

pub(crate) fn trailers(code: &str, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().expect("a value"));
    trailers.insert("grpc-message", message.parse().expect("a value"));
    trailers
}

fn trailers_only(code: &str) -> Response<()> {
    let mut response = head();
    response.headers_mut().extend(trailers(code, ""));
    response
}

/// A connection on which nothing moves when its peer is frozen.
struct Freezing<T> {
    io: T,
    peer: Peer,
}

impl<T> Freezing<T> {
    fn is_frozen(&self) -> bool {
        self.peer.0.frozen.load(Ordering::SeqCst)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Freezing<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.is_frozen() {
            true => Poll::Pending,
            false => Pin::new(&mut self.io).poll_read(cx, buffer),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Freezing<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.is_frozen() {
            true => Poll::Pending,
            false => Pin::new(&mut self.io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A script that hands each call to its test.
pub(crate) fn handed() -> (
    impl Fn(Exchange) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    mpsc::Receiver<Exchange>,
) {
    let (hand, exchanges) = mpsc::channel(16);
    let script = move |exchange| -> BoxFuture<'static, ()> {
        let hand: mpsc::Sender<Exchange> = hand.clone();
        Box::pin(async move { assert!(hand.send(exchange).await.is_ok(), "the test is over") })
    };
    (script, exchanges)
}
