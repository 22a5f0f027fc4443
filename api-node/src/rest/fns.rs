//! `/v2/fns` (spec/01 1.4). Answers carry the endpoint annotation, those of a change too (spec/A).

use axum::extract::State;
use domain::{AppId, ErrorCode, FnId, Func, FuncDraft, FuncPatch};
use http::StatusCode;

use super::body::JsonObject;
use super::endpoint::{self, EndpointBase};
use super::list::{List, ListQuery, PageQuery};
use super::openapi::{BodyErrors, ErrorBody, ServerErrors};
use super::path::PathParams;
use super::reply::{Failure, Json, Reply};
use super::state::ApiState;
use crate::store::FuncFilter;

/// Lists the functions of an app by name.
#[utoipa::path(
    get, path = "/v2/fns", tag = "fns", operation_id = "ListFns",
    params(
        ("app_id" = String, Query, min_length = 1, description = "The app."),
        ("name" = Option<String>, Query, description = "Only the function with exactly this name."),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of functions.", body = List<Func>),
        (status = 400, description = "The app is not named, or the cursor is not one of this server's.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    base: EndpointBase,
    query: ListQuery,
) -> Reply<List<Func>> {
    let page = query.page.request()?;
    let empty = query.matches_nothing();
    let app_id = query.app_id.ok_or(ErrorCode::FnMissingAppId)?;
    if empty {
        return Ok(Json(List::empty()));
    }
    let filter = FuncFilter {
        app_id: AppId::from(app_id),
        name: query.name,
    };
    let mut fns = state.store.fns(&filter, &page).await?;
    for func in &mut fns.items {
        base.annotate_fn(func);
    }
    Ok(Json(fns.into()))
}

/// Creates a function.
#[utoipa::path(
    post, path = "/v2/fns", tag = "fns", operation_id = "CreateFn",
    request_body = FuncDraft,
    responses(
        (status = 200, description = "The new function.", body = Func),
        (status = 404, description = "There is no such app.", body = ErrorBody),
        (status = 409, description = "The name is taken in this app.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    base: EndpointBase,
    JsonObject(mut draft): JsonObject<FuncDraft>,
) -> Reply<Func> {
    endpoint::forget(&mut draft.annotations);
    let mut func = state.store.create_fn(draft).await?;
    base.annotate_fn(&mut func);
    Ok(Json(func))
}

/// Shows a function.
#[utoipa::path(
    get, path = "/v2/fns/{fn_id}", tag = "fns", operation_id = "GetFn",
    params(("fn_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "The function.", body = Func),
        (status = 404, description = "There is no such function.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn get(
    State(state): State<ApiState>,
    base: EndpointBase,
    PathParams(id): PathParams<FnId>,
) -> Reply<Func> {
    let mut func = state.store.func(&id).await?;
    base.annotate_fn(&mut func);
    Ok(Json(func))
}

/// Changes a function: a merge patch.
#[utoipa::path(
    put, path = "/v2/fns/{fn_id}", tag = "fns", operation_id = "UpdateFn",
    params(("fn_id" = String, Path, min_length = 1)),
    request_body = FuncPatch,
    responses(
        (status = 200, description = "The function after the change.", body = Func),
        (status = 404, description = "There is no such function.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn update(
    State(state): State<ApiState>,
    base: EndpointBase,
    PathParams(id): PathParams<FnId>,
    JsonObject(mut patch): JsonObject<FuncPatch>,
) -> Reply<Func> {
    if !patch.id.is_empty() && patch.id != id.as_str() {
        return Err(ErrorCode::FnIdMismatch.into());
    }
    endpoint::forget(&mut patch.annotations);
    let mut func = state.store.update_fn(&id, &patch).await?;
    base.annotate_fn(&mut func);
    Ok(Json(func))
}

/// Deletes a function with its triggers.
#[utoipa::path(
    delete, path = "/v2/fns/{fn_id}", tag = "fns", operation_id = "DeleteFn",
    params(("fn_id" = String, Path, min_length = 1)),
    responses(
        (status = 204, description = "The function is gone."),
        (status = 404, description = "There is no such function.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    PathParams(id): PathParams<FnId>,
) -> Result<StatusCode, Failure> {
    state.store.delete_fn(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
