//! Calls over HTTP: handing durable ones in, and what is kept of all of them (spec/02 2.5; docs/async.md).

mod cancel;
mod dead_letters;
mod filter;
mod list;
mod log;
mod result;
mod selection;
mod show;
mod submit;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use domain::ErrorCode;
use http::request::Parts;
use http::{Method, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::reply::Failure;
use super::state::ApiState;
use crate::calls::Calls;

/// The routes with their descriptions.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list::list_of_fn, submit::submit))
        .routes(routes!(show::get_of_fn))
        .routes(routes!(log::log_of_fn))
        .routes(routes!(list::list))
        .routes(routes!(cancel::cancel_many))
        .routes(routes!(show::get, cancel::cancel))
        .routes(routes!(show::attempts))
        .routes(routes!(result::result))
        .routes(routes!(log::log))
        .routes(routes!(dead_letters::list, dead_letters::purge))
        .routes(routes!(dead_letters::redrive))
}

/// The calls that this server keeps, if it keeps any: else the request ends here.
struct Kept(Calls);

impl FromRequestParts<ApiState> for Kept {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Response> {
        if let Some(calls) = &state.calls {
            return Ok(Self(calls.clone()));
        }
        // The original's last version answers its own paths without a body (spec/01 1.5).
        let of_old = parts.method != Method::POST && parts.uri.path().starts_with("/v2/fns/");
        Err(match of_old {
            true => StatusCode::GONE.into_response(),
            false => Failure(ErrorCode::CallsGone.into()).into_response(),
        })
    }
}
