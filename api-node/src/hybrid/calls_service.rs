//! The calls service: durable calls, records and keys for load balancers, work for runners. It
//! checks what it is asked, and by whom; what it means is up to the [`CallPlane`] and the
//! [`WorkSource`] behind it, such as that a runner holds the lease that it names.

mod delivery;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use domain::call::LeaseRef;
use domain::{CallId, ErrorCode};
use futures_util::Stream;
use futures_util::future::join_all;
use hybrid_client::calls_messages::{begin_of, chunk_of, key_of, keyed_message};
use hybrid_client::{CallPlane, WorkSource};
use proto::calls::calls_server::{Calls, CallsServer};
use proto::calls::{
    AppendLogsReply, AppendLogsRequest, BeginKeyedReply, BeginKeyedRequest, DequeueHello,
    DequeueReply, DequeueRequest, EndKeyedReply, EndKeyedRequest, EnqueueReply, EnqueueRequest,
    FinishCallReply, FinishCallRequest, LeasesReply, LeasesRequest, RecordCallsReply,
    RecordCallsRequest, dequeue_request,
};
use proto::calls_messages::{
    MAX_ITEMS, Malformed, accepted_message, duration_ms, finish_of, fn_id_of, id, lease_message,
    leases_of, max_message, new_call_of, record_of, result_of,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::delivery::Delivery;
use super::{authorize, refused, request};

/// How long a runner may take to say what it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// The service over `plane` and `work`, to be mounted on a gRPC listener. Calls may have inputs, and
/// outputs that are kept, of `max_body` bytes. When `stop` is cancelled, dequeues hand out what was
/// claimed for them, and end.
pub fn service(
    plane: Arc<dyn CallPlane>,
    work: Arc<dyn WorkSource>,
    max_body: usize,
    stop: CancellationToken,
) -> CallsServer<CallsService> {
    let largest = max_message(max_body);
    CallsServer::new(CallsService {
        plane,
        work,
        max_body,
        stop,
    })
    .max_decoding_message_size(largest)
}

/// The service; see [`service`].
pub struct CallsService {
    plane: Arc<dyn CallPlane>,
    work: Arc<dyn WorkSource>,
    max_body: usize,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Calls for CallsService {
    type DequeueStream = Pin<Box<dyn Stream<Item = Result<DequeueReply, Status>> + Send>>;

    async fn enqueue(
        &self,
        request: Request<EnqueueRequest>,
    ) -> Result<Response<EnqueueReply>, Status> {
        let call = new_call_of(request.into_inner()).map_err(malformed)?;
        if call.body.len() > self.max_body {
            return Err(refused(ErrorCode::RequestTooLarge.into()));
        }
        call.options.validate().map_err(refused)?;
        let accepted = self.plane.enqueue(call).await.map_err(refused)?;
        Ok(Response::new(accepted_message(&accepted)))
    }

    async fn record_calls(
        &self,
        request: Request<RecordCallsRequest>,
    ) -> Result<Response<RecordCallsReply>, Status> {
        let documents = request.into_inner().json;
        not_too_many("json", documents.len())?;
        let records = documents.iter().map(|json| record_of(json));
        let records = records.collect::<Result<_, _>>().map_err(malformed)?;
        self.plane.record(records).await.map_err(refused)?;
        Ok(Response::new(RecordCallsReply {}))
    }

    async fn begin_keyed(
        &self,
        request: Request<BeginKeyedRequest>,
    ) -> Result<Response<BeginKeyedReply>, Status> {
        let begin = begin_of(request.into_inner()).map_err(malformed)?;
        let keyed = self.plane.begin_keyed(begin).await.map_err(refused)?;
        Ok(Response::new(keyed_message(&keyed)))
    }

    async fn end_keyed(
        &self,
        request: Request<EndKeyedRequest>,
    ) -> Result<Response<EndKeyedReply>, Status> {
        let EndKeyedRequest {
            fn_id,
            key,
            call_id,
            result,
        } = request.into_inner();
        let fn_id = fn_id_of(fn_id).map_err(malformed)?;
        let key = key_of(key).map_err(malformed)?;
        let call_id = id("call_id", call_id).map_err(malformed)?;
        let result = result.map(result_of).transpose().map_err(malformed)?;
        let ended = self
            .plane
            .end_keyed(fn_id, key, CallId::from(call_id), result);
        ended.await.map_err(refused)?;
        Ok(Response::new(EndKeyedReply {}))
    }

    async fn dequeue(
        &self,
        request: Request<Streaming<DequeueRequest>>,
    ) -> Result<Response<Self::DequeueStream>, Status> {
        let identity = authorize::identity(&request);
        let mut requests = request.into_inner();
        let first = tokio::select! {
            first = timeout(HELLO_PATIENCE, requests.message()) => first,
            () = self.stop.cancelled() => return Err(Status::unavailable("the API node stops")),
        };
        let first = first.map_err(|_| Status::deadline_exceeded("hello: not in time"))??;
        let Some(dequeue_request::What::Hello(hello)) = first.and_then(|first| first.what) else {
            return Err(request::missing("hello"));
        };
        let DequeueHello {
            runner_id,
            capacity,
        } = hello;
        authorize::runner(identity.as_ref(), &runner_id)?;
        if capacity == 0 {
            return Err(request::missing("capacity"));
        }
        let runner_id: Arc<str> = runner_id.into();
        let dequeue = self.work.dequeue(Arc::clone(&runner_id), capacity);
        let dequeue = dequeue.await.map_err(refused)?;
        let work = Arc::clone(&self.work);
        let delivery = Delivery::new(requests, dequeue, work, runner_id, self.stop.clone());
        Ok(Response::new(Box::pin(delivery.replies())))
    }

    async fn start_calls(
        &self,
        request: Request<LeasesRequest>,
    ) -> Result<Response<LeasesReply>, Status> {
        let (runner_id, leases) = leases(request)?;
        let starts = leases
            .iter()
            .map(|lease| self.work.start(&runner_id, lease.clone()));
        let mut held = Vec::with_capacity(leases.len());
        for (lease, started) in leases.iter().zip(join_all(starts).await) {
            match started {
                Ok(()) => held.push(lease_message(lease)),
                Err(error) if error.code() == ErrorCode::CallLeaseLost => {}
                // It is not known of one; all may be started again.
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(Response::new(LeasesReply { held, lease_ms: 0 }))
    }

    async fn renew_calls(
        &self,
        request: Request<LeasesRequest>,
    ) -> Result<Response<LeasesReply>, Status> {
        let (runner_id, leases) = leases(request)?;
        let renewed = self.work.renew(&runner_id, leases).await;
        let (held, holds) = renewed.map_err(refused)?;
        Ok(Response::new(LeasesReply {
            held: held.iter().map(lease_message).collect(),
            lease_ms: duration_ms(holds),
        }))
    }

    async fn finish_call(
        &self,
        request: Request<FinishCallRequest>,
    ) -> Result<Response<FinishCallReply>, Status> {
        let identity = authorize::identity(&request);
        let request = request.into_inner();
        authorize::runner(identity.as_ref(), &request.runner_id)?;
        let runner_id = request.runner_id.clone();
        let end = finish_of(request).map_err(malformed)?;
        let accepted = self.work.finish(&runner_id, end).await.map_err(refused)?;
        Ok(Response::new(FinishCallReply { accepted }))
    }

    async fn append_logs(
        &self,
        request: Request<AppendLogsRequest>,
    ) -> Result<Response<AppendLogsReply>, Status> {
        let identity = authorize::identity(&request);
        let AppendLogsRequest { runner_id, chunks } = request.into_inner();
        authorize::runner(identity.as_ref(), &runner_id)?;
        not_too_many("chunks", chunks.len())?;
        let chunks = chunks.into_iter().map(chunk_of);
        let chunks = chunks.collect::<Result<_, _>>().map_err(malformed)?;
        let appended = self.work.append_logs(&runner_id, chunks);
        appended.await.map_err(refused)?;
        Ok(Response::new(AppendLogsReply {}))
    }
}

/// The runner that asks, and the claims that it names.
fn leases(request: Request<LeasesRequest>) -> Result<(String, Vec<LeaseRef>), Status> {
    let identity = authorize::identity(&request);
    let LeasesRequest { runner_id, leases } = request.into_inner();
    authorize::runner(identity.as_ref(), &runner_id)?;
    let leases = leases_of(leases).map_err(malformed)?;
    Ok((runner_id, leases))
}

fn not_too_many(field: &str, count: usize) -> Result<(), Status> {
    if count > MAX_ITEMS {
        let text = format!("{field}: must be at most {MAX_ITEMS}");
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}
