//! Who may ask an API node for what, over real TLS: load balancers and runners each have their half,
//! and a runner acts for itself only.

use std::net::SocketAddr;
use std::sync::Arc;

use api_node::hybrid::{self, ACCESS, HybridSettings, calls_service};
use api_node::store::{self, OpenOptions};
use domain::IdSource;
use nodekit::config::GrpcConfig;
use nodekit::grpc_channel::{GrpcChannels, GrpcPeer, PeerKind};
use nodekit::grpc_server::{GrpcLimits, GrpcServer};
use nodekit::tls::{NodeTls, Role};
use proto::calls::calls_client::CallsClient;
use proto::calls::finish_call_request::Outcome;
use proto::calls::{
    AppendLogsRequest, DequeueHello, DequeueRequest, FinishCallRequest, Lease, LeasesRequest,
    Returned, dequeue_request,
};
use proto::hybrid::hybrid_client::HybridClient;
use proto::hybrid::{DeregisterRequest, RegisterRequest};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::client::Grpc;
use tonic::service::Routes;
use tonic::{Code, Request, Status};

use super::DEADLINE;
use super::calls::script::Script;
use super::node::sqlite;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// The certificate of the node `name`, which may act as `role`.
    fn tls(&self, name: &str, role: Option<Role>) -> NodeTls {
        let directory = TempDir::new().expect("a directory");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName(name.try_into().expect("a name")),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        if let Some(role) = role {
            let uri = format!("hearth://role/{role}");
            let uri = uri.as_str().try_into().expect("a URI");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let put = |name: &str, contents: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, contents).expect("written");
            path.display().to_string()
        };
        let config = GrpcConfig {
            node_cert: put("cert.pem", certificate.pem()),
            node_cert_key: put("key.pem", key.serialize_pem()),
            node_cert_authority: put("authority.pem", self.0.pem()),
            ..GrpcConfig::default()
        };
        NodeTls::load(&config).expect("good files").expect("TLS")
    }
}

/// An API node with all its services.
struct Api {
    authority: Authority,
    address: SocketAddr,
    script: Arc<Script>,
    _stop: DropGuard,
    _directory: TempDir,
}

impl Api {
    async fn start() -> Self {
        let authority = Authority::new();
        let directory = TempDir::new().expect("a directory");
        let options = OpenOptions {
            ping_max_retries: 1,
            ids: Arc::new(IdSource::new(1)),
            clock: store::wall_clock(),
            cancel: CancellationToken::new(),
        };
        let store = store::open(&sqlite(directory.path()), options)
            .await
            .expect("a store");
        let (script, stop) = (Script::new(), CancellationToken::new());
        let hybrid = hybrid::service(store, HybridSettings::default(), stop.clone());
        let calls = calls_service::service(script.clone(), script.clone(), 1000, stop.clone());
        let tls = authority.tls("api", Some(Role::Api));
        let loopback = ([127, 0, 0, 1], 0).into();
        let server = GrpcServer::bind(loopback, GrpcLimits::default(), Some(tls))
            .await
            .expect("a port");
        let address = server.local_addr();
        let routes = Routes::new(hybrid).add_service(calls);
        tokio::spawn(server.serve(routes, ACCESS, stop.clone()));
        Self {
            authority,
            address,
            script,
            _stop: stop.drop_guard(),
            _directory: directory,
        }
    }

    fn peer(&self, name: &str, role: Option<Role>) -> GrpcPeer {
        let tls = self.authority.tls(name, role);
        let channels = GrpcChannels::new(&GrpcConfig::default(), Some(tls), Role::Api);
        let address = channels.address(&self.address.to_string());
        let address = address.expect("an address");
        channels
            .connect(address, PeerKind::Hearth)
            .expect("a channel")
    }
}

/// What an empty request for `path` gets at first.
async fn ask(peer: &GrpcPeer, path: &'static str) -> Code {
    let mut client = Grpc::new(peer.channel());
    let answer = async {
        client.ready().await.expect("a connection");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        client.server_streaming(Request::new(()), path, codec).await
    };
    match timeout(DEADLINE, answer).await.expect("in time") {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_is_for_one_kind_of_node() {
    let api = Api::start().await;
    let before_there_were_roles = api.peer("old", None);
    let peers = Role::ALL.map(|role| (role, api.peer("node", Some(role))));
    for (path, meant) in ACCESS.0 {
        for (role, peer) in &peers {
            let code = ask(peer, path).await;
            assert_eq!(
                code != Code::PermissionDenied,
                role == meant,
                "{path} {role}: {code}"
            );
            assert_ne!(code, Code::Unimplemented, "{path}");
        }
        let code = ask(&before_there_were_roles, path).await;
        assert_ne!(code, Code::PermissionDenied, "{path}");
    }
}

/// A method that is not in the list is not served.
#[test]
fn every_method_is_in_the_list() {
    let mut methods = Vec::new();
    for (service, proto) in [
        (
            "hearth.hybrid.v1.Hybrid",
            include_str!("../../../../proto/proto/hybrid.proto"),
        ),
        (
            "hearth.calls.v1.Calls",
            include_str!("../../../../proto/proto/calls.proto"),
        ),
    ] {
        for line in proto.lines() {
            if let Some(rest) = line.trim().strip_prefix("rpc ") {
                let (name, _) = rest.split_once('(').expect("a request");
                methods.push(format!("/{service}/{name}"));
            }
        }
    }
    let listed: Vec<_> = ACCESS.0.iter().map(|(path, _)| *path).collect();
    assert_eq!(listed, methods);
}

/// What a runner can say about the runner `id`, and how it is answered.
async fn acts_as(peer: &GrpcPeer, id: &str) -> Vec<Result<(), Status>> {
    let runner_id = id.to_owned();
    let lease = Lease {
        call_id: "c".to_owned(),
        epoch: 1,
    };
    let leases = LeasesRequest {
        runner_id: runner_id.clone(),
        leases: vec![lease.clone()],
    };
    let mut calls = CallsClient::new(peer.channel());
    let mut hybrid = HybridClient::new(peer.channel());
    let hello = DequeueRequest {
        what: Some(dequeue_request::What::Hello(DequeueHello {
            runner_id: runner_id.clone(),
            capacity: 1,
        })),
    };
    let finish = FinishCallRequest {
        runner_id: runner_id.clone(),
        lease: Some(lease),
        outcome: Some(Outcome::Returned(Returned {})),
    };
    let logs = AppendLogsRequest {
        runner_id: runner_id.clone(),
        chunks: Vec::new(),
    };
    let register = RegisterRequest {
        runner_id: runner_id.clone(),
        address: "runner:1".to_owned(),
        version: "1".to_owned(),
        draining: false,
    };
    let dequeue = futures_util::stream::iter([hello]);
    vec![
        hybrid.register(register).await.map(drop),
        calls.dequeue(dequeue).await.map(drop),
        calls.start_calls(leases.clone()).await.map(drop),
        calls.renew_calls(leases).await.map(drop),
        calls.append_logs(logs).await.map(drop),
        calls.finish_call(finish).await.map(drop),
        hybrid
            .deregister(DeregisterRequest { runner_id })
            .await
            .map(drop),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_acts_for_itself_only() {
    let api = Api::start().await;
    let peer = api.peer("runner-1", Some(Role::Runner));
    for own in ["runner-1", "runner-1/01"] {
        for (n, answer) in acts_as(&peer, own).await.into_iter().enumerate() {
            answer.unwrap_or_else(|status| panic!("{own} {n}: {status:?}"));
        }
    }
    let (started, finished) = {
        let state = api.script.state();
        (state.started.len(), state.finished.len())
    };
    assert_eq!((started, finished), (2, 2));
    for other in ["runner-2", "runner-2/01", "runner-10", "runner"] {
        for (n, answer) in acts_as(&peer, other).await.into_iter().enumerate() {
            let status = answer.expect_err("must be refused");
            assert_eq!(
                status.code(),
                Code::PermissionDenied,
                "{other} {n}: {status:?}"
            );
            assert!(status.message().starts_with("runner_id:"), "{status:?}");
        }
    }
    let state = api.script.state();
    assert_eq!((state.started.len(), state.finished.len()), (2, 2));
}
