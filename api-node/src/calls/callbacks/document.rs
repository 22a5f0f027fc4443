//! What is posted to a callback URL: the call's record and what its function answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::CallRecord;
use domain::call::{CallHeaders, CallResult};
use serde::Serialize;

#[derive(Serialize)]
struct Outcome<'a> {
    call: &'a CallRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Answer<'a>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    status: u16,
    headers: &'a CallHeaders,
    /// The output, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// The output, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// Whether the output was longer.
    truncated: bool,
}

/// The document in JSON.
pub(super) fn of(call: &CallRecord, result: Option<&CallResult>) -> Vec<u8> {
    let result = result.map(|result| {
        let text = std::str::from_utf8(&result.body).ok();
        Answer {
            status: result.status,
            headers: &result.headers,
            body: text,
            body_base64: text.is_none().then(|| STANDARD.encode(&result.body)),
            truncated: result.truncated,
        }
    });
    let document = serde_json::to_vec(&Outcome { call, result });
    // Strings and numbers: there is nothing that JSON cannot hold.
    document.unwrap_or_default()
}
