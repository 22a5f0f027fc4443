//! Paths that do not exist, verbs that a path does not have, and the redirect between a path with
//! and without its final slash (spec/01 1.1).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode, Uri};
use nodekit::admin_routes;
use utoipa::openapi::OpenApi;

use super::reply::Failure;

/// Answers what no route matches.
#[derive(Debug, Clone)]
pub(super) struct Fallback(Arc<[String]>);

impl Fallback {
    /// Redirects only to paths that `api` describes: never to another host.
    pub(super) fn new(api: &OpenApi) -> Self {
        Self(api.paths.paths.keys().cloned().collect())
    }

    /// A redirect, or the 404.
    pub(super) async fn answer(self, request: Request) -> Response {
        match self.redirect(request.uri()) {
            Some(location) => {
                let status = match *request.method() {
                    Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
                    _ => StatusCode::TEMPORARY_REDIRECT,
                };
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                response.headers_mut().insert(LOCATION, location);
                response
            }
            None => Failure(admin_routes::path_not_found(
                request.method(),
                request.uri().path(),
            ))
            .into_response(),
        }
    }

    fn redirect(&self, uri: &Uri) -> Option<HeaderValue> {
        // Every route but `/` ends without a slash.
        let path = uri
            .path()
            .strip_suffix('/')
            .filter(|path| !path.is_empty())?;
        if !self.0.iter().any(|template| matches(template, path)) {
            return None;
        }
        let location = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        HeaderValue::try_from(location).ok()
    }
}

/// Whether `path` fits a template such as `/v2/apps/{app_id}`.
fn matches(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fits = template.split('/').all(|expected| {
        segments.next().is_some_and(|segment| {
            segment == expected || (expected.starts_with('{') && !segment.is_empty())
        })
    });
    fits && segments.next().is_none()
}

/// The 405; the router adds `Allow`.
pub(super) async fn method_not_allowed(request: Request) -> Failure {
    Failure(admin_routes::method_not_allowed(
        request.method(),
        request.uri().path(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        assert!(matches("/v2/apps/{app_id}", "/v2/apps/x"));
        assert!(!matches("/v2/apps/{app_id}", "/v2/apps/"));
        assert!(!matches("/v2/apps/{app_id}", "/v2/apps"));
        assert!(!matches("/v2/apps", "/v2/apps/x"));
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        let fallback = Fallback(
            [
                "/".to_owned(),
                "/v2/apps".to_owned(),
                "/v2/apps/{app_id}".to_owned(),
            ]
            .into(),
        );
        let location = |uri: &str| {
            fallback
                .redirect(&uri.parse().expect("a URI"))
                .map(|value| value.to_str().expect("ASCII").to_owned())
        };
        assert_eq!(
            location("/v2/apps/?name=a").as_deref(),
            Some("/v2/apps?name=a")
        );
        assert_eq!(location("/v2/apps/x%0a/").as_deref(), Some("/v2/apps/x%0a"));
        assert_eq!(location("//v2/apps/"), None);
        assert_eq!(location("//evil.example/"), None);
        assert_eq!(location("//").as_deref(), Some("/"));
        assert_eq!(location("/v2/apps"), None);
    }
}
