//! What a handler may know about its call.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};

use crate::deadline;

/// The prefix under which an HTTP trigger passes headers, both ways (spec/01 1.9).
pub(crate) const TRIGGER_PREFIX: &str = "fn-http-h-";

/// How a function was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Through `/invoke`: a body in, a body out.
    Invoke,
    /// Through an HTTP trigger: method, URL and headers are the client's, and the answer's status
    /// and headers are the function's.
    HttpRequest,
}

/// One call: ids, deadline, headers, and the function's configuration.
#[derive(Debug, Clone)]
pub struct Context {
    config: Arc<BTreeMap<String, String>>,
    headers: HeaderMap,
    client_headers: OnceLock<HeaderMap>,
    deadline: Option<SystemTime>,
}

impl Context {
    pub(crate) fn new(config: Arc<BTreeMap<String, String>>, headers: HeaderMap) -> Self {
        let deadline = text(&headers, "fn-deadline").and_then(deadline::parse);
        Self {
            config,
            headers,
            client_headers: OnceLock::new(),
            deadline,
        }
    }

    /// The id of this call; empty when the platform gave none.
    pub fn call_id(&self) -> &str {
        text(&self.headers, "fn-call-id").unwrap_or_default()
    }

    /// When the call must be done, as the platform says it: usually in whole seconds, so up to a
    /// second early. `None` when it says nothing.
    pub fn deadline(&self) -> Option<SystemTime> {
        self.deadline
    }

    /// The time left until the deadline; zero when it is over.
    pub fn remaining(&self) -> Option<Duration> {
        let left = |deadline: SystemTime| deadline.duration_since(SystemTime::now());
        Some(left(self.deadline?).unwrap_or_default())
    }

    /// The function's id.
    pub fn fn_id(&self) -> &str {
        self.variable("FN_FN_ID")
    }

    /// The function's name.
    pub fn fn_name(&self) -> &str {
        self.variable("FN_FN_NAME")
    }

    /// The id of the function's app.
    pub fn app_id(&self) -> &str {
        self.variable("FN_APP_ID")
    }

    /// The name of the function's app.
    pub fn app_name(&self) -> &str {
        self.variable("FN_APP_NAME")
    }

    /// The memory that the function may use, in MiB.
    pub fn memory_mib(&self) -> Option<u64> {
        self.variable("FN_MEMORY").parse().ok()
    }

    /// The configuration of app and function, and everything else in the environment.
    pub fn config(&self) -> &BTreeMap<String, String> {
        &self.config
    }

    /// How the function was called.
    pub fn intent(&self) -> Intent {
        match text(&self.headers, "fn-intent") {
            Some("httprequest") => Intent::HttpRequest,
            _ => Intent::Invoke,
        }
    }

    /// The client's method; `POST` for `/invoke`.
    pub fn method(&self) -> &str {
        text(&self.headers, "fn-http-method").unwrap_or("POST")
    }

    /// The absolute URL that the client asked for, with its query. Only for HTTP triggers.
    pub fn request_url(&self) -> Option<&str> {
        text(&self.headers, "fn-http-request-url")
    }

    /// The client's headers: for an HTTP trigger those that it sent, by their own names; else
    /// everything that the platform passed.
    pub fn headers(&self) -> &HeaderMap {
        match self.intent() {
            Intent::Invoke => &self.headers,
            Intent::HttpRequest => self.client_headers.get_or_init(|| unwrap(&self.headers)),
        }
    }

    /// The first value of one of [`headers`](Context::headers), if it is ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(self.headers(), name)
    }

    /// Every header as the platform sent it, `Fn-*` included.
    pub fn platform_headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The W3C trace context of the call: the platform's, or else the client's.
    pub fn traceparent(&self) -> Option<&str> {
        let platforms = text(&self.headers, "traceparent");
        platforms.or_else(|| text(&self.headers, "fn-http-h-traceparent"))
    }

    fn variable(&self, name: &str) -> &str {
        self.config.get(name).map_or("", String::as_str)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn unwrap(headers: &HeaderMap) -> HeaderMap {
    let mut client = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let name = match name.as_str().strip_prefix(TRIGGER_PREFIX) {
            Some(name) => HeaderName::from_bytes(name.as_bytes()).ok(),
            None => (name == CONTENT_TYPE).then_some(CONTENT_TYPE),
        };
        if let Some(name) = name {
            client.append(name, value.clone());
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    fn context(headers: &[(&'static str, &'static str)]) -> Context {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        let variables = [
            ("FN_FN_ID", "f"),
            ("FN_APP_NAME", "app"),
            ("FN_MEMORY", "64"),
        ];
        let config = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Context::new(Arc::new(config.into()), map)
    }

    #[test]
    fn a_plain_call_shows_all_headers() {
        let ctx = context(&[("fn-call-id", "c1"), ("x-a", "1"), ("traceparent", "00-ab")]);
        assert_eq!(
            (ctx.call_id(), ctx.method(), ctx.request_url()),
            ("c1", "POST", None)
        );
        assert_eq!(
            (ctx.intent(), ctx.header("X-A")),
            (Intent::Invoke, Some("1"))
        );
        assert_eq!(ctx.headers().len(), 3);
        assert_eq!(ctx.traceparent(), Some("00-ab"));
        assert_eq!((ctx.fn_id(), ctx.fn_name(), ctx.app_id()), ("f", "", ""));
        assert_eq!((ctx.app_name(), ctx.memory_mib()), ("app", Some(64)));
        assert_eq!((ctx.deadline(), ctx.remaining()), (None, None));
    }

    #[test]
    fn a_trigger_call_shows_the_clients_headers() {
        let ctx = context(&[
            ("fn-intent", "httprequest"),
            ("fn-http-method", "PUT"),
            ("fn-http-request-url", "http://h/t/a/b?c=d"),
            ("fn-http-h-cookie", "a=1"),
            ("fn-http-h-cookie", "b=2"),
            ("fn-http-h-traceparent", "00-cd"),
            ("fn-http-h-", "no name"),
            ("content-type", "text/plain"),
            ("accept-encoding", "gzip"),
        ]);
        assert_eq!((ctx.intent(), ctx.method()), (Intent::HttpRequest, "PUT"));
        assert_eq!(ctx.request_url(), Some("http://h/t/a/b?c=d"));
        let cookies: Vec<_> = ctx.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(ctx.header("content-type"), Some("text/plain"));
        assert_eq!(ctx.headers().len(), 4);
        assert_eq!(ctx.traceparent(), Some("00-cd"));
        assert_eq!(ctx.platform_headers().len(), 9);
    }

    #[test]
    fn the_deadline_is_a_time_and_what_is_left_of_it() {
        let over = context(&[("fn-deadline", "2001-09-09T01:46:40Z")]);
        assert_eq!(
            over.deadline(),
            Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        );
        assert_eq!(over.remaining(), Some(Duration::ZERO));
        let far = context(&[("fn-deadline", "9999-01-01T00:00:00Z")]);
        assert!(far.remaining().unwrap() > Duration::from_secs(86_400));
        assert_eq!(context(&[("fn-deadline", "tomorrow")]).deadline(), None);
    }
}
