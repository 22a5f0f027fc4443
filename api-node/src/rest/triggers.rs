//! `/v2/triggers`, and the look-up of a trigger by its source (spec/01 1.5). Answers carry the
//! endpoint annotation, those of a change too (spec/A).

use axum::extract::State;
use axum::routing;
use domain::{AppId, ErrorCode, Trigger, TriggerDraft, TriggerId, TriggerKind, TriggerPatch};
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonObject;
use super::endpoint::{self, EndpointBase};
use super::list::{List, ListQuery, PageQuery};
use super::openapi::{BodyErrors, ErrorBody, ServerErrors};
use super::path::PathParams;
use super::reply::{Failure, Json, Reply};
use super::state::ApiState;
use crate::store::TriggerFilter;

/// Lists the triggers of an app by name.
#[utoipa::path(
    get, path = "/v2/triggers", tag = "triggers", operation_id = "ListTriggers",
    params(
        ("app_id" = String, Query, min_length = 1, description = "The app."),
        ("fn_id" = Option<String>, Query, description = "Only triggers of this function."),
        ("name" = Option<String>, Query, description = "Only triggers with exactly this name."),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of triggers.", body = List<Trigger>),
        (status = 400, description = "The app is not named, or the cursor is not one of this server's.", body = ErrorBody),
        (status = 404, description = "The app was deleted meanwhile.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    base: EndpointBase,
    query: ListQuery,
) -> Reply<List<Trigger>> {
    let page = query.page.request()?;
    let empty = query.matches_nothing();
    let app_id = AppId::from(query.app_id.ok_or(ErrorCode::TriggerMissingListAppId)?);
    if empty {
        return Ok(Json(List::empty()));
    }
    let filter = TriggerFilter {
        app_id,
        fn_id: query.fn_id.map(Into::into),
        name: query.name,
    };
    let mut triggers = state.store.triggers(&filter, &page).await?;
    if !triggers.items.is_empty() {
        let app = state.store.app(&filter.app_id).await?;
        for trigger in &mut triggers.items {
            base.annotate_trigger(trigger, &app.name);
        }
    }
    Ok(Json(triggers.into()))
}

/// Creates a trigger.
#[utoipa::path(
    post, path = "/v2/triggers", tag = "triggers", operation_id = "CreateTrigger",
    request_body = TriggerDraft,
    responses(
        (status = 200, description = "The new trigger.", body = Trigger),
        (status = 404, description = "There is no such app or function.", body = ErrorBody),
        (status = 409, description = "The function has a trigger of this name, or the app one with this source.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    base: EndpointBase,
    JsonObject(mut draft): JsonObject<TriggerDraft>,
) -> Reply<Trigger> {
    endpoint::forget(&mut draft.annotations);
    let trigger = state.store.create_trigger(draft).await?;
    Ok(Json(after_change(&state, &base, trigger).await))
}

/// Shows a trigger.
#[utoipa::path(
    get, path = "/v2/triggers/{trigger_id}", tag = "triggers", operation_id = "GetTrigger",
    params(("trigger_id" = String, Path, min_length = 1)),
    responses(
        (status = 200, description = "The trigger.", body = Trigger),
        (status = 404, description = "There is no such trigger.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn get(
    State(state): State<ApiState>,
    base: EndpointBase,
    PathParams(id): PathParams<TriggerId>,
) -> Reply<Trigger> {
    let mut trigger = state.store.trigger(&id).await?;
    let app = state.store.app(&trigger.app_id).await?;
    base.annotate_trigger(&mut trigger, &app.name);
    Ok(Json(trigger))
}

/// Changes a trigger: a merge patch.
#[utoipa::path(
    put, path = "/v2/triggers/{trigger_id}", tag = "triggers", operation_id = "UpdateTrigger",
    params(("trigger_id" = String, Path, min_length = 1)),
    request_body = TriggerPatch,
    responses(
        (status = 200, description = "The trigger after the change.", body = Trigger),
        (status = 404, description = "There is no such trigger or function.", body = ErrorBody),
        (status = 409, description = "The function has a trigger of this name, or the app one with this source.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn update(
    State(state): State<ApiState>,
    base: EndpointBase,
    PathParams(id): PathParams<TriggerId>,
    JsonObject(mut patch): JsonObject<TriggerPatch>,
) -> Reply<Trigger> {
    if !patch.id.is_empty() && patch.id != id.as_str() {
        return Err(ErrorCode::TriggerIdMismatch.into());
    }
    endpoint::forget(&mut patch.annotations);
    let trigger = state.store.update_trigger(&id, &patch).await?;
    Ok(Json(after_change(&state, &base, trigger).await))
}

/// Deletes a trigger.
#[utoipa::path(
    delete, path = "/v2/triggers/{trigger_id}", tag = "triggers", operation_id = "DeleteTrigger",
    params(("trigger_id" = String, Path, min_length = 1)),
    responses(
        (status = 204, description = "The trigger is gone."),
        (status = 404, description = "There is no such trigger.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    PathParams(id): PathParams<TriggerId>,
) -> Result<StatusCode, Failure> {
    state.store.delete_trigger(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The trigger of an app with exactly this source: what a load balancer of the original asks for.
/// It sends the source, which starts with a slash, behind another one; both forms are taken. The
/// answer has no endpoint annotation.
#[utoipa::path(
    get, path = "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/{source}",
    tag = "triggers", operation_id = "GetTriggerBySource",
    params(
        ("app_id" = String, Path, min_length = 1),
        ("trigger_type" = TriggerKind, Path),
        ("source" = String, Path, min_length = 1, description = "The source; its slashes are not escaped."),
    ),
    responses(
        (status = 200, description = "The trigger.", body = Trigger),
        (status = 404, description = "There is no such trigger.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn get_by_source(
    State(state): State<ApiState>,
    PathParams((app, kind, source)): PathParams<(AppId, String, String)>,
) -> Reply<Trigger> {
    by_source(&state, &app, &kind, &source).await
}

/// The same where nothing follows the one slash: the source `/`.
async fn get_by_root_source(
    State(state): State<ApiState>,
    PathParams((app, kind)): PathParams<(AppId, String)>,
) -> Reply<Trigger> {
    by_source(&state, &app, &kind, "/").await
}

async fn by_source(state: &ApiState, app: &AppId, kind: &str, source: &str) -> Reply<Trigger> {
    let kind = TriggerKind::parse(kind).map_err(|_| ErrorCode::TriggerNotFound)?;
    let trigger = if source.starts_with('/') {
        state.store.trigger_by_source(app, kind, source).await?
    } else {
        state
            .store
            .trigger_by_source(app, kind, &format!("/{source}"))
            .await?
    };
    Ok(Json(trigger))
}

/// Adds the look-up by source: its wildcard is written differently in a route and in a document.
pub(super) fn route_by_source(router: OpenApiRouter<ApiState>) -> OpenApiRouter<ApiState> {
    let (_, paths, get_by_source) = routes!(get_by_source);
    let mut router = router
        .route(
            "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/",
            routing::get(get_by_root_source),
        )
        .route(
            "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/{*source}",
            get_by_source,
        );
    router.get_openapi_mut().paths.merge(paths);
    router
}

/// Adds the endpoint to what will be shown of a committed change. The change stands even
/// if the app's name cannot be read any more, so that costs only the annotation.
async fn after_change(state: &ApiState, base: &EndpointBase, mut trigger: Trigger) -> Trigger {
    match state.store.app(&trigger.app_id).await {
        Ok(app) => base.annotate_trigger(&mut trigger, &app.name),
        Err(error) => {
            tracing::warn!(?error, trigger = %trigger.id, "trigger shown without its endpoint")
        }
    }
    trigger
}
