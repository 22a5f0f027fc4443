//! Cross-origin requests, allowed only when `FN_API_CORS_ORIGINS` is set (spec/01 1.2).

use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::state::ApiSettings;

const MAX_AGE: Duration = Duration::from_secs(12 * 60 * 60);

/// The layer, when CORS is on. Entries that can be no header value are left out.
pub(super) fn layer(settings: &ApiSettings) -> Option<CorsLayer> {
    let origins = match settings.cors_origins.first()?.as_str() {
        "*" => AllowOrigin::any(),
        _ => AllowOrigin::list(readable::<HeaderValue>(&settings.cors_origins)),
    };
    let headers = if settings.cors_headers.is_empty() {
        vec![ORIGIN, CONTENT_LENGTH, CONTENT_TYPE]
    } else {
        readable::<HeaderName>(&settings.cors_headers).collect()
    };
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_headers(headers)
            .allow_methods([
                Method::GET,
                Method::POST,
                Method::PUT,
                Method::HEAD,
                Method::DELETE,
            ])
            .max_age(MAX_AGE),
    )
}

fn readable<'a, T>(texts: &'a [String]) -> impl Iterator<Item = T> + use<'a, T>
where
    T: TryFrom<&'a str>,
{
    texts
        .iter()
        .filter_map(|text| T::try_from(text.trim()).ok())
}
