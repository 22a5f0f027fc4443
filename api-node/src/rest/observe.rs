//! What is noted of every request: its metrics, one debug line, and the span that carries its id to
//! every other line.

use std::borrow::Cow;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use nodekit::api_metrics::{RequestLabels, ResponseLabels, method_label};
use tracing::Instrument as _;

use super::reply::Blamed;
use super::state::ApiState;

/// Stands for the path of requests that no route matches, so that clients cannot invent labels.
const UNMATCHED: &str = "unmatched";

/// Answers the request by `next` and notes it.
pub(super) async fn observe(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let path: Cow<'static, str> = match request.extensions().get::<MatchedPath>() {
        Some(template) => template.as_str().to_owned().into(),
        None => UNMATCHED.into(),
    };
    let method = method_label(request.method());
    let rid = state
        .settings
        .request_ids
        .as_ref()
        .map(|ids| ids.assign(request.headers_mut(), || state.new_id()));
    let span = tracing::info_span!("request", action = &*path, rid = rid.as_deref());
    state.metrics.request(&RequestLabels {
        path: path.clone(),
        method,
    });
    let uri = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().clone());

    let response = next.run(request).instrument(span.clone()).await;

    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    if let Some(uri) = uri {
        span.in_scope(|| tracing::debug!(method, path = uri.path(), status, ?elapsed, "answered"));
    }
    let blame = response
        .extensions()
        .get::<Blamed>()
        .map_or("", |blamed| blamed.0.as_str());
    let labels = ResponseLabels {
        path,
        method,
        status,
        blame,
        fn_fdk_version: String::new(),
    };
    state.metrics.response(&labels, elapsed);
    response
}
