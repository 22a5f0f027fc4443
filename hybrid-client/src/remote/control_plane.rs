//! The control plane over gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{ApiError, App, AppId, FnId, Func, Trigger, TriggerKind};
use proto::hybrid::get_app_request::By;
use proto::hybrid::{
    Document, GetAppRequest, GetFnRequest, GetTriggerRequest, WatchChangesRequest,
};
use proto::hybrid_messages::change_of;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use super::api_nodes::ApiNodes;
use super::follow::follow;
use crate::control_plane::{Change, ControlPlane};

/// Changes that a slow reader may be behind before it has to assume that everything changed.
const CHANGES_KEPT: usize = 1024;

/// The control plane of the API nodes. It watches for changes until it is dropped; whenever the
/// watch was interrupted, and once when it begins, everything may have changed.
pub struct RemoteControlPlane {
    nodes: ApiNodes,
    changes: broadcast::Sender<Change>,
    _watch: AbortOnDropHandle<()>,
}

impl RemoteControlPlane {
    /// Begins to watch; must be called within a runtime.
    pub fn new(nodes: ApiNodes) -> Self {
        let changes = broadcast::Sender::new(CHANGES_KEPT);
        let sender = changes.clone();
        let watch = follow(
            "changes",
            nodes.clone(),
            |mut client| async move { client.watch_changes(WatchChangesRequest {}).await },
            move |notice| {
                // Without a reader nothing is cached.
                let _ = sender.send(change_of(notice));
            },
        );
        Self {
            nodes,
            changes,
            _watch: AbortOnDropHandle::new(tokio::spawn(watch)),
        }
    }

    async fn app_by(&self, by: By) -> Result<Arc<App>, ApiError> {
        let request = GetAppRequest { by: Some(by) };
        let answer = self.nodes.call(request, |mut client, request| async move {
            client.get_app(request).await
        });
        read(&answer.await?)
    }
}

#[async_trait]
impl ControlPlane for RemoteControlPlane {
    async fn app_by_name(&self, name: &str) -> Result<Arc<App>, ApiError> {
        self.app_by(By::Name(name.to_owned())).await
    }

    async fn app(&self, id: &AppId) -> Result<Arc<App>, ApiError> {
        self.app_by(By::Id(id.to_string())).await
    }

    async fn func(&self, id: &FnId) -> Result<Arc<Func>, ApiError> {
        let request = GetFnRequest { id: id.to_string() };
        let answer = self.nodes.call(request, |mut client, request| async move {
            client.get_fn(request).await
        });
        read(&answer.await?)
    }

    async fn trigger_by_source(
        &self,
        app: &AppId,
        kind: TriggerKind,
        source: &str,
    ) -> Result<Arc<Trigger>, ApiError> {
        let request = GetTriggerRequest {
            app_id: app.to_string(),
            r#type: kind.as_str().to_owned(),
            source: source.to_owned(),
        };
        let answer = self.nodes.call(request, |mut client, request| async move {
            client.get_trigger(request).await
        });
        read(&answer.await?)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

fn read<T: DeserializeOwned>(document: &Document) -> Result<Arc<T>, ApiError> {
    serde_json::from_slice(&document.json)
        .map(Arc::new)
        .map_err(|error| ApiError::internal(format_args!("document of an API node: {error}")))
}
