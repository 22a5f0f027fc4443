//! Reading a JSON body with the original's rules (spec/01 1.2): the content type does not matter,
//! `null` means "not given", and everything that is not an object of the right shape is
//! `Invalid JSON`.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use domain::{ApiError, ErrorCode, Timestamp};
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use nodekit::http_server::body_error_code;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::reply::Failure;
use super::state::{ApiSettings, ApiState};

/// The longest body of the API in bytes, however large those of calls may be: a hundred annotations of the largest size are 64 KiB.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// A JSON object read as a `T`.
pub(super) struct JsonObject<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonObject<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Failure> {
        let bytes = read(request, &state.settings, MAX_BODY_BYTES).await?;
        Ok(Self(parse(&bytes)?))
    }
}

/// The whole body, up to `most` bytes. `FN_MAX_REQUEST_SIZE` is the listener's to keep.
pub(super) async fn read(
    request: Request,
    settings: &ApiSettings,
    most: usize,
) -> Result<Bytes, ApiError> {
    if let Some(length) = content_length(&request)
        && length > most as u64
    {
        return Err(ApiError::with_message(
            ErrorCode::RequestTooLarge,
            format!("Content-Length too large for this server, {length} > max {most}"),
        ));
    }
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(settings.body_timeout, body).await {
        Err(_) => Err(ErrorCode::RequestBodyTimeout.into()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ErrorCode::RequestTooLarge.into()),
        Ok(Err(error)) => Err(body_error_code(&*error).into()),
    }
}

fn content_length(request: &Request) -> Option<u64> {
    request
        .headers()
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Reads a `T` by the rules of the API.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let invalid = || ApiError::from(ErrorCode::InvalidJson);
    let Ok(Value::Object(mut object)) = serde_json::from_slice(bytes) else {
        return Err(invalid());
    };
    if object
        .iter()
        .any(|(name, value)| name.contains('\0') || holds_nul(value))
    {
        return Err(invalid());
    }
    apply_null_rules(&mut object);
    if !times_are_readable(&object) {
        return Err(invalid());
    }
    serde_json::from_value(Value::Object(object)).map_err(|_| invalid())
}

/// Whether a string in `value` holds a NUL, which PostgreSQL cannot store.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(entries) => entries
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// As Go decodes: a `null` leaves the zero value. In annotations it has a meaning of its own.
fn apply_null_rules(object: &mut Map<String, Value>) {
    object.retain(|_, value| !value.is_null());
    if let Some(Value::Object(config)) = object.get_mut("config") {
        for value in config.values_mut().filter(|value| value.is_null()) {
            *value = Value::String(String::new());
        }
    }
}

/// The times of an object that a client read, changed and sent back are ignored, but must be times.
fn times_are_readable(object: &Map<String, Value>) -> bool {
    ["created_at", "updated_at"]
        .iter()
        .filter_map(|name| object.get(*name))
        .all(|value| value.as_str().and_then(Timestamp::parse).is_some())
}

#[cfg(test)]
mod tests {
    use domain::{AppDraft, FuncDraft};

    use super::*;

    fn app(text: &str) -> Result<AppDraft, ErrorCode> {
        parse(text.as_bytes()).map_err(|error| error.code())
    }

    #[test]
    fn what_is_no_object_of_the_right_shape_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "[\"\",\"a\"]",
            "\"a\"",
            "{",
            "{}{}",
            r#"{"name":1}"#,
            r#"{"name":"a\u0000"}"#,
            r#"{"name":"a","annotations":{"k":["\u0000"]}}"#,
            r#"{"name":"a","config":{"\u0000":"v"}}"#,
            r#"{"name":"\ud800"}"#,
            r#"{"config":{"k":1}}"#,
            r#"{"created_at":"yesterday"}"#,
        ] {
            assert_eq!(app(text).expect_err(text), ErrorCode::InvalidJson, "{text}");
        }
        assert!(parse::<AppDraft>(b"{\"name\":\"\xff\"}").is_err());
        assert!(parse::<AppDraft>("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn a_null_is_the_zero_value_but_in_annotations() {
        let draft =
            app(r#"{"name":null,"config":null,"annotations":null,"syslog_url":null,"shape":null}"#);
        assert_eq!(draft, Ok(AppDraft::default()));
        let draft = app(r#"{"config":{"k":null},"annotations":{"k":null}}"#).expect("readable");
        assert_eq!(draft.config["k"], "");
        assert_eq!(draft.annotations.get("k"), Some(&Value::Null));
    }

    #[test]
    fn numbers_must_be_whole_and_fit() {
        let memory = |number: &str| {
            parse::<FuncDraft>(format!(r#"{{"memory":{number}}}"#).as_bytes())
                .map(|draft| draft.memory)
                .ok()
        };
        assert_eq!(memory("100000000000000"), Some(100_000_000_000_000));
        for number in ["1e14", "-1", "1.5", "18446744073709551616", "\"1\""] {
            assert_eq!(memory(number), None, "{number}");
        }
    }

    #[test]
    fn unknown_fields_and_repeated_names_are_taken_as_go_does() {
        let draft = app(r#"{"name":"a","unknown":{"x":1},"name":"b"}"#).expect("readable");
        assert_eq!(draft.name, "b");
    }
}
