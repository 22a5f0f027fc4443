//! Mutual TLS between real nodes: who is refused, and how certificates are changed under way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

use super::test_authority::{Authority, Files, NAME, Pair};
use super::*;
use crate::grpc_server::test_node::{Log, TestNode, ask, patient, peer, until, within};

/// How often the files are looked at here.
const OFTEN: Duration = Duration::from_millis(10);

/// A node that serves and one that calls, of the same authority.
struct Two {
    authority: Authority,
    server: Files,
    client: Files,
}

impl Two {
    fn new() -> Self {
        let authority = Authority::new("one");
        Self {
            server: Files::new(&authority.good(), &authority.pem()),
            client: Files::new(&authority.sign("caller", |_| {}), &authority.pem()),
            authority,
        }
    }
}

#[tokio::test]
async fn nodes_of_one_authority_know_each_other() {
    let two = Two::new();
    let node = TestNode::start(patient(), Some(two.server.load())).await;
    let status = ask(&node.peer(Some(two.client.load()))).await;
    assert_eq!(status.expect("an answer").id, "caller");
}

#[tokio::test]
async fn clients_without_the_right_certificate_are_refused() {
    let two = Two::new();
    let other = Authority::new("two");
    for (pair, reason) in [
        (other.good(), "UnknownIssuer"),
        (two.authority.expired(), "certificate expired"),
        (two.authority.not_yet_valid(), "not valid yet"),
    ] {
        let (log, _guard) = Log::capture();
        let node = TestNode::start(patient(), Some(two.server.load())).await;
        let client = Files::new(&pair, &two.authority.pem()).load();
        ask(&node.peer(Some(client))).await.expect_err(reason);
        log.wait_for("a node refuses this node's certificate").await;
        log.wait_for("gRPC connection refused").await;
        log.wait_for(reason).await;
        log.wait_for("FN_NODE_CERT: other nodes will refuse this certificate")
            .await;
        assert_eq!(node.calls(), 0, "{reason}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let (log, _guard) = Log::capture();
    let two = Two::new();
    let node = TestNode::start(patient(), Some(two.server.load())).await;
    let mut roots = RootCertStore::empty();
    let authority = two.authority.pem();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
    roots.add(authority).expect("an authority");
    let nobody = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(node.address)
        .await
        .expect("a connection");
    let name = ServerName::try_from(NAME).expect("a name");
    // The client's part may be over before the server judges.
    let _ = within(TlsConnector::from(Arc::new(nobody)).connect(name, stream)).await;
    log.wait_for("peer sent no certificates").await;
    assert_eq!(node.calls(), 0);
}

#[tokio::test]
async fn a_client_without_tls_is_refused() {
    let (log, _guard) = Log::capture();
    let two = Two::new();
    let node = TestNode::start(patient(), Some(two.server.load())).await;
    ask(&node.peer(None))
        .await
        .expect_err("it does not speak TLS");
    log.wait_for("the peer does not speak TLS, and this node demands it (FN_NODE_CERT)")
        .await;
    assert_eq!(node.calls(), 0);
}

#[tokio::test]
async fn servers_without_the_right_certificate_are_refused() {
    let two = Two::new();
    let other = Authority::new("two");
    for (pair, reason) in [
        (other.good(), "UnknownIssuer"),
        (two.authority.expired(), "certificate expired"),
        (two.authority.not_yet_valid(), "not valid yet"),
        (two.authority.sign(NAME, |_| {}), "not valid for name"),
    ] {
        let (log, _guard) = Log::capture();
        let server = Files::new(&pair, &two.authority.pem()).load();
        let node = TestNode::start(patient(), Some(server)).await;
        ask(&node.peer(Some(two.client.load())))
            .await
            .expect_err(reason);
        log.wait_for("a node cannot be connected to").await;
        log.wait_for(reason).await;
        assert_eq!(node.calls(), 0, "{reason}");
    }
    let (log, _guard) = Log::capture();
    let plain = TestNode::start(patient(), None).await;
    ask(&plain.peer(Some(two.client.load())))
        .await
        .expect_err("it does not speak TLS");
    log.wait_for("FN_NODE_CERT").await;
}

#[tokio::test]
async fn a_common_name_of_all_servers_replaces_that_of_the_address() {
    let two = Two::new();
    two.server.put_pair(&two.authority.sign(NAME, |_| {}));
    let node = TestNode::start(patient(), Some(two.server.load())).await;
    for (name, good) in [(NAME, true), ("somebody.else", false)] {
        let mut config = two.client.config();
        config.node_cert_name = name.to_owned();
        let client = NodeTls::load(&config).expect("good files");
        assert_eq!(ask(&node.peer(client)).await.is_ok(), good, "{name}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let two = Two::new();
    let good = two.client.config();
    let error = |change: fn(&mut GrpcConfig)| {
        let mut config = good.clone();
        change(&mut config);
        NodeTls::load(&config).expect_err("an error").to_string()
    };
    assert_eq!(
        error(|config| config.node_cert_key.clear()),
        "FN_NODE_CERT_KEY is not set, but FN_NODE_CERT is: a node needs all of FN_NODE_CERT, \
         FN_NODE_CERT_KEY and FN_NODE_CERT_AUTHORITY, or none"
    );
    let missing = error(|config| config.node_cert_authority.push_str(".not"));
    assert!(
        missing.starts_with("FN_NODE_CERT_AUTHORITY: ")
            && missing.contains("authority.pem.not: No such file"),
        "{missing}"
    );
    let swapped = error(|config| config.node_cert = config.node_cert_key.clone());
    assert!(
        swapped.starts_with("FN_NODE_CERT: ") && swapped.contains("key.pem: no certificate in PEM"),
        "{swapped}"
    );
    let name = error(|config| config.node_cert_name = "a b".to_owned());
    assert!(name.starts_with("FN_NODE_CERT_NAME "), "{name}");
    assert!(
        NodeTls::load(&GrpcConfig::default())
            .expect("no error")
            .is_none()
    );
    let nameless = two.authority.sign("x", |params| {
        params.subject_alt_names.clear();
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    two.client.put_pair(&nameless);
    let nameless = NodeTls::load(&good).expect_err("no name").to_string();
    assert!(
        nameless.contains("cert.pem: the certificate has neither"),
        "{nameless}"
    );
}

/// Reloads until it is dropped.
fn reloading(tls: &NodeTls) -> AbortOnDropHandle<()> {
    let reload = tls.clone().reload_every(OFTEN, CancellationToken::new());
    AbortOnDropHandle::new(tokio::spawn(reload))
}

#[tokio::test]
async fn reloading_ends_with_the_node() {
    let tls = Two::new().client.load();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(tls.reload(shutdown.clone()));
    shutdown.cancel();
    within(task).await.expect("it ends");
}

#[tokio::test]
async fn files_that_are_not_complete_change_nothing() {
    let (log, _guard) = Log::capture();
    let two = Two::new();
    let tls = two.client.load();
    let mut current = tls.0.current.subscribe();
    let _reload = reloading(&tls);
    let new = two.authority.sign("renewed", |_| {});
    let (half, _) = new.cert.split_at(new.cert.len() / 2);
    for (file, contents, complaint) in [
        ("cert.pem", half, "FN_NODE_CERT: "),
        ("cert.pem", "", "no certificate in PEM form"),
        ("cert.pem", &new.cert, "KeyMismatch"),
        ("key.pem", "nonsense", "FN_NODE_CERT_KEY: "),
    ] {
        two.client.put(file, contents);
        log.wait_for(complaint).await;
        assert_eq!(tls.identity().as_str(), "caller", "{complaint}");
    }
    std::fs::remove_file(two.client.path().join("key.pem")).expect("removed");
    log.wait_for("certificates cannot be read").await;
    assert!(!current.has_changed().expect("it lives"));
    two.client.put("key.pem", &new.key);
    within(current.changed()).await.expect("it lives");
    assert_eq!(tls.identity().as_str(), "renewed");
}

/// Calls that go on in the background, and how they went.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    lasting: AtomicUsize,
    fresh: AtomicUsize,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Load {
    async fn on_one_connection(self: Arc<Self>, address: SocketAddr, tls: NodeTls) {
        let peer = peer(address, Some(tls));
        while !self.stop.load(Ordering::SeqCst) {
            self.count(&self.lasting, ask(&peer).await);
        }
    }

    async fn on_new_connections(self: Arc<Self>, address: SocketAddr, tls: NodeTls) {
        while !self.stop.load(Ordering::SeqCst) {
            let peer = peer(address, Some(tls.clone()));
            self.count(&self.fresh, ask(&peer).await);
        }
    }

    fn count<T>(&self, counter: &AtomicUsize, outcome: Result<T, tonic::Status>) {
        counter.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = outcome {
            let mut failed = self.failed.lock().expect("no panic");
            failed.push(format!("{error:?}"));
        }
    }

    /// Waits for calls of both kinds that began after now.
    async fn goes_on(&self) {
        let counts = || {
            (
                self.lasting.load(Ordering::SeqCst),
                self.fresh.load(Ordering::SeqCst),
            )
        };
        let before = counts();
        until("calls go on", || {
            let now = counts();
            now.0 >= before.0 + 10 && now.1 >= before.1 + 10
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_authority_are_changed_under_load() {
    let two = Two::new();
    let (old, new) = (&two.authority, Authority::new("two"));
    let (server, client) = (two.server.load(), two.client.load());
    let _reloads = [reloading(&server), reloading(&client)];
    let mut reloaded = [&server, &client].map(|tls| tls.0.current.subscribe());
    let node = TestNode::start(patient(), Some(server.clone())).await;
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        callers.spawn(load.clone().on_one_connection(node.address, client.clone()));
        callers.spawn(
            load.clone()
                .on_new_connections(node.address, client.clone()),
        );
    }
    load.goes_on().await;
    let both = old.pem() + &new.pem();
    let change: [(&dyn Fn(), &[usize]); 5] = [
        (
            &|| {
                two.server.put("authority.pem", &both);
                two.client.put("authority.pem", &both);
            },
            &[0, 1],
        ),
        (&|| two.server.put_pair(&new.good()), &[0]),
        (&|| two.client.put_pair(&new.sign("renewed", |_| {})), &[1]),
        // The same authority again: what expires in everyday life.
        (&|| two.server.put_pair(&new.good()), &[0]),
        (
            &|| {
                two.server.put("authority.pem", &new.pem());
                two.client.put("authority.pem", &new.pem());
            },
            &[0, 1],
        ),
    ];
    for (write, expected) in change {
        write();
        for &node in expected {
            within(reloaded[node].changed()).await.expect("it lives");
        }
        load.goes_on().await;
    }
    load.stop.store(true, Ordering::SeqCst);
    while let Some(caller) = within(callers.join_next()).await {
        caller.expect("no panic");
    }
    assert_eq!(*load.failed.lock().expect("no panic"), Vec::<String>::new());
    let after = ask(&peer(node.address, Some(client))).await;
    assert_eq!(after.expect("an answer").id, "renewed");
    let left: Pair = old.sign("left", |_| {});
    let left = Files::new(&left, &both).load();
    let refused = ask(&peer(node.address, Some(left))).await;
    refused.expect_err("the old authority is gone");
}
