//! The REST API v2 (spec/01): apps, functions, triggers and calls over HTTP.
//!
//! Handlers parse, call the [`Store`](crate::Store) and render. What holds for every request (bodies,
//! request ids, metrics, wrong paths) has a file of its own beside them. Limits and panics are the
//! listener's (`nodekit::http_server`).
//!
//! A `HEAD` request is answered like a `GET` without its body, as RFC 9110 asks of every server; the
//! original answers 405, on which no client can depend.

mod apps;
mod body;
mod calls;
mod cors;
mod endpoint;
mod fallback;
mod fns;
mod front_door;
mod list;
mod node;
mod observe;
mod openapi;
mod path;
mod reply;
mod state;
mod triggers;

use axum::{Extension, Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use fallback::Fallback;
use openapi::Rendered;
pub use openapi::document;
pub use state::{ApiSettings, ApiState, FrontDoor};

/// The API as a service: every path of spec/01 1.3 to 1.5, and those that every node has (1.1).
///
/// It answers whatever it is given: paths it does not know get the 404 of spec/01 1.1. Where
/// `/invoke` and `/t` are served by the same listener, send those to the front door first.
pub fn router(state: ApiState) -> Router {
    let (routes, api) = routes().split_for_parts();
    let fallback = Fallback::new(&api);
    let document = Rendered::new(&openapi::complete(api, state.settings.front_door));
    let cors = cors::layer(&state.settings);
    let router = routes
        .method_not_allowed_fallback(fallback::method_not_allowed)
        .fallback(move |request| fallback.answer(request))
        .layer(Extension(document))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            observe::observe,
        ))
        .with_state(state);
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// The documented routes; the document is made of the very handlers that serve them.
fn routes() -> OpenApiRouter<ApiState> {
    let documented = OpenApiRouter::with_openapi(openapi::skeleton())
        .routes(routes!(node::root))
        .routes(routes!(node::version))
        .routes(routes!(node::metrics))
        .routes(routes!(node::livez))
        .routes(routes!(node::readyz))
        .routes(routes!(openapi::serve))
        .routes(routes!(apps::list, apps::create))
        .routes(routes!(apps::get, apps::update, apps::delete))
        .routes(routes!(apps::get_for_runner))
        .routes(routes!(fns::list, fns::create))
        .routes(routes!(fns::get, fns::update, fns::delete))
        .merge(calls::routes())
        .routes(routes!(triggers::list, triggers::create))
        .routes(routes!(triggers::get, triggers::update, triggers::delete));
    triggers::route_by_source(documented)
}
