//! Headers, and what functions answer.

use bytes::Bytes;
use domain::call::{CallHeaders, CallResult};

use super::field::{Malformed, present};
use crate::calls;

/// `headers` as messages.
pub fn headers_message(headers: &CallHeaders) -> Vec<calls::Header> {
    let headers = headers.iter().map(|(name, value)| calls::Header {
        name: name.to_owned(),
        value: value.into(),
    });
    headers.collect()
}

/// The headers of `messages`.
///
/// # Errors
/// One of them could not be a header of HTTP.
pub fn headers_of(messages: Vec<calls::Header>) -> Result<CallHeaders, Malformed> {
    let mut headers = CallHeaders::default();
    for calls::Header { name, value } in messages {
        check(&name, &value)?;
        headers.push(&name, &value);
    }
    Ok(headers)
}

/// Whether a header is one of HTTP.
pub(super) fn check(name: &str, value: &[u8]) -> Result<(), Malformed> {
    if name.is_empty() || !name.bytes().all(is_of_name) {
        return Err(Malformed::new("headers", "the name of one is none"));
    }
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        let rule = format!("the value of {name} has a line end or a NUL");
        return Err(Malformed::new("headers", rule));
    }
    Ok(())
}

/// RFC 9110 5.6.2
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `result` as a message.
pub fn result_message(result: &CallResult) -> calls::CallResult {
    calls::CallResult {
        status: result.status.into(),
        headers: headers_message(&result.headers),
        body: result.body.clone(),
        truncated: result.truncated,
    }
}

/// The result of a message.
///
/// # Errors
/// Its status or one of its headers is not one of HTTP.
pub fn result_of(message: calls::CallResult) -> Result<CallResult, Malformed> {
    Ok(CallResult {
        status: status_of("status", message.status)?,
        headers: headers_of(message.headers)?,
        body: message.body,
        truncated: message.truncated,
    })
}

/// The result of a message that must be there.
pub(super) fn result_in(
    message: Option<calls::CallResult>,
    outer: &str,
) -> Result<CallResult, Malformed> {
    present("result", message)
        .and_then(|message| result_of(message).map_err(|error| error.within("result")))
        .map_err(|error| error.within(outer))
}

/// A status of HTTP.
pub(super) fn status_of(field: &'static str, status: u32) -> Result<u16, Malformed> {
    u16::try_from(status)
        .ok()
        .filter(|status| (100..1000).contains(status))
        .ok_or_else(|| Malformed::new(field, "must be a status of HTTP"))
}

/// Not more than `max` bytes of `body`, and whether there were more.
pub(super) fn cut(body: &Bytes, max: usize) -> (Bytes, bool) {
    (body.slice(..body.len().min(max)), body.len() > max)
}
