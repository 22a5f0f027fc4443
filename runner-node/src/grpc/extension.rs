//! `RunnerExtension`: what only Hearth's load balancers know of a runner (DESIGN 6).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::SlotKey;
use futures_util::{Stream, stream};
use proto::runner_extension::runner_extension_server::RunnerExtension;
use proto::runner_extension::{CarryIn, FunctionState, NodeLoad, StateUpdate, WatchStateRequest};
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use super::carry::Carrier;
use crate::agent::{FunctionView, NodeView, Update};

/// The service.
pub(super) struct Extension(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl RunnerExtension for Extension {
    type WatchStateStream = Pin<Box<dyn Stream<Item = Result<StateUpdate, Status>> + Send>>;
    type CarryStream = Carrier;

    async fn watch_state(
        &self,
        request: Request<WatchStateRequest>,
    ) -> Result<Response<Self::WatchStateStream>, Status> {
        let settings = &self.0.settings;
        let wanted = Duration::from_millis(u64::from(request.get_ref().min_interval_ms));
        let heartbeat = settings.state_heartbeat;
        let watcher = self
            .0
            .agent
            .watch(wanted.max(settings.state_interval), heartbeat);
        // The next update is made when HTTP/2 has room for it: a slow load balancer gets fewer.
        let updates = stream::try_unfold(watcher, move |mut watcher| async move {
            match watcher.next().await {
                Ok(Some(update)) => Ok(Some((message(update, heartbeat), watcher))),
                Ok(None) => Ok(None),
                Err(lagged) => Err(Status::aborted(lagged.to_string())),
            }
        });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn carry(
        &self,
        request: Request<Streaming<CarryIn>>,
    ) -> Result<Response<Carrier>, Status> {
        let carrier = Carrier::new(Arc::clone(&self.0), request.into_inner());
        Ok(Response::new(carrier))
    }
}

fn message(update: Update, heartbeat: Duration) -> StateUpdate {
    StateUpdate {
        complete: update.complete,
        functions: update.functions.into_iter().map(function).collect(),
        load: Some(load(update.load)),
        draining: update.draining,
        heartbeat_ms: u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX),
    }
}

fn function((key, view): (SlotKey, FunctionView)) -> FunctionState {
    FunctionState {
        slot_key: Bytes::copy_from_slice(key.as_bytes()),
        idle: count(view.idle),
        busy: count(view.busy),
        waiting: count(view.waiting),
        wait_nanos: view.wait_nanos,
    }
}

fn load(load: NodeView) -> NodeLoad {
    NodeLoad {
        memory_total_bytes: load.memory_total_bytes,
        memory_free_bytes: load.memory_free_bytes,
        cpu_total_millis: load.cpu_total_millis,
        cpu_free_millis: load.cpu_free_millis,
        running: count(load.running),
        waiting: count(load.waiting),
    }
}

fn count(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}
