//! What load balancers and runners ask of API nodes.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{ApiError, App, AppId, FnId, Func, Trigger, TriggerKind};
use tokio::sync::broadcast;

pub use domain::Change;

/// The reads of the control plane. A thing that does not exist is the API's 404, never another
/// error.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// The app named `name`; `AppNotFound` if there is none.
    async fn app_by_name(&self, name: &str) -> Result<Arc<App>, ApiError>;

    /// The app with this id; `AppNotFound` if there is none.
    async fn app(&self, id: &AppId) -> Result<Arc<App>, ApiError>;

    /// The function with this id; `FnNotFound` if there is none.
    async fn func(&self, id: &FnId) -> Result<Arc<Func>, ApiError>;

    /// The trigger of `app` with exactly this source; `TriggerNotFound` if there is none.
    async fn trigger_by_source(
        &self,
        app: &AppId,
        kind: TriggerKind,
        source: &str,
    ) -> Result<Arc<Trigger>, ApiError>;

    /// What changes from now on. A change is sent when the reads show it, and before the client who
    /// made it is answered, so that the client's next call sees it. A receiver that lags must assume
    /// [`Change::Everything`].
    fn changes(&self) -> broadcast::Receiver<Change>;
}
