//! What a client asks for in the headers of a durable call, and which headers those are.

use std::collections::BTreeMap;

use domain::call::CallOptions;
use domain::{ApiError, ErrorCode, Timestamp};
use http::{HeaderMap, HeaderName};

static FN_INVOKE_TYPE: HeaderName = HeaderName::from_static("fn-invoke-type");
static PREFER: HeaderName = HeaderName::from_static("prefer");
const RESPOND_ASYNC: &str = "respond-async";

/// The headers, and the fields that they stand for, in whose names [`CallOptions`] complains.
const HEADERS: [(&str, &str); 8] = [
    ("delay_seconds", DELAY),
    ("run_at", RUN_AT),
    ("expiry_seconds", EXPIRY),
    ("priority", PRIORITY),
    ("max_attempts", MAX_ATTEMPTS),
    ("callback_url", CALLBACK_URL),
    ("tags", TAGS),
    ("idempotency_key", IDEMPOTENCY_KEY),
];
const DELAY: &str = "Fn-Call-Delay";
const RUN_AT: &str = "Fn-Call-Run-At";
const EXPIRY: &str = "Fn-Call-Expiry";
const PRIORITY: &str = "Fn-Call-Priority";
const MAX_ATTEMPTS: &str = "Fn-Call-Max-Attempts";
const CALLBACK_URL: &str = "Fn-Call-Callback-Url";
const TAGS: &str = "Fn-Call-Tags";
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Who waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The client.
    Client,
    /// Nobody: `Fn-Invoke-Type: detached`.
    Nobody,
    /// Nobody, if that is possible: `Prefer: respond-async` (RFC 7240).
    PreferablyNobody,
}

/// Who waits for a call with these headers.
pub(super) fn waiting(headers: &HeaderMap) -> Waiting {
    if headers
        .get(&FN_INVOKE_TYPE)
        .is_some_and(|kind| kind == "detached")
    {
        return Waiting::Nobody;
    }
    let preferred = headers
        .get_all(&PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split([';', '=']).next())
        .any(|name| name.trim().eq_ignore_ascii_case(RESPOND_ASYNC));
    match preferred {
        true => Waiting::PreferablyNobody,
        false => Waiting::Client,
    }
}

/// Takes the options of a durable call out of its headers: the function does not see them.
///
/// # Errors
/// `InvalidCallOption` that names the header.
pub(super) fn take(headers: &mut HeaderMap) -> Result<CallOptions, ApiError> {
    let options = CallOptions {
        delay_seconds: number(headers, DELAY)?,
        run_at: match take_one(headers, RUN_AT)? {
            None => None,
            Some(text) => match Timestamp::parse(&text) {
                Some(at) => Some(at),
                None => return Err(invalid(RUN_AT, "must be a time as RFC 3339 has it")),
            },
        },
        expiry_seconds: number(headers, EXPIRY)?,
        priority: number(headers, PRIORITY)?,
        max_attempts: number(headers, MAX_ATTEMPTS)?,
        callback_url: take_one(headers, CALLBACK_URL)?,
        tags: tags(headers)?,
        idempotency_key: take_one(headers, IDEMPOTENCY_KEY)?,
    };
    validated(options)
}

/// Takes out what only a durable call has a use for, unread: a callback URL may be a secret.
pub(super) fn strip(headers: &mut HeaderMap) {
    for (_, name) in HEADERS {
        if name != IDEMPOTENCY_KEY {
            headers.remove(name);
        }
    }
}

/// Takes the idempotency key of a call whose client waits.
///
/// # Errors
/// As [`take`].
pub(super) fn take_key(headers: &mut HeaderMap) -> Result<Option<String>, ApiError> {
    let options = CallOptions {
        idempotency_key: take_one(headers, IDEMPOTENCY_KEY)?,
        ..CallOptions::default()
    };
    Ok(validated(options)?.idempotency_key)
}

/// Checks the limits, and names the header of the one that is passed.
fn validated(options: CallOptions) -> Result<CallOptions, ApiError> {
    match options.validate() {
        Ok(()) => Ok(options),
        Err(error) => {
            let named = HEADERS
                .iter()
                .fold(error.message().to_owned(), |text, (field, header)| {
                    text.replace(field, header)
                });
            Err(ApiError::with_message(error.code(), named))
        }
    }
}

fn tags(headers: &mut HeaderMap) -> Result<BTreeMap<String, String>, ApiError> {
    let mut tags = BTreeMap::new();
    let texts = take_all(headers, TAGS)?;
    for pair in texts.iter().flat_map(|text| text.split(',')) {
        let pair = pair.trim();
        if pair.is_empty() {
            continue;
        }
        let Some((name, value)) = pair.split_once('=') else {
            return Err(invalid(TAGS, "must be name=value, separated by commas"));
        };
        tags.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(tags)
}

fn number<T: std::str::FromStr>(
    headers: &mut HeaderMap,
    name: &'static str,
) -> Result<Option<T>, ApiError> {
    let Some(text) = take_one(headers, name)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(invalid(name, "must be a whole number")),
    }
}

fn take_one(headers: &mut HeaderMap, name: &'static str) -> Result<Option<String>, ApiError> {
    let mut values = take_all(headers, name)?;
    match values.len() {
        0 | 1 => Ok(values.pop()),
        _ => Err(invalid(name, "must be given once")),
    }
}

fn take_all(headers: &mut HeaderMap, name: &'static str) -> Result<Vec<String>, ApiError> {
    let http::header::Entry::Occupied(entry) = headers.entry(name) else {
        return Ok(Vec::new());
    };
    let (_, values) = entry.remove_entry_mult();
    values
        .map(|value| {
            let text = std::str::from_utf8(value.as_bytes());
            text.map(|text| text.trim().to_owned())
                .map_err(|_| invalid(name, "must be UTF-8"))
        })
        .collect()
}

fn invalid(header: &str, rule: &str) -> ApiError {
    ApiError::with_message(ErrorCode::InvalidCallOption, format!("{header} {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn a_preference_is_found_in_any_list() {
        for (name, value, expected) in [
            ("fn-invoke-type", "detached", Waiting::Nobody),
            ("fn-invoke-type", "sync", Waiting::Client),
            ("fn-invoke-type", "Detached", Waiting::Client),
            ("prefer", "respond-async", Waiting::PreferablyNobody),
            ("prefer", "Respond-Async", Waiting::PreferablyNobody),
            (
                "prefer",
                "wait=10, respond-async;x=y",
                Waiting::PreferablyNobody,
            ),
            ("prefer", "wait=respond-async", Waiting::Client),
            ("prefer", "return=minimal", Waiting::Client),
        ] {
            assert_eq!(waiting(&headers(&[(name, value)])), expected, "{value}");
        }
        assert_eq!(waiting(&HeaderMap::new()), Waiting::Client);
    }

    #[test]
    fn options_of_a_call_whose_client_waits_are_not_for_its_function() {
        let mut all = headers(&[
            ("fn-call-callback-url", "https://a/b?token=c"),
            ("fn-call-delay", "soon"),
            ("fn-call-run-at", ""),
            ("fn-call-tags", "a=1"),
            ("fn-call-tags", "b=1"),
            ("idempotency-key", "key"),
            ("x-own", "1"),
        ]);
        strip(&mut all);
        let rest = [("idempotency-key", "key"), ("x-own", "1")];
        assert_eq!(all, headers(&rest));
    }

    #[test]
    fn options_are_taken_out_and_the_rest_stays() {
        let mut all = headers(&[
            ("fn-call-delay", "5"),
            ("fn-call-expiry", " 60"),
            ("fn-call-priority", "9"),
            ("fn-call-max-attempts", "7"),
            ("fn-call-callback-url", "https://a/b?c=d"),
            ("fn-call-tags", "a=1, b = x=y ,"),
            ("fn-call-tags", "c="),
            ("idempotency-key", "key"),
            ("x-own", "1"),
        ]);
        let options = take(&mut all).expect("valid");
        let tags = [("a", "1"), ("b", "x=y"), ("c", "")];
        let expected = CallOptions {
            delay_seconds: Some(5),
            run_at: None,
            expiry_seconds: Some(60),
            priority: Some(9),
            max_attempts: Some(7),
            callback_url: Some("https://a/b?c=d".to_owned()),
            tags: tags.map(|(name, value)| (name.into(), value.into())).into(),
            idempotency_key: Some("key".to_owned()),
        };
        assert_eq!(options, expected);
        assert_eq!(all, headers(&[("x-own", "1")]));
        let at = take(&mut headers(&[("fn-call-run-at", "2030-01-01T00:00:00Z")]));
        let at = at.expect("valid").run_at.expect("a time");
        assert_eq!(at.to_string(), "2030-01-01T00:00:00.000Z");
    }
}
