//! What every node serves beside its own paths (spec/01 1.1), with their place in the document.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;

use super::openapi::ErrorBody;
use super::state::ApiState;

/// Greets; old health checks look for it.
#[utoipa::path(
    get, path = "/", tag = "node", operation_id = "Root",
    responses((status = 200, description = "The greeting.", body = serde_json::Value))
)]
pub(super) async fn root(State(state): State<ApiState>) -> Response {
    state.admin.root().map(Body::new)
}

/// The version of the API.
#[utoipa::path(
    get, path = "/version", tag = "node", operation_id = "Version",
    responses((
        status = 200, description = "The version of the original that this API is compatible with.",
        body = serde_json::Value, example = json!({"version": "0.3.753"})
    ))
)]
pub(super) async fn version(State(state): State<ApiState>) -> Response {
    state.admin.version().map(Body::new)
}

/// The node's metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "node", operation_id = "Metrics",
    responses((status = 200, description = "Prometheus text.", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(state): State<ApiState>) -> Response {
    state.admin.metrics().map(Body::new)
}

/// Whether the process runs.
#[utoipa::path(
    get, path = "/livez", tag = "node", operation_id = "Livez",
    responses((status = 200, description = "It does.", body = serde_json::Value))
)]
pub(super) async fn livez(State(state): State<ApiState>) -> Response {
    state.admin.livez().map(Body::new)
}

/// Whether the node takes new work: it is not draining, and what it needs answers.
#[utoipa::path(
    get, path = "/readyz", tag = "node", operation_id = "Readyz",
    responses(
        (status = 200, description = "It does.", body = serde_json::Value),
        (status = 503, description = "It does not.", body = ErrorBody),
    )
)]
pub(super) async fn readyz(State(state): State<ApiState>) -> Response {
    state.admin.readyz().map(Body::new)
}
