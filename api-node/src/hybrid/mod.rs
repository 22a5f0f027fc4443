//! The hybrid service: what load balancers and runners ask of API nodes over gRPC (DESIGN 6). It
//! reads and changes through the [`Store`], as the REST API does.

mod access;
mod authorize;
pub mod calls_service;
mod change_stream;
mod listed_runners;
mod request;
mod runner_watch;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use domain::{ApiError, AppId, FnId, RegisteredRunner, TriggerKind};
use futures_util::Stream;
use nodekit::tls::PeerIdentity;
use proto::hybrid::get_app_request::By;
use proto::hybrid::hybrid_server::{Hybrid, HybridServer};
use proto::hybrid::{
    AddNodeRequest, ChangeNotice, DeregisterReply, DeregisterRequest, Document, GetAppRequest,
    GetFnRequest, GetTriggerRequest, ListNodesRequest, NodeChanged, NodeList, RegisterReply,
    RegisterRequest, RemoveNodeRequest, RunnerList, WatchChangesRequest, WatchRunnersRequest,
};
use proto::status;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub use self::access::ACCESS;
use self::runner_watch::RunnerWatch;
use crate::store::Store;

/// The largest request: names and ids.
const MAX_REQUEST: usize = 64 * 1024;

/// How the service behaves.
#[derive(Debug, Clone)]
pub struct HybridSettings {
    /// How long a runner's lease holds without being renewed.
    pub lease: Duration,
    /// When a runner should renew it.
    pub renew_after: Duration,
    /// How often the leases are looked at while somebody watches the runners.
    pub runner_poll: Duration,
}

impl Default for HybridSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(3),
            renew_after: Duration::from_secs(1),
            runner_poll: Duration::from_millis(250),
        }
    }
}

/// The service over `store`, to be mounted on a gRPC listener. Watches end when `stop` is
/// cancelled, so that the listener can; must be called within a runtime.
pub fn service(
    store: Arc<dyn Store>,
    settings: HybridSettings,
    stop: CancellationToken,
) -> HybridServer<HybridService> {
    let runner_watch = RunnerWatch::start(Arc::clone(&store), &settings);
    HybridServer::new(HybridService {
        store,
        settings,
        stop,
        runner_watch,
    })
    .max_decoding_message_size(MAX_REQUEST)
}

/// The service; see [`service`].
pub struct HybridService {
    store: Arc<dyn Store>,
    settings: HybridSettings,
    stop: CancellationToken,
    runner_watch: RunnerWatch,
}

/// What a watch sends.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Hybrid for HybridService {
    type WatchChangesStream = Messages<ChangeNotice>;
    type WatchRunnersStream = Messages<RunnerList>;

    async fn get_app(&self, request: Request<GetAppRequest>) -> Result<Response<Document>, Status> {
        let app = match request.into_inner().by {
            Some(By::Id(id)) => self.store.app(&AppId::from(id)).await,
            Some(By::Name(name)) => self.store.app_by_name(&name).await,
            None => return Err(request::missing("by")),
        };
        document(app)
    }

    async fn get_fn(&self, request: Request<GetFnRequest>) -> Result<Response<Document>, Status> {
        let id = FnId::from(request.into_inner().id);
        document(self.store.func(&id).await)
    }

    async fn get_trigger(
        &self,
        request: Request<GetTriggerRequest>,
    ) -> Result<Response<Document>, Status> {
        let GetTriggerRequest {
            app_id,
            r#type,
            source,
        } = request.into_inner();
        request::given("app_id", &app_id)?;
        request::given("type", &r#type)?;
        request::given("source", &source)?;
        let kind = TriggerKind::parse(&r#type).map_err(|error| request::refused("type", error))?;
        let app = AppId::from(app_id);
        document(self.store.trigger_by_source(&app, kind, &source).await)
    }

    async fn watch_changes(
        &self,
        _: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let changes = change_stream::of(self.store.changes(), self.stop.clone());
        Ok(Response::new(Box::pin(changes)))
    }

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterReply>, Status> {
        let identity = authorize::identity(&request);
        let runner: RegisteredRunner = request::runner(request.into_inner())?;
        authorize::runner(identity.as_ref(), &runner.id)?;
        let owner = identity.as_ref().map(PeerIdentity::as_str);
        let HybridSettings {
            lease, renew_after, ..
        } = self.settings;
        let registered = self.store.register_runner(&runner, owner, lease).await;
        registered.map_err(refused)?;
        Ok(Response::new(RegisterReply {
            lease_ms: millis(lease),
            renew_after_ms: millis(renew_after),
        }))
    }

    async fn deregister(
        &self,
        request: Request<DeregisterRequest>,
    ) -> Result<Response<DeregisterReply>, Status> {
        let identity = authorize::identity(&request);
        let id = request.into_inner().runner_id;
        authorize::runner(identity.as_ref(), &id)?;
        self.store.deregister_runner(&id).await.map_err(refused)?;
        Ok(Response::new(DeregisterReply {}))
    }

    async fn watch_runners(
        &self,
        _: Request<WatchRunnersRequest>,
    ) -> Result<Response<Self::WatchRunnersStream>, Status> {
        let lists = self.runner_watch.lists(self.stop.clone());
        Ok(Response::new(Box::pin(lists)))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<NodeList>, Status> {
        let addresses = self.store.nodes().await.map_err(refused)?;
        Ok(Response::new(NodeList { addresses }))
    }

    async fn add_node(
        &self,
        request: Request<AddNodeRequest>,
    ) -> Result<Response<NodeChanged>, Status> {
        let address = request::address(&request.into_inner().address)?;
        self.store.add_node(&address).await.map_err(refused)?;
        Ok(Response::new(NodeChanged {}))
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<NodeChanged>, Status> {
        let address = request::address(&request.into_inner().address)?;
        self.store.remove_node(&address).await.map_err(refused)?;
        Ok(Response::new(NodeChanged {}))
    }
}

/// The document of the REST API.
fn document(found: Result<impl Serialize, ApiError>) -> Result<Response<Document>, Status> {
    let json = serde_json::to_vec(&found.map_err(refused)?)
        .map_err(|error| refused(ApiError::internal(error)))?;
    Ok(Response::new(Document { json: json.into() }))
}

/// The error as the client gets it; its detail is logged and stays here.
fn refused(error: ApiError) -> Status {
    if let Some(detail) = error.internal_detail() {
        tracing::error!(error = error.code().name(), detail, "request failed");
    }
    status::of_error(&error)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
