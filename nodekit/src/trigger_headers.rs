//! The headers and the status of HTTP triggers: what a client sends is told to the function under
//! other names, and what the function says under such names is told to the client (spec/01 1.9).

use crate::hop;
use domain::{ApiError, ErrorCode};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{CONTROLS, percent_encode};

const PREFIX: &str = "fn-http-h-";
static FN_HTTP_METHOD: HeaderName = HeaderName::from_static("fn-http-method");
static FN_HTTP_REQUEST_URL: HeaderName = HeaderName::from_static("fn-http-request-url");
static FN_HTTP_STATUS: HeaderName = HeaderName::from_static("fn-http-status");
static FN_INTENT: HeaderName = HeaderName::from_static("fn-intent");
const HTTP_REQUEST: HeaderValue = HeaderValue::from_static("httprequest");

/// Stands for a host that the client did not name, or not properly.
const NO_HOST: &str = "localhost";

/// What the function sees of a request: every header under the prefix, but for `Content-Type`, which
/// keeps its name, and `Host`, which is part of the URL. A name that is too long with the prefix is
/// left out.
pub fn request_headers(parts: &mut Parts) -> HeaderMap {
    let url = HeaderValue::try_from(url(parts)).ok();
    hop::strip(&mut parts.headers);
    let client = &parts.headers;
    let mut headers = HeaderMap::with_capacity(client.len() + 4);
    let mut name_text = String::from(PREFIX);
    for name in client.keys() {
        if name == HOST {
            continue;
        }
        let values = client.get_all(name).iter().cloned();
        if name == CONTENT_TYPE {
            append_all(&mut headers, name, values);
            continue;
        }
        name_text.truncate(PREFIX.len());
        name_text.push_str(name.as_str());
        if let Ok(name) = HeaderName::from_bytes(name_text.as_bytes()) {
            append_all(&mut headers, &name, values);
        }
    }
    let ours = [
        (
            &FN_HTTP_METHOD,
            HeaderValue::from_str(parts.method.as_str()).ok(),
        ),
        (&FN_HTTP_REQUEST_URL, url),
        (&FN_INTENT, Some(HTTP_REQUEST)),
    ];
    for (name, value) in ours {
        if let Some(value) = value {
            append_all(&mut headers, name, std::iter::once(value));
        }
    }
    headers
}

/// Whether a function was called through a trigger, by what it was told of the request.
pub fn is_trigger_call(request: &HeaderMap) -> bool {
    request.get(&FN_INTENT) == Some(&HTTP_REQUEST)
}

/// A map can be full; what does not fit is left out instead of ending the process.
pub fn append_all(
    headers: &mut HeaderMap,
    name: &HeaderName,
    values: impl Iterator<Item = HeaderValue>,
) {
    for value in values {
        if headers.try_append(name, value).is_err() {
            return;
        }
    }
}

/// The absolute URL of a request, of visible ASCII only. Scheme and host are what the client says, if
/// that is a scheme and a host: they inform the function and decide nothing here.
pub fn url(parts: &Parts) -> String {
    let scheme = match parts.uri.scheme_str() {
        Some("https") => "https",
        _ => "http",
    };
    let named = parts.headers.get(HOST);
    let named = named.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let host = parts
        .uri
        .authority()
        .or(named.as_ref())
        .map(Authority::as_str);
    let host = host.filter(|host| !host.contains('@')).unwrap_or(NO_HOST);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut url = String::with_capacity(scheme.len() + 3 + host.len() + path.len());
    url.push_str(scheme);
    url.push_str("://");
    url.push_str(host);
    url.extend(percent_encode(path.as_bytes(), CONTROLS));
    url
}

/// The status that the client sees of an answer which the platform takes for a success: the
/// function's own, or 200 if it tells none that is a positive number.
///
/// # Errors
/// `FunctionInvalidResponse` for a number that cannot be the status of an answer: outside of
/// 100..=599, or the 1xx of an answer that is yet to come.
pub fn status(headers: &HeaderMap) -> Result<StatusCode, ApiError> {
    let Some(told) = headers
        .get(&FN_HTTP_STATUS)
        .and_then(|told| told.to_str().ok())
    else {
        return Ok(StatusCode::OK);
    };
    let digits = told.strip_prefix('+').unwrap_or(told);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(StatusCode::OK);
    }
    // A number too large for the type is out of range as well.
    match digits.parse::<u16>() {
        Ok(0) => Ok(StatusCode::OK),
        Ok(number @ 200..=599) => {
            StatusCode::from_u16(number).map_err(|_| ErrorCode::FunctionInvalidResponse.into())
        }
        _ => Err(ApiError::from(ErrorCode::FunctionInvalidResponse)
            .detail(format_args!("the function told the status {told}"))),
    }
}

/// What the client sees of a function's headers: those under the prefix, and `Content-Type`. What
/// frames a message or belongs to a connection is never the function's to say.
pub fn response_headers(function: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(function.len());
    for name in function.keys() {
        let values = function.get_all(name).iter().cloned();
        let Some(name) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        // The prefix alone leaves an empty name, which is none.
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            append_all(&mut headers, &name, values);
        }
    }
    if let Some(content_type) = function.get(CONTENT_TYPE) {
        headers.remove(CONTENT_TYPE);
        append_all(
            &mut headers,
            &CONTENT_TYPE,
            std::iter::once(content_type.clone()),
        );
    }
    headers.remove(CONTENT_LENGTH);
    hop::strip(&mut headers);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn parts(build: http::request::Builder) -> Parts {
        build.body(()).expect("a request").into_parts().0
    }

    fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut texts: Vec<_> = headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect();
        texts.sort();
        texts
    }

    fn url(build: http::request::Builder) -> String {
        let headers = request_headers(&mut parts(build));
        headers[&FN_HTTP_REQUEST_URL]
            .to_str()
            .expect("ASCII")
            .to_owned()
    }

    #[test]
    fn a_request_is_told_under_the_prefix() {
        let request = Request::put("/t/a/s?q=1")
            .header("host", "h:1")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "1")
            .header("content-type", "text/plain")
            .header("content-length", "2")
            .header("x-a", "1")
            .header("x-a", "2")
            .header("fn-http-method", "FAKE")
            .header("fn-http-h-x", "nested");
        let expected = [
            ("content-type", "text/plain"),
            ("fn-http-h-content-length", "2"),
            ("fn-http-h-fn-http-h-x", "nested"),
            ("fn-http-h-fn-http-method", "FAKE"),
            ("fn-http-h-x-a", "1"),
            ("fn-http-h-x-a", "2"),
            ("fn-http-method", "PUT"),
            ("fn-http-request-url", "http://h:1/t/a/s?q=1"),
            ("fn-intent", "httprequest"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(texts(&request_headers(&mut parts(request))), expected);
    }

    #[test]
    fn the_url_is_absolute_whatever_the_host() {
        let get = |host: &[u8]| url(Request::get("/t/a?b").header("host", host));
        assert_eq!(get(b"example.com:80"), "http://example.com:80/t/a?b");
        assert_eq!(get(b"[::1]:8080"), "http://[::1]:8080/t/a?b");
        for hostile in [
            &b""[..],
            b"a b",
            b"a/b",
            b"user@host",
            b"\xff",
            b"a:b:c",
            b"http://x",
        ] {
            assert_eq!(get(hostile), "http://localhost/t/a?b", "{hostile:?}");
        }
        assert_eq!(url(Request::get("/t/a")), "http://localhost/t/a");
        assert_eq!(
            url(Request::get("https://h/t/a?b=%20")),
            "https://h/t/a?b=%20"
        );
    }

    #[test]
    fn an_answer_keeps_only_what_is_meant_for_the_client() {
        let mut function = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-length", "9"),
            ("fn-http-h-", "nameless"),
            ("fn-http-h-connection", "x-hop"),
            ("fn-http-h-content-length", "9"),
            ("fn-http-h-content-type", "second"),
            ("fn-http-h-set-cookie", "a=1"),
            ("fn-http-h-set-cookie", "b=2"),
            ("fn-http-h-transfer-encoding", "chunked"),
            ("fn-http-h-x-hop", "1"),
            ("fn-http-status", "201"),
            ("x-inner", "1"),
        ] {
            function.append(name, HeaderValue::from_static(value));
        }
        let expected = [
            ("content-type", "text/plain"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(texts(&response_headers(&function)), expected);
    }

    #[test]
    fn the_status_is_the_functions_if_it_can_be() {
        let told = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&FN_HTTP_STATUS, HeaderValue::from_static(value));
            status(&headers).map(|status| status.as_u16()).ok()
        };
        for (value, expected) in [
            ("200", Some(200)),
            ("202", Some(202)),
            ("+204", Some(204)),
            ("0404", Some(404)),
            ("599", Some(599)),
            ("600", None),
            ("999", None),
            ("1", None),
            ("99", None),
            ("100", None),
            ("101", None),
            ("199", None),
            ("65536", None),
            ("99999999999999999999", None),
            ("0", Some(200)),
            ("-1", Some(200)),
            ("", Some(200)),
            ("abc", Some(200)),
            ("2 0 1", Some(200)),
            ("+", Some(200)),
        ] {
            assert_eq!(told(value), expected, "{value:?}");
        }
        assert_eq!(
            status(&HeaderMap::new()).expect("none told"),
            StatusCode::OK
        );
    }

    const HOP: [&str; 10] = [
        "connection",
        "proxy-connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-named",
    ];

    fn header_name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9!#$%&'*+.^_`|~-]{1,20}",
            proptest::sample::select(HOP.to_vec()).prop_map(str::to_owned),
            Just("x-named".to_owned()),
            Just("content-type".to_owned()),
            Just("content-length".to_owned()),
            Just("host".to_owned()),
            Just("fn-http-h-".to_owned()),
            (65520..=65536usize).prop_map(|length| "a".repeat(length)),
        ]
    }

    fn header_map(prefixed: bool) -> impl Strategy<Value = HeaderMap> {
        let value = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            Just(b"x-named, close".to_vec()),
        ];
        let field = (header_name(), value, any::<bool>());
        proptest::collection::vec(field, 0..12).prop_map(move |fields| {
            let mut headers = HeaderMap::new();
            for (name, value, under_prefix) in fields {
                let name = match prefixed && under_prefix {
                    true => format!("{PREFIX}{name}"),
                    false => name,
                };
                let (name, value) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value));
                if let (Ok(name), Ok(value)) = (name, value) {
                    headers.append(name, value);
                }
            }
            headers
        })
    }

    fn is_clean(headers: &HeaderMap) -> bool {
        let line_breaks =
            |value: &HeaderValue| value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte));
        headers.iter().all(|(name, value)| {
            let hop = HOP[..9].contains(&name.as_str()) && !(name == "te" && value == "trailers");
            !hop && !line_breaks(value)
        })
    }

    proptest! {
        #[test]
        fn requests_map_reversibly_and_nothing_of_the_hop_crosses(client in header_map(false)) {
            let mut request = parts(Request::get("/t/a"));
            request.headers = client.clone();
            let function = request_headers(&mut request);
            let mut back = HeaderMap::new();
            for (name, value) in &function {
                match name.as_str().strip_prefix(PREFIX) {
                    Some(name) => drop(back.append(HeaderName::try_from(name).expect("a name"), value.clone())),
                    None if name == CONTENT_TYPE => drop(back.append(name.clone(), value.clone())),
                    None => prop_assert!(name.as_str().starts_with("fn-"), "{}", name),
                }
            }
            let mut expected = client;
            hop::strip(&mut expected);
            expected.remove(HOST);
            let names: Vec<_> = expected.keys().cloned().collect();
            for name in names {
                if name.as_str().len() + PREFIX.len() > 65535 {
                    expected.remove(name);
                }
            }
            prop_assert!(is_clean(&back));
            prop_assert_eq!(back, expected);
        }

        #[test]
        fn answers_map_back_and_nothing_of_the_hop_crosses(function in header_map(true)) {
            let client = response_headers(&function);
            prop_assert!(is_clean(&client));
            prop_assert!(!client.contains_key(CONTENT_LENGTH));
            prop_assert!(client.get_all(CONTENT_TYPE).iter().count() <= function.len());
            for name in client.keys().filter(|name| *name != CONTENT_TYPE) {
                let told: Vec<_> = function.get_all(format!("{PREFIX}{name}")).iter().collect();
                let sent: Vec<_> = client.get_all(name).iter().collect();
                prop_assert_eq!(sent, told);
            }
            let status = status(&function).map_or(502, |status| status.as_u16());
            prop_assert!((200..600).contains(&status));
        }
    }
}
