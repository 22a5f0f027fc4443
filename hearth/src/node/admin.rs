//! What a node answers beside its own paths: the paths that every node has, and 404.

use std::convert::Infallible;

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use http::{Request, Response};
use nodekit::admin_routes::AdminRoutes;
use nodekit::body::{self, Body};
use nodekit::error_response;
use nodekit::http_server::RequestBody;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

/// The service.
pub(super) type AdminService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The same as all that a listener serves.
pub(super) fn whole(
    routes: AdminRoutes,
) -> impl tower::Service<
    Request<RequestBody>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    service(routes).map_request(|request: Request<RequestBody>| request.map(body::stream))
}

/// Answers with `routes`.
pub(super) fn service(routes: AdminRoutes) -> AdminService {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let (method, path) = (request.method(), request.uri().path());
        let answer = routes.respond(method, path).unwrap_or_else(|| {
            let error = ApiError::with_message(
                ErrorCode::PathNotFound,
                format!("{}: {method} {path}", ErrorCode::PathNotFound.text()),
            );
            error_response::response::<Bytes>(&error).map(body::full)
        });
        std::future::ready(Ok(answer))
    }))
}
