//! The first message of a call: which function, for whom, and how long it may wait.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{ApiError, CallId, ErrorCode};
use http::HeaderMap;
use http::header::{EXPECT, HOST};
use nodekit::body::Body;
use nodekit::exchange::{CallRequest, Target};
use nodekit::hop;
use proto::call_json::{CallJson, DETACHED};
use proto::engage_extensions::{EARLY_ANSWER, MAX_WAIT_MILLIS};
use proto::runner::TryCall;
use serde::Deserialize;

use super::Shared;
use super::header_list::HeaderList;

/// The longest key of a function, in bytes; a hash is 32.
const MAX_SLOT_HASH: usize = 128;
/// Times beyond this cannot be meant, and could not be computed with.
const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is different in each call of a function; the rest of the document is not looked at.
#[derive(Deserialize)]
struct CallHead<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    headers: HeaderList,
}

/// A call as its load balancer wants it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: CallId,
    pub(super) detached: bool,
    /// Whether the function may answer before it has all of its input.
    pub(super) early_answer: bool,
    pub(super) target: Arc<Target>,
    headers: HeaderMap,
    max_wait: Option<Duration>,
}

/// Why a call is not even tried, with its id if that could be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) id: Option<CallId>,
    pub(super) error: ApiError,
}

/// The document is the load balancer's doing, so nobody else is to blame; trying elsewhere would not
/// help.
fn invalid(what: impl std::fmt::Display) -> ApiError {
    ApiError::with_message(ErrorCode::Internal, what.to_string())
}

impl Wanted {
    /// Reads the first message.
    pub(super) fn read(shared: &Shared, message: &TryCall) -> Result<Self, Unreadable> {
        let text = &message.models_call_json;
        let head: CallHead<'_> = serde_json::from_str(text).map_err(|error| Unreadable {
            id: None,
            error: invalid(format_args!("models_call_json: {error}")),
        })?;
        let id = CallId::from(head.id.as_ref());
        let rest = || {
            Ok((
                find_target(shared, message)?,
                max_wait(message.extensions.get(MAX_WAIT_MILLIS))?,
            ))
        };
        let (target, max_wait) = rest().map_err(|error| Unreadable {
            id: Some(id.clone()),
            error,
        })?;
        let mut headers = head.headers.0;
        hop::strip(&mut headers);
        headers.remove(HOST);
        headers.remove(EXPECT);
        Ok(Self {
            id,
            detached: head.kind == DETACHED,
            early_answer: message
                .extensions
                .get(EARLY_ANSWER)
                .is_some_and(|value| value == "1"),
            target,
            headers,
            max_wait,
        })
    }

    /// The call with its input, for the agent. It waits until `deadline`, but not longer than its
    /// load balancer or this runner wants.
    pub(super) fn request(
        &mut self,
        body: Body,
        arrived: Instant,
        deadline: Option<Instant>,
        max_wait: Option<Duration>,
    ) -> CallRequest {
        let waits = [max_wait, self.max_wait].into_iter().flatten();
        let wait_deadline = waits
            .filter_map(|wait| arrived.checked_add(wait))
            .chain(deadline)
            .min();
        CallRequest {
            id: self.id.clone(),
            target: Arc::clone(&self.target),
            headers: std::mem::take(&mut self.headers),
            body,
            arrived,
            wait_deadline,
            detached: self.detached,
        }
    }
}

fn max_wait(extension: Option<&String>) -> Result<Option<Duration>, ApiError> {
    let millis = extension.map(|text| text.parse().map(Duration::from_millis));
    millis
        .transpose()
        .map_err(|error| invalid(format_args!("extensions: {MAX_WAIT_MILLIS}: {error}")))
}

fn find_target(shared: &Shared, message: &TryCall) -> Result<Arc<Target>, ApiError> {
    let mut hash = [0; MAX_SLOT_HASH];
    let hash = hexadecimal(&message.slot_hash_id, &mut hash)
        .ok_or_else(|| invalid("slot_hash_id: not in hexadecimal digits, or too long"))?;
    if !hash.is_empty()
        && let Some(target) = shared.targets.find(hash)
    {
        return Ok(target);
    }
    let target = new_target(shared, message.models_call_json.as_bytes())?;
    // Who names it by the key of another function must not have that one's calls run it.
    if hash == target.slot_key.as_bytes() {
        shared.targets.keep(hash, Arc::clone(&target));
    }
    Ok(target)
}

/// The function that a call's document describes.
pub(super) fn new_target(shared: &Shared, document: &[u8]) -> Result<Arc<Target>, ApiError> {
    let call: CallJson = serde_json::from_slice(document)
        .map_err(|error| invalid(format_args!("models_call_json: {error}")))?;
    let spec = call.fn_spec();
    if spec.image.is_empty() {
        return Err(ErrorCode::FnMissingImage.into());
    }
    if shared.settings.status_image.as_ref() == Some(&spec.image) {
        return Err(ErrorCode::FnInvalidImage.into());
    }
    for (name, time) in [
        ("timeout", spec.timeout),
        ("idle_timeout", spec.idle_timeout),
    ] {
        if time > LONGEST_TIME {
            return Err(invalid(format_args!("models_call_json: {name}: too long")));
        }
    }
    Ok(Target::new(spec))
}

/// Reads hexadecimal digits into the front of `buffer`.
fn hexadecimal<'a>(text: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let digits = text.as_bytes();
    let bytes = buffer.get_mut(..digits.len().div_ceil(2))?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |letter: u8| char::from(letter).to_digit(16);
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_hexadecimal_digits() {
        let read = |text: &str| hexadecimal(text, &mut [0; 4]).map(<[u8]>::to_vec);
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(read("00fF1a"), Some(vec![0, 255, 26]));
        for bad in ["0", "0g", "é", "0011223344"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
