//! Ids in paths. A path that no id can have is a path that does not exist: bytes that are not
//! UTF-8, and NUL, which PostgreSQL cannot compare.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use nodekit::admin_routes::path_not_found;
use serde::de::DeserializeOwned;

use super::reply::Failure;

/// The parameters of the path, decoded.
pub(super) struct PathParams<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for PathParams<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        if !parts.uri.path().contains("%00")
            && let Ok(Path(params)) = Path::from_request_parts(parts, state).await
        {
            return Ok(Self(params));
        }
        Err(path_not_found(&parts.method, parts.uri.path()).into())
    }
}
