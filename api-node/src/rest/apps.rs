//! `/v2/apps` (spec/01 1.3).

use axum::extract::State;
use domain::{App, AppDraft, AppId, AppPatch, ErrorCode};
use http::StatusCode;

use super::body::JsonObject;
use super::list::{List, ListQuery, PageQuery};
use super::openapi::{BodyErrors, ErrorBody, ServerErrors};
use super::path::PathParams;
use super::reply::{Failure, Json, Reply};
use super::state::ApiState;

/// Lists apps by name.
#[utoipa::path(
    get, path = "/v2/apps", tag = "apps", operation_id = "ListApps",
    params(("name" = Option<String>, Query, description = "Only the app with exactly this name."), PageQuery),
    responses(
        (status = 200, description = "A page of apps.", body = List<App>),
        (status = 400, description = "The cursor is not one of this server's.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn list(State(state): State<ApiState>, query: ListQuery) -> Reply<List<App>> {
    let page = query.page.request()?;
    if query.matches_nothing() {
        return Ok(Json(List::empty()));
    }
    let apps = state.store.apps(query.name.as_deref(), &page).await?;
    Ok(Json(apps.into()))
}

/// Creates an app.
#[utoipa::path(
    post, path = "/v2/apps", tag = "apps", operation_id = "CreateApp",
    request_body = AppDraft,
    responses(
        (status = 200, description = "The new app.", body = App),
        (status = 409, description = "The name is taken.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    JsonObject(draft): JsonObject<AppDraft>,
) -> Reply<App> {
    Ok(Json(state.store.create_app(draft).await?))
}

/// Shows an app.
#[utoipa::path(
    get, path = "/v2/apps/{app_id}", tag = "apps", operation_id = "GetApp",
    params(("app_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "The app.", body = App),
        (status = 404, description = "There is no such app.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn get(
    State(state): State<ApiState>,
    PathParams(id): PathParams<AppId>,
) -> Reply<App> {
    Ok(Json(state.store.app(&id).await?))
}

/// The same app, where a load balancer of the original looks for it.
#[utoipa::path(
    get, path = "/v2/runner/apps/{app_id}", tag = "apps", operation_id = "GetAppForRunner",
    params(("app_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "The app.", body = App),
        (status = 404, description = "There is no such app.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn get_for_runner(
    State(state): State<ApiState>,
    PathParams(id): PathParams<AppId>,
) -> Reply<App> {
    Ok(Json(state.store.app(&id).await?))
}

/// Changes an app: a merge patch.
#[utoipa::path(
    put, path = "/v2/apps/{app_id}", tag = "apps", operation_id = "UpdateApp",
    params(("app_id" = String, Path, min_length = 1)),
    request_body = AppPatch,
    responses(
        (status = 200, description = "The app after the change.", body = App),
        (status = 404, description = "There is no such app.", body = ErrorBody),
        (status = 409, description = "The name of an app cannot change.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn update(
    State(state): State<ApiState>,
    PathParams(id): PathParams<AppId>,
    JsonObject(patch): JsonObject<AppPatch>,
) -> Reply<App> {
    if !patch.id.is_empty() && patch.id != id.as_str() {
        return Err(ErrorCode::AppIdMismatch.into());
    }
    Ok(Json(state.store.update_app(&id, &patch).await?))
}

/// Deletes an app with its functions and triggers.
#[utoipa::path(
    delete, path = "/v2/apps/{app_id}", tag = "apps", operation_id = "DeleteApp",
    params(("app_id" = String, Path, min_length = 1)),
    responses(
        (status = 204, description = "The app is gone."),
        (status = 404, description = "There is no such app.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    PathParams(id): PathParams<AppId>,
) -> Result<StatusCode, Failure> {
    state.store.delete_app(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
