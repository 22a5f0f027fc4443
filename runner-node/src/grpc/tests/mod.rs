//! The services as a scripted load balancer sees them, over an agent whose containers are real HTTP
//! servers on real sockets.

mod carry;
mod engage;
mod golden;
mod state;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nodekit::grpc_server::{GrpcLimits, GrpcServer};
use nodekit::http_server::Drained;
use proto::call_json::CallJson;
use proto::runner::runner_protocol_client::RunnerProtocolClient;
use proto::runner::{
    CallFinished, CallResultStart, ClientMsg, DataFrame, HttpRespMeta, RunnerMsg, RunnerStatus,
    TryCall, call_result_start, client_msg, runner_msg,
};
use proto::runner_extension::runner_extension_client::RunnerExtensionClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::{Settings, services};
use crate::agent::tests::{Bench, NEVER, soon, spec};

/// The image of the status.
const STATUS_IMAGE: &str = "status:1";

fn settings() -> Settings {
    Settings {
        max_wait: Some(NEVER),
        status_image: None,
        network_barrier: None,
        state_interval: Duration::from_millis(1),
        state_heartbeat: NEVER,
    }
}

/// A runner with a listener, and a load balancer's connection to it.
struct Node {
    bench: Bench,
    channel: Channel,
    shutdown: CancellationToken,
    server: JoinHandle<Drained>,
}

impl Node {
    /// With room for so many containers.
    async fn new(containers: u64) -> Self {
        Self::with(containers, settings()).await
    }

    async fn with(containers: u64, settings: Settings) -> Self {
        let bench = Bench::new(containers);
        let routes = services(bench.agent.clone(), settings);
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = GrpcServer::bind(address, GrpcLimits::default(), None)
            .await
            .expect("bound");
        let url = format!("http://{}", server.local_addr());
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(server.serve(routes, super::ACCESS, shutdown.clone()));
        let endpoint = Endpoint::from_shared(url).expect("a URL");
        Self {
            bench,
            channel: soon(endpoint.connect()).await.expect("connected"),
            shutdown,
            server,
        }
    }

    fn protocol(&self) -> RunnerProtocolClient<Channel> {
        RunnerProtocolClient::new(self.channel.clone())
    }

    fn extension(&self) -> RunnerExtensionClient<Channel> {
        RunnerExtensionClient::new(self.channel.clone())
    }

    async fn status(&self) -> RunnerStatus {
        let status = soon(self.protocol().status(())).await;
        status.expect("a status").into_inner()
    }

    async fn open(&self) -> Peer {
        self.open_within(NEVER).await
    }

    async fn open_within(&self, timeout: Duration) -> Peer {
        let (send, sent) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(sent));
        request.set_timeout(timeout);
        let answer = soon(self.protocol().engage(request)).await;
        Peer {
            send: Some(send),
            answer: answer.expect("a stream").into_inner(),
        }
    }

    /// Opens a stream and sends the first message.
    async fn begin(&self, message: TryCall) -> Peer {
        let mut peer = self.open().await;
        peer.send(client_msg::Body::Try(message)).await;
        peer
    }

    /// A whole call with all of its input.
    async fn call(&self, message: TryCall, input: &[&'static [u8]]) -> Answer {
        let mut peer = self.begin(message).await;
        peer.input(input).await;
        peer.answer().await
    }

    /// In good order: nothing is left.
    async fn end(self) {
        self.bench.world.release_all();
        self.bench.agent.drain();
        soon(self.bench.agent.drained()).await;
        drop(self.channel);
        self.shutdown.cancel();
        soon(self.server).await.expect("no panic");
        self.bench.end().await;
    }
}

/// A load balancer in one call.
struct Peer {
    send: Option<mpsc::Sender<ClientMsg>>,
    answer: Streaming<RunnerMsg>,
}

/// All that a runner sent.
struct Answer {
    head: Option<HttpRespMeta>,
    output: Vec<u8>,
    pieces: Vec<usize>,
    finished: CallFinished,
}

impl Answer {
    fn error(&self) -> (i32, &str, bool) {
        assert!(!self.finished.success);
        let finished = &self.finished;
        (
            finished.error_code,
            finished.error_str.as_str(),
            finished.error_user,
        )
    }

    fn header(&self, name: &str) -> Option<&str> {
        let headers = &self.head.as_ref().expect("a head").headers;
        let header = headers.iter().find(|header| header.key == name)?;
        Some(&header.value)
    }
}

impl Peer {
    async fn send(&mut self, body: client_msg::Body) {
        let message = ClientMsg { body: Some(body) };
        // A runner that is done does not read on.
        let _ = soon(self.send.as_ref().expect("open").send(message)).await;
    }

    async fn data(&mut self, data: impl Into<Bytes>, eof: bool) {
        let data = data.into();
        self.send(client_msg::Body::Data(DataFrame { data, eof }))
            .await;
    }

    /// The pieces of the input, and the end.
    async fn input(&mut self, input: &[&'static [u8]]) {
        for piece in input {
            self.data(*piece, false).await;
        }
        self.data("", true).await;
    }

    /// Sends no more.
    fn close(&mut self) {
        self.send = None;
    }

    async fn next(&mut self) -> Result<Option<runner_msg::Body>, Status> {
        let message = soon(self.answer.message()).await?;
        Ok(message.map(|message| message.body.expect("a body")))
    }

    async fn head(&mut self) -> HttpRespMeta {
        match self.next().await.expect("no error") {
            Some(runner_msg::Body::ResultStart(CallResultStart {
                meta: Some(call_result_start::Meta::Http(head)),
            })) => head,
            other => panic!("no head: {other:?}"),
        }
    }

    /// The rest of the answer, which keeps to the order of messages.
    async fn answer(&mut self) -> Answer {
        let (mut head, mut output, mut pieces) = (None, Vec::new(), Vec::new());
        loop {
            match self.next().await.expect("no error").expect("a message") {
                runner_msg::Body::ResultStart(start) => {
                    assert!(head.is_none() && pieces.is_empty(), "a second head");
                    let call_result_start::Meta::Http(http) = start.meta.expect("a head");
                    head = Some(http);
                }
                runner_msg::Body::Data(frame) => {
                    assert!(!frame.eof, "the last message says the end");
                    pieces.push(frame.data.len());
                    output.extend_from_slice(&frame.data);
                }
                runner_msg::Body::Finished(finished) => {
                    assert_eq!(self.next().await.expect("no error"), None, "after the last");
                    return Answer {
                        head,
                        output,
                        pieces,
                        finished,
                    };
                }
            }
        }
    }

    /// The error with which the stream ends.
    async fn broken(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a good end"),
                Err(status) => return status,
            }
        }
    }
}

/// The document of a call.
fn document(function: &str, id: &str, what: &str) -> CallJson {
    let mut call = CallJson::of_function(&spec(function));
    call.id = id.into();
    call.headers.insert("Do".into(), vec![what.into()]);
    call
}

fn try_document(call: &CallJson) -> TryCall {
    TryCall {
        models_call_json: serde_json::to_string(call).expect("JSON"),
        slot_hash_id: String::new(),
        extensions: [].into(),
    }
}

fn try_call(function: &str, id: &str, what: &str) -> TryCall {
    try_document(&document(function, id, what))
}

fn with_extension(mut message: TryCall, name: &str, value: &str) -> TryCall {
    message.extensions.insert(name.into(), value.into());
    message
}

/// A runner that is shared by the tasks of a test.
type SharedNode = Arc<Node>;
