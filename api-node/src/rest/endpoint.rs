//! The annotations that tell a client where to call a function or a trigger (spec/01 1.4, 1.5).
//! They are added to what is shown and never stored.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use domain::{Annotations, Func, Trigger, TriggerKind};
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use super::state::ApiState;

const FN_ENDPOINT: &str = "fnproject.io/fn/invokeEndpoint";
const TRIGGER_ENDPOINT: &str = "fnproject.io/trigger/httpEndpoint";

/// Where clients reach the front door: `FN_PUBLIC_LB_URL`, or as this client reached us. A request
/// without a usable host (HTTP/1.0, or bytes that are no host) gets no annotations.
#[derive(Debug)]
pub(super) struct EndpointBase(Option<String>);

impl EndpointBase {
    /// Adds the endpoint of `func`.
    pub(super) fn annotate_fn(&self, func: &mut Func) {
        if let Some(base) = &self.0 {
            let endpoint = format!("{base}/invoke/{}", func.id);
            func.annotations.set(FN_ENDPOINT, endpoint);
        }
    }

    /// Adds the endpoint of `trigger`, which belongs to the app named `app`.
    pub(super) fn annotate_trigger(&self, trigger: &mut Trigger, app: &str) {
        let TriggerKind::Http = trigger.kind;
        if let Some(base) = &self.0 {
            let endpoint = format!("{base}/t/{app}{}", trigger.source);
            trigger.annotations.set(TRIGGER_ENDPOINT, endpoint);
        }
    }
}

/// Takes out of `annotations` what an answer of ours added to them: a client that reads a thing,
/// changes it and sends it back would store where it was reached that day.
pub(super) fn forget(annotations: &mut Annotations) {
    let endpoints = [FN_ENDPOINT, TRIGGER_ENDPOINT];
    if endpoints.iter().any(|key| annotations.get(key).is_some()) {
        let kept = annotations
            .iter()
            .filter(|(key, _)| !endpoints.contains(key));
        *annotations = kept
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
    }
}

impl FromRequestParts<ApiState> for EndpointBase {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        let settings = &state.settings;
        if let Some(url) = settings.public_url.as_deref().filter(|url| !url.is_empty()) {
            return Ok(Self(Some(url.trim_end_matches('/').to_owned())));
        }
        let scheme = if settings.tls { "https" } else { "http" };
        Ok(Self(host(parts).map(|host| format!("{scheme}://{host}"))))
    }
}

/// The host of the request: of its target where that is absolute (HTTP/2, proxies), else its header.
fn host(parts: &Parts) -> Option<Authority> {
    let authority = match parts.uri.authority() {
        Some(authority) => authority.clone(),
        None => Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok()?,
    };
    let with_user = authority.as_str().contains('@');
    (!with_user && !authority.host().is_empty()).then_some(authority)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn host_of(request: http::request::Builder) -> Option<String> {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        host(&parts).map(|host| host.to_string())
    }

    #[test]
    fn only_a_plain_host_is_used() {
        let with = |host: &[u8]| host_of(Request::get("/v2/fns").header(HOST, host));
        assert_eq!(
            with(b"example.com:8080").as_deref(),
            Some("example.com:8080")
        );
        assert_eq!(with(b"[::1]:80").as_deref(), Some("[::1]:80"));
        let hostile: [&[u8]; 8] = [
            b"",
            b"a b",
            b"a/b",
            b"u@h",
            b"<script>",
            b"\xff",
            b":80",
            b"a\tb",
        ];
        for host in hostile {
            assert_eq!(with(host), None, "{:?}", String::from_utf8_lossy(host));
        }
        assert_eq!(host_of(Request::get("/v2/fns")), None);
    }

    #[test]
    fn an_absolute_target_wins() {
        let request = Request::get("http://target:1/v2/fns").header(HOST, "header:2");
        assert_eq!(host_of(request).as_deref(), Some("target:1"));
    }
}
