//! One call: how far it is, and its attempts.

use domain::call::Attempt;
use domain::{CallId, CallRecord, ErrorCode, FnId};
use serde::Serialize;
use utoipa::ToSchema;

use super::Kept;
use crate::rest::list::List;
use crate::rest::openapi::{ErrorBody, ServerErrors};
use crate::rest::path::PathParams;
use crate::rest::reply::{Json, Reply};

/// A call with its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CallWithAttempts {
    #[serde(flatten)]
    call: CallRecord,
    /// Its attempts, the first one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<Attempt>,
}

/// A call in the original's envelope.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoadedCall {
    #[schema(example = "Successfully loaded call")]
    message: &'static str,
    call: CallRecord,
}

/// Shows a call with its attempts.
#[utoipa::path(
    get, path = "/v2/calls/{call_id}", tag = "calls", operation_id = "GetAnyCall",
    params(("call_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "The call.", body = CallWithAttempts),
        (status = 404, description = "There is no such call.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn get(
    Kept(calls): Kept,
    PathParams(id): PathParams<CallId>,
) -> Reply<CallWithAttempts> {
    let call = calls.store().call(&id).await?;
    let history = calls.store().call_attempts(&id).await?;
    Ok(Json(CallWithAttempts { call, history }))
}

/// Shows a call of a function.
#[utoipa::path(
    get, path = "/v2/fns/{fn_id}/calls/{call_id}", tag = "calls", operation_id = "GetCall",
    params(("fn_id" = String, Path, min_length = 1), ("call_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "The call.", body = LoadedCall),
        (status = 404, description = "The function has no such call.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls."),
        ServerErrors,
    )
)]
pub(super) async fn get_of_fn(
    Kept(calls): Kept,
    PathParams((fn_id, id)): PathParams<(FnId, CallId)>,
) -> Reply<LoadedCall> {
    let call = calls.store().call(&id).await?;
    if call.fn_id != fn_id {
        return Err(ErrorCode::CallNotFound.into());
    }
    Ok(Json(LoadedCall {
        message: "Successfully loaded call",
        call,
    }))
}

/// Lists the attempts of a call, the first one first.
#[utoipa::path(
    get, path = "/v2/calls/{call_id}/attempts", tag = "calls", operation_id = "ListCallAttempts",
    params(("call_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "All of its attempts.", body = List<Attempt>),
        (status = 404, description = "There is no such call.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn attempts(
    Kept(calls): Kept,
    PathParams(id): PathParams<CallId>,
) -> Reply<List<Attempt>> {
    let attempts = calls.store().call_attempts(&id).await?;
    Ok(Json(List::whole(attempts)))
}
