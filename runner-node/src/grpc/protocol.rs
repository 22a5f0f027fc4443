//! `RunnerProtocol`: what original load balancers know of a runner (spec/08).

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use nodekit::grpc_server::CallDeadline;
use proto::runner::runner_protocol_server::RunnerProtocol;
use proto::runner::{
    ClientMsg, ConfigMsg, ConfigStatus, LogRequestMsg, LogResponseMsg, RunnerStatus,
};
use serde_json::Value;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::warn;

use super::Shared;
use super::engage::Engagement;
use super::struct_json;

/// The service.
pub(super) struct Protocol(pub(super) Arc<Shared>);

impl Protocol {
    async fn tell_status(&self, input: impl FnOnce() -> Value + Send) -> Response<RunnerStatus> {
        let mut status = match &self.0.status_image {
            Some(image) => image.status(input()).await,
            None => RunnerStatus::default(),
        };
        self.0.counters.tell(&mut status);
        Response::new(status)
    }
}

#[tonic::async_trait]
impl RunnerProtocol for Protocol {
    type EngageStream = Engagement;
    type StreamLogsStream = Pin<Box<dyn Stream<Item = Result<LogResponseMsg, Status>> + Send>>;

    async fn engage(
        &self,
        request: Request<Streaming<ClientMsg>>,
    ) -> Result<Response<Engagement>, Status> {
        let deadline = request.extensions().get::<CallDeadline>();
        let deadline = deadline.map(|deadline| deadline.instant().into_std());
        let engagement = Engagement::new(Arc::clone(&self.0), request.into_inner(), deadline);
        Ok(Response::new(engagement))
    }

    async fn status(&self, _request: Request<()>) -> Result<Response<RunnerStatus>, Status> {
        Ok(self.tell_status(|| Value::Object(Default::default())).await)
    }

    async fn status2(
        &self,
        request: Request<prost_types::Struct>,
    ) -> Result<Response<RunnerStatus>, Status> {
        let input = request.into_inner();
        Ok(self.tell_status(|| struct_json::of_struct(input)).await)
    }

    async fn configure_runner(
        &self,
        request: Request<ConfigMsg>,
    ) -> Result<Response<ConfigStatus>, Status> {
        // The values may be secrets.
        let keys: Vec<_> = request.get_ref().config.keys().collect();
        warn!(?keys, "this runner has no use for ConfigureRunner");
        Ok(Response::new(ConfigStatus {}))
    }

    async fn stream_logs(
        &self,
        _request: Request<Streaming<LogRequestMsg>>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        Err(Status::new(
            Code::Unknown,
            "runner not configured with logStreamer",
        ))
    }
}
