//! What front doors ask about calls.

use async_trait::async_trait;
use domain::call::new_call::Accepted;
use domain::call::{CallResult, NewCall};
use domain::{ApiError, CallId, CallRecord, ErrorCode, FnId};
use proto::calls::{EndKeyedRequest, RecordCallsRequest};
use proto::calls_messages::{
    MAX_ITEMS, accepted_of, new_call_message, record_message, result_message,
};
use proto::status;
use tonic::{Code, Status};

use super::{RemoteCalls, malformed};
use crate::calls::{BeginKeyed, CallPlane, Keyed};
use crate::calls_messages::{begin_message, keyed_of};

/// Records of one request, in bytes.
const RECORD_BYTES: usize = 1 << 20;

#[async_trait]
impl CallPlane for RemoteCalls {
    async fn enqueue(&self, call: NewCall) -> Result<Accepted, ApiError> {
        if call.body.len() > self.nodes.0.settings.max_body {
            return Err(ErrorCode::RequestTooLarge.into());
        }
        let request = new_call_message(&call).map_err(ApiError::internal)?;
        let bytes = request.json.len() + request.body.len();
        let patience = self.nodes.accept_patience(bytes);
        let answer =
            self.nodes
                .ask_patiently(patience, bytes, request, |mut client, request| async move {
                    client.enqueue(request).await.map_err(too_large)
                });
        accepted_of(answer.await?).map_err(malformed)
    }

    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError> {
        let mut documents = Vec::new();
        let mut bytes = 0;
        for call in &calls {
            let document = record_message(call).map_err(ApiError::internal)?;
            if documents.len() == MAX_ITEMS || bytes + document.len() > RECORD_BYTES {
                self.send_records(std::mem::take(&mut documents), bytes)
                    .await?;
                bytes = 0;
            }
            bytes += document.len();
            documents.push(document);
        }
        self.send_records(documents, bytes).await
    }

    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError> {
        let request = begin_message(&begin);
        let answer = self
            .nodes
            .ask(0, request, |mut client, request| async move {
                client.begin_keyed(request).await
            });
        keyed_of(answer.await?).map_err(malformed)
    }

    async fn end_keyed(
        &self,
        fn_id: FnId,
        key: String,
        call_id: CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError> {
        let bytes = result.as_ref().map_or(0, |result| result.body.len());
        let request = EndKeyedRequest {
            fn_id: fn_id.to_string(),
            key,
            call_id: call_id.to_string(),
            result: result.as_ref().map(result_message),
        };
        let answer = self
            .nodes
            .ask(bytes, request, |mut client, request| async move {
                client.end_keyed(request).await
            });
        answer.await.map(drop)
    }
}

impl RemoteCalls {
    async fn send_records(&self, json: Vec<bytes::Bytes>, bytes: usize) -> Result<(), ApiError> {
        if json.is_empty() {
            return Ok(());
        }
        let request = RecordCallsRequest { json };
        let answer = self
            .nodes
            .ask(bytes, request, |mut client, request| async move {
                client.record_calls(request).await
            });
        answer.await.map(drop)
    }
}

/// An API node that is set to take less refuses a message before it has read it, without a name.
fn too_large(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => status::of_error(&ErrorCode::RequestTooLarge.into()),
        _ => status,
    }
}
