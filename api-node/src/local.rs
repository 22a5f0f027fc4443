//! The control plane for nodes in the same process: the store itself.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{ApiError, App, AppId, Change, FnId, Func, Trigger, TriggerKind};
use hybrid_client::ControlPlane;
use tokio::sync::broadcast;

use crate::store::Store;

/// A control plane over a store of the same process.
pub struct LocalControlPlane(Arc<dyn Store>);

impl LocalControlPlane {
    /// A control plane over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

#[async_trait]
impl ControlPlane for LocalControlPlane {
    async fn app_by_name(&self, name: &str) -> Result<Arc<App>, ApiError> {
        self.0.app_by_name(name).await.map(Arc::new)
    }

    async fn app(&self, id: &AppId) -> Result<Arc<App>, ApiError> {
        self.0.app(id).await.map(Arc::new)
    }

    async fn func(&self, id: &FnId) -> Result<Arc<Func>, ApiError> {
        self.0.func(id).await.map(Arc::new)
    }

    async fn trigger_by_source(
        &self,
        app: &AppId,
        kind: TriggerKind,
        source: &str,
    ) -> Result<Arc<Trigger>, ApiError> {
        let trigger = self.0.trigger_by_source(app, kind, source).await?;
        Ok(Arc::new(trigger))
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes()
    }
}
