//! What front doors ask about calls, answered in this process.

use std::future::Future;

use async_trait::async_trait;
use domain::call::new_call::Accepted;
use domain::call::{CallResult, NewCall};
use domain::{ApiError, CallId, CallRecord, ErrorCode, FnId};
use hybrid_client::{BeginKeyed, CallPlane, Keyed};
use tokio::time::timeout;

use super::Calls;
use super::writes::ANSWER_LIMIT;

#[async_trait]
impl CallPlane for Calls {
    async fn enqueue(&self, call: NewCall) -> Result<Accepted, ApiError> {
        self.0.activity.note();
        self.0.enqueue.enqueue(call).await
    }

    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError> {
        // They will have to be deleted.
        self.0.activity.note();
        in_time(self.0.store.record(calls)).await
    }

    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError> {
        in_time(self.0.store.begin_keyed(begin)).await
    }

    async fn end_keyed(
        &self,
        fn_id: FnId,
        key: String,
        call_id: CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError> {
        let store = &self.0.store;
        in_time(store.end_keyed(&fn_id, &key, &call_id, result)).await
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    match timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer,
        Err(late) => Err(ApiError::from(ErrorCode::StoreUnavailable).detail(late)),
    }
}
