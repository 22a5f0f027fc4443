//! A node for tests: a small runner behind a [`GrpcServer`], those who call it, and its log.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use proto::runner::runner_protocol_client::RunnerProtocolClient;
use proto::runner::runner_protocol_server::{RunnerProtocol, RunnerProtocolServer};
use proto::runner::{
    ClientMsg, ConfigMsg, ConfigStatus, LogRequestMsg, LogResponseMsg, RunnerMsg, RunnerStatus,
    client_msg, runner_msg,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tracing::subscriber::DefaultGuard;

use super::{Access, CallDeadline, GrpcLimits, GrpcServer, KeepAlive};
use crate::config::GrpcConfig;
use crate::grpc_channel::{GrpcChannels, GrpcPeer, PeerKind};
use crate::http_server::Drained;
use crate::tls::{NodeTls, PeerIdentity, Role};

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// Times that no test reaches, unless it sets its own.
pub(crate) fn patient() -> GrpcLimits {
    GrpcLimits {
        handshake_timeout: Some(LONG),
        max_connections: 1000,
        max_streams: 1000,
        keep_alive: None,
        shutdown_timeout: Some(LONG),
    }
}

pub(crate) const ALERT: KeepAlive = KeepAlive {
    interval: SHORT,
    timeout: SHORT,
};

/// What the small runner lets in: a method is missing.
const ACCESS: Access = Access(&[
    ("/RunnerProtocol/Engage", Role::Lb),
    ("/RunnerProtocol/Status", Role::Lb),
    ("/RunnerProtocol/ConfigureRunner", Role::Api),
]);

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("in time")
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, wait).await.expect(what);
}

/// Answers with what it knows of the caller, and echoes.
#[derive(Clone, Default)]
struct TestRunner {
    calls: Arc<AtomicUsize>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RunnerProtocol for TestRunner {
    type EngageStream = Answers<RunnerMsg>;
    type StreamLogsStream = Answers<LogResponseMsg>;

    async fn engage(
        &self,
        request: Request<Streaming<ClientMsg>>,
    ) -> Result<Response<Self::EngageStream>, Status> {
        let echo = request.into_inner().filter_map(|message| async {
            match message.map(|message| message.body) {
                Ok(Some(client_msg::Body::Data(frame))) => Some(Ok(RunnerMsg {
                    body: Some(runner_msg::Body::Data(frame)),
                })),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        });
        Ok(Response::new(Box::pin(echo)))
    }

    /// The caller's name in `id`, its port in `active`, whether it set a deadline in `failed`.
    async fn status(&self, request: Request<()>) -> Result<Response<RunnerStatus>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let port = request.remote_addr().map_or(0, |address| address.port());
        let extensions = request.extensions();
        Ok(Response::new(RunnerStatus {
            id: extensions
                .get::<PeerIdentity>()
                .map_or_else(String::new, PeerIdentity::to_string),
            active: port.into(),
            failed: extensions.get::<CallDeadline>().is_some(),
            ..RunnerStatus::default()
        }))
    }

    async fn configure_runner(
        &self,
        _: Request<ConfigMsg>,
    ) -> Result<Response<ConfigStatus>, Status> {
        std::future::pending().await
    }

    async fn stream_logs(
        &self,
        _: Request<Streaming<LogRequestMsg>>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn status2(
        &self,
        _: Request<prost_types::Struct>,
    ) -> Result<Response<RunnerStatus>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// A node that serves the small runner.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<Drained>,
    runner: TestRunner,
}

impl TestNode {
    pub(crate) async fn start(limits: GrpcLimits, tls: Option<NodeTls>) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = GrpcServer::bind(loopback, limits, tls)
            .await
            .expect("a free port");
        let runner = TestRunner::default();
        let routes = Routes::new(RunnerProtocolServer::new(runner.clone()));
        let shutdown = CancellationToken::new();
        Self {
            address: server.local_addr(),
            task: tokio::spawn(server.serve(routes, ACCESS, shutdown.clone())),
            shutdown,
            runner,
        }
    }

    /// Calls that reached the runner.
    pub(crate) fn calls(&self) -> usize {
        self.runner.calls.load(Ordering::SeqCst)
    }

    /// One lasting connection to it.
    pub(crate) fn peer(&self, tls: Option<NodeTls>) -> GrpcPeer {
        peer(self.address, tls)
    }

    pub(crate) async fn stop(self) -> Drained {
        self.shutdown.cancel();
        self.ended().await
    }

    pub(crate) async fn ended(self) -> Drained {
        within(self.task).await.expect("the server ends")
    }
}

/// One lasting connection to whatever is there.
pub(crate) fn peer(address: SocketAddr, tls: Option<NodeTls>) -> GrpcPeer {
    let config = GrpcConfig {
        grpc_connections: 1,
        grpc_connect_timeout: Some(LONG),
        grpc_keepalive_interval: None,
        ..GrpcConfig::default()
    };
    peer_of(&config, address, tls)
}

pub(crate) fn peer_of(config: &GrpcConfig, address: SocketAddr, tls: Option<NodeTls>) -> GrpcPeer {
    let channels = GrpcChannels::new(config, tls, Role::Runner);
    let address = channels.address(&address.to_string()).expect("an address");
    channels
        .connect(address, PeerKind::Hearth)
        .expect("a channel")
}

pub(crate) fn client(peer: &GrpcPeer) -> RunnerProtocolClient<Channel> {
    RunnerProtocolClient::new(peer.channel())
}

/// Asks for the status, which is any unary call.
pub(crate) async fn ask(peer: &GrpcPeer) -> Result<RunnerStatus, Status> {
    within(client(peer).status(()))
        .await
        .map(Response::into_inner)
}

/// What is logged by this thread's tasks.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<String>, Notify)>);

impl Log {
    /// Captures the log until the guard is dropped.
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) async fn wait_for(&self, text: &str) {
        let found = timeout(DEADLINE, async {
            loop {
                let more = self.0.1.notified();
                if self.text().contains(text) {
                    return;
                }
                more.await;
            }
        });
        if found.await.is_err() {
            panic!("`{text}` is not in the log:\n{}", self.text());
        }
    }

    pub(crate) fn text(&self) -> String {
        self.0.0.lock().expect("no panic").clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.0.lock().expect("no panic").push_str(&text);
        self.0.1.notify_one();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
