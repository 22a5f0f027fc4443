//! Cancelling durable calls: one, or many.

use domain::{CallId, CallKind, CallRecord, CallState, ErrorCode};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use utoipa::ToSchema;

use super::Kept;
use super::selection::CallSelection;
use crate::rest::body::JsonObject;
use crate::rest::openapi::{BodyErrors, ErrorBody, ServerErrors};
use crate::rest::path::PathParams;
use crate::rest::reply::{Json, Reply};

/// How many calls of one request are cancelled at a time.
const AT_ONCE: usize = 8;

const CANCELLABLE: [CallState; 3] = [CallState::Delayed, CallState::Queued, CallState::Running];

/// What became of a request to cancel many calls.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ManyCancelled {
    /// The calls that are cancelled now.
    cancelled: Vec<CallId>,
    /// The calls that are not, because they are over, or are none.
    refused: Vec<CallId>,
    /// There may be more that the filter finds: ask again with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Cancels a durable call, also while it runs. Cancelling it again changes nothing.
#[utoipa::path(
    delete, path = "/v2/calls/{call_id}", tag = "calls", operation_id = "CancelCall",
    params(("call_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "The call, cancelled.", body = CallRecord),
        (status = 404, description = "There is no such call.", body = ErrorBody),
        (status = 409, description = "It is over, or its client waits for it.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn cancel(
    Kept(calls): Kept,
    PathParams(id): PathParams<CallId>,
) -> Reply<CallRecord> {
    Ok(Json(calls.cancel(&id).await?))
}

/// Cancels the durable calls that are named, or that a filter finds and that are not over.
#[utoipa::path(
    post, path = "/v2/calls/cancel", tag = "calls", operation_id = "CancelCalls",
    request_body = CallSelection,
    responses(
        (status = 200, description = "What became of them.", body = ManyCancelled),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn cancel_many(
    Kept(calls): Kept,
    JsonObject(selection): JsonObject<CallSelection>,
) -> Reply<ManyCancelled> {
    let selected = selection.selected()?;
    let chosen = selected
        .find(&calls, |filter| {
            filter.kind = Some(CallKind::Async);
            if filter.states.is_empty() {
                filter.states = CANCELLABLE.into();
            }
        })
        .await?;
    let outcomes: Vec<(CallId, bool)> = stream::iter(chosen.ids)
        .map(|id| {
            let calls = calls.clone();
            async move {
                match calls.cancel(&id).await {
                    Ok(_) => Ok((id, true)),
                    Err(error)
                        if matches!(
                            error.code(),
                            ErrorCode::CallNotFound | ErrorCode::CallNotCancellable
                        ) =>
                    {
                        Ok((id, false))
                    }
                    Err(error) => Err(error),
                }
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let (cancelled, refused): (Vec<_>, Vec<_>) =
        outcomes.into_iter().partition(|(_, cancelled)| *cancelled);
    let ids = |outcomes: Vec<(CallId, bool)>| outcomes.into_iter().map(|(id, _)| id).collect();
    Ok(Json(ManyCancelled {
        cancelled: ids(cancelled),
        refused: ids(refused),
        next_cursor: chosen.next_cursor,
    }))
}
