//! An API node of another version, which sends what cannot be read.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use hybrid_client::{Work, WorkSource as _};
use proto::calls::calls_server::Calls;
use proto::calls::dequeue_reply::What;
use proto::calls::{
    AppendLogsReply, AppendLogsRequest, BeginKeyedReply, BeginKeyedRequest, DequeueReply,
    DequeueRequest, EndKeyedReply, EndKeyedRequest, EnqueueReply, EnqueueRequest, FinishCallReply,
    FinishCallRequest, Lease, LeasedCall, LeasesReply, LeasesRequest, RecordCallsReply,
    RecordCallsRequest, dequeue_request,
};
use proto::calls_messages::leased_call_message;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::super::DEADLINE;
use super::node::{CallsNode, calls_of};
use super::{RUNNER, lease, leased_call};

/// For each credit it sends one of the replies.
struct Strange(Vec<DequeueReply>);

#[tonic::async_trait]
impl Calls for Strange {
    type DequeueStream = Pin<Box<dyn Stream<Item = Result<DequeueReply, Status>> + Send>>;

    async fn dequeue(
        &self,
        request: Request<Streaming<DequeueRequest>>,
    ) -> Result<Response<Self::DequeueStream>, Status> {
        let credits = request
            .into_inner()
            .filter_map(async |request| match request.ok()?.what? {
                dequeue_request::What::Credits(credits) => Some(credits),
                dequeue_request::What::Hello(_) => None,
            });
        let each = credits.flat_map(|credits| stream::iter(0..credits));
        let replies = each.zip(stream::iter(self.0.clone()));
        Ok(Response::new(Box::pin(replies.map(|(_, reply)| Ok(reply)))))
    }

    async fn enqueue(&self, _: Request<EnqueueRequest>) -> Result<Response<EnqueueReply>, Status> {
        Ok(Response::new(EnqueueReply::default()))
    }

    async fn record_calls(
        &self,
        _: Request<RecordCallsRequest>,
    ) -> Result<Response<RecordCallsReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn begin_keyed(
        &self,
        _: Request<BeginKeyedRequest>,
    ) -> Result<Response<BeginKeyedReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn end_keyed(
        &self,
        _: Request<EndKeyedRequest>,
    ) -> Result<Response<EndKeyedReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn start_calls(
        &self,
        _: Request<LeasesRequest>,
    ) -> Result<Response<LeasesReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn renew_calls(
        &self,
        _: Request<LeasesRequest>,
    ) -> Result<Response<LeasesReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn finish_call(
        &self,
        _: Request<FinishCallRequest>,
    ) -> Result<Response<FinishCallReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn append_logs(
        &self,
        _: Request<AppendLogsRequest>,
    ) -> Result<Response<AppendLogsReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_read_is_left_and_its_credit_is_granted_anew() {
    let reply = |what| DequeueReply { what };
    let good = leased_call(lease("good", 1), "");
    let node = CallsNode::strange(Strange(vec![
        reply(None),
        reply(Some(What::Cancelled(Lease::default()))),
        reply(Some(What::Call(LeasedCall::default()))),
        reply(Some(What::Call(
            leased_call_message(&good).expect("a message"),
        ))),
    ]))
    .await;
    let calls = calls_of(&[node.address]);
    let mut dequeue = calls.dequeue(RUNNER.into(), 1).await.expect("open");
    // One for each of those that use up none, one for the bad call: the good one needs the second
    // life of that one.
    dequeue.credits.send(3).await.expect("open");
    let work = timeout(DEADLINE, dequeue.work.recv())
        .await
        .expect("in time");
    assert_eq!(work, Some(Work::Run(Box::new(good))));
    assert_eq!(timeout(DEADLINE, dequeue.work.recv()).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_call_is_an_error() {
    let node = CallsNode::strange(Strange(Vec::new())).await;
    let calls = calls_of(&[node.address]);
    let answer = hybrid_client::CallPlane::enqueue(&calls, super::new_call("c", "")).await;
    let error = answer.expect_err("no id");
    assert_eq!(error.code(), domain::ErrorCode::Internal);
    let detail = error.internal_detail().expect("a reason");
    assert!(detail.contains("call_id"), "{detail}");
}
