//! The seams between the nodes when they share one process: the store as the control plane of the
//! front door, and the agent as its runner.

use std::sync::Arc;

use api_node::Store;
use async_trait::async_trait;
use domain::{ApiError, App, AppId, FnId, Func, Trigger, TriggerKind};
use hybrid_client::{Change, ControlPlane};
use nodekit::exchange::{CallRequest, CallResult};
use runner_node::Agent;
use tokio::sync::broadcast;

/// Changes that a slow reader may be behind before it has to drop its cache.
const CHANGES_KEPT: usize = 1024;

/// The control plane over a store of the same process.
pub(crate) struct LocalControlPlane {
    store: Arc<dyn Store>,
    changes: broadcast::Sender<Change>,
}

impl LocalControlPlane {
    /// A control plane over `store`.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            changes: broadcast::Sender::new(CHANGES_KEPT),
        }
    }

    /// Where the API announces what it has changed.
    pub(crate) fn announcer(&self) -> broadcast::Sender<Change> {
        self.changes.clone()
    }
}

#[async_trait]
impl ControlPlane for LocalControlPlane {
    async fn app_by_name(&self, name: &str) -> Result<Arc<App>, ApiError> {
        self.store.app_by_name(name).await.map(Arc::new)
    }

    async fn app(&self, id: &AppId) -> Result<Arc<App>, ApiError> {
        self.store.app(id).await.map(Arc::new)
    }

    async fn func(&self, id: &FnId) -> Result<Arc<Func>, ApiError> {
        self.store.func(id).await.map(Arc::new)
    }

    async fn trigger_by_source(
        &self,
        app: &AppId,
        kind: TriggerKind,
        source: &str,
    ) -> Result<Arc<Trigger>, ApiError> {
        self.store
            .trigger_by_source(app, kind, source)
            .await
            .map(Arc::new)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// The agent of the same process as a runner.
pub(crate) struct LocalRunner(pub(crate) Agent);

#[async_trait]
impl lb::Runner for LocalRunner {
    async fn run(&self, call: CallRequest) -> CallResult {
        self.0.submit(call).await
    }
}
