//! Request ids (spec/01 1.2): taken from a header of the request, or made, so that the log lines of
//! one request can be joined.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use domain::IdSource;
use http::{HeaderMap, HeaderName};

/// The longest id that is taken from a client, in bytes.
const MAX_BYTES: usize = 128;

/// Where request ids come from.
#[derive(Debug)]
pub struct RequestIds {
    header: HeaderName,
    ids: IdSource,
}

impl RequestIds {
    /// Takes ids from `header` (`FN_RID_HEADER`); where it is empty, one of `ids` is made.
    pub fn new(header: HeaderName, ids: IdSource) -> Self {
        Self { header, ids }
    }

    /// The id of a request. A value that is too long for a log line, or no printable ASCII, is
    /// replaced like an empty one.
    pub(super) fn of(&self, headers: &HeaderMap) -> Arc<str> {
        let given = headers
            .get(&self.header)
            .and_then(|value| value.to_str().ok());
        match given {
            Some(id) if !id.is_empty() && id.len() <= MAX_BYTES => id.into(),
            _ => self.ids.next(unix_millis()),
        }
    }
}

fn unix_millis() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usable_value_is_taken_and_another_replaced() {
        let ids = RequestIds::new(HeaderName::from_static("x-rid"), IdSource::new(1));
        let of = |value: &[u8]| {
            let value = http::HeaderValue::from_bytes(value).expect("a header value");
            ids.of(&HeaderMap::from_iter([(
                HeaderName::from_static("x-rid"),
                value,
            )]))
        };
        assert_eq!(&*of(b"abc"), "abc");
        for value in [&b""[..], b"\xff", "r".repeat(129).as_bytes()] {
            assert_eq!(of(value).len(), 26);
        }
        assert_eq!(ids.of(&HeaderMap::new()).len(), 26);
    }
}
