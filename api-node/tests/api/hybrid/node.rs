//! An API node in a runtime of its own, so that it can be killed with all its connections, and
//! clients of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_node::Store;
use api_node::hybrid::{self, HybridSettings};
use api_node::store::{self, OpenOptions};
use domain::{
    App, AppDraft, AppPatch, Func, FuncDraft, FuncPatch, IdSource, Trigger, TriggerDraft,
};
use hybrid_client::{ApiNode, ApiNodes, RemoteSettings};
use proto::hybrid::hybrid_client::HybridClient;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use crate::postgres::Cluster;

/// An API node: a store and the service over it, on a port of its own.
pub(super) struct Node {
    pub(super) store: Arc<dyn Store>,
    pub(super) address: SocketAddr,
    pub(super) url: String,
    stop: CancellationToken,
    runtime: Option<Runtime>,
}

impl Node {
    /// A node on the database `url`.
    pub(super) async fn start(url: &str) -> Self {
        let settings = HybridSettings::default();
        Self::start_at(([127, 0, 0, 1], 0).into(), url, settings).await
    }

    pub(super) async fn start_at(address: SocketAddr, url: &str, settings: HybridSettings) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        // Every node stands for a process of its own.
        static PROCESS: AtomicU64 = AtomicU64::new(1);
        let stop = CancellationToken::new();
        let options = OpenOptions {
            ping_max_retries: 1,
            ids: Arc::new(IdSource::new(PROCESS.fetch_add(1, Ordering::Relaxed))),
            clock: store::wall_clock(),
            cancel: CancellationToken::new(),
        };
        let (database, token) = (url.to_owned(), stop.clone());
        let starting = runtime.spawn(async move {
            let store = store::open(&database, options).await.expect("a store");
            let service = hybrid::service(Arc::clone(&store), settings, token.clone());
            let incoming = TcpIncoming::bind(address).expect("a port");
            let address = incoming.local_addr().expect("its address");
            let serving = Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, token.cancelled_owned());
            tokio::spawn(serving);
            (store, address)
        });
        let (store, address) = starting.await.expect("the node starts");
        Self {
            store,
            address,
            url: url.to_owned(),
            stop,
            runtime: Some(runtime),
        }
    }

    /// Ends it at once: connections are reset, nobody is told.
    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Tells it to stop, as a rolling restart does.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn channel(&self) -> Channel {
        channel(self.address)
    }

    pub(super) fn client(&self) -> HybridClient<Channel> {
        HybridClient::new(self.channel())
    }

    pub(super) async fn app(&self, name: &str) -> App {
        let draft = AppDraft {
            name: name.to_owned(),
            ..AppDraft::default()
        };
        self.store.create_app(draft).await.expect("a new app")
    }

    pub(super) async fn func(&self, app: &App, name: &str) -> Func {
        let draft = FuncDraft {
            app_id: app.id.to_string(),
            name: name.to_owned(),
            image: "image:1".to_owned(),
            ..FuncDraft::default()
        };
        self.store.create_fn(draft).await.expect("a new function")
    }

    pub(super) async fn trigger(&self, func: &Func, name: &str, source: &str) -> Trigger {
        let draft = TriggerDraft {
            app_id: func.app_id.to_string(),
            fn_id: func.id.to_string(),
            name: name.to_owned(),
            kind: "http".to_owned(),
            source: source.to_owned(),
            ..TriggerDraft::default()
        };
        self.store.create_trigger(draft).await.expect("a trigger")
    }

    pub(super) async fn set_image(&self, func: &Func, image: &str) {
        let patch: FuncPatch =
            serde_json::from_value(serde_json::json!({"image": image})).expect("a patch");
        self.store
            .update_fn(&func.id, &patch)
            .await
            .expect("changed");
    }

    pub(super) async fn set_config(&self, app: &App, value: &str) {
        let patch: AppPatch =
            serde_json::from_value(serde_json::json!({"config": {"k": value}})).expect("a patch");
        self.store
            .update_app(&app.id, &patch)
            .await
            .expect("changed");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(super) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect_timeout(Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true)
        .connect_lazy()
}

/// A client of `nodes` that begins with the first.
pub(super) fn client_of(nodes: &[&Node]) -> ApiNodes {
    let nodes = nodes.iter().map(|node| ApiNode {
        name: node.address.to_string(),
        channel: node.channel(),
    });
    ApiNodes::new(nodes.collect(), RemoteSettings::default(), || 0).expect("nodes")
}

pub(super) fn sqlite(directory: &Path) -> String {
    format!("sqlite3://{}/fn.db", directory.display())
}

pub(super) async fn postgres() -> String {
    tokio::task::spawn_blocking(|| Cluster::shared().create_database())
        .await
        .expect("a new database")
}
