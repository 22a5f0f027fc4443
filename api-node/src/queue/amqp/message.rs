//! What a message says: a doorbell as JSON, with a version.

use std::borrow::Cow;

use domain::Timestamp;
use domain::call::LeaseRef;
use serde::{Deserialize, Serialize};

use crate::store::Doorbell;

/// Grows when a reader of the version before would misunderstand a message. Fields may be added
/// without that.
const VERSION: u32 = 1;

/// Why a message is no doorbell.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// No JSON, or not the fields.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Made by a newer server.
    #[error("its version is {0}, and {VERSION} is known")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    v: u32,
    #[serde(borrow)]
    call_id: Cow<'a, str>,
    epoch: i64,
    #[serde(borrow)]
    fn_id: Cow<'a, str>,
    priority: i32,
    due_at: i64,
}

/// The body of a message.
pub(super) fn encode(doorbell: &Doorbell) -> Vec<u8> {
    let body = Body {
        v: VERSION,
        call_id: Cow::Borrowed(doorbell.lease.call_id.as_str()),
        epoch: doorbell.lease.epoch,
        fn_id: Cow::Borrowed(doorbell.fn_id.as_str()),
        priority: doorbell.priority,
        due_at: doorbell.due_at.unix_millis(),
    };
    serde_json::to_vec(&body).expect("text and numbers are always JSON")
}

/// What a body says.
pub(super) fn decode(body: &[u8]) -> Result<Doorbell, Malformed> {
    let body: Body<'_> = serde_json::from_slice(body)?;
    if body.v != VERSION {
        return Err(Malformed::Version(body.v));
    }
    Ok(Doorbell {
        lease: LeaseRef {
            call_id: body.call_id.into_owned().into(),
            epoch: body.epoch,
        },
        fn_id: body.fn_id.into_owned().into(),
        priority: body.priority,
        due_at: Timestamp::from_unix_millis(body.due_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doorbell() -> Doorbell {
        Doorbell {
            lease: LeaseRef {
                call_id: "call \"1\" \u{e9}".into(),
                epoch: i64::MAX,
            },
            fn_id: "fn".into(),
            priority: -1,
            due_at: Timestamp::from_unix_millis(-5),
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(&doorbell())).expect("readable"), doorbell());
    }

    #[test]
    fn new_fields_are_passed_over() {
        let body =
            br#"{"v":1,"call_id":"c","epoch":2,"fn_id":"f","priority":3,"due_at":4,"new":5}"#;
        assert_eq!(decode(body).expect("readable").lease.epoch, 2);
    }

    #[test]
    fn other_versions_and_other_things_are_refused() {
        let newer = br#"{"v":2,"call_id":"c","epoch":2,"fn_id":"f","priority":3,"due_at":4}"#;
        assert!(matches!(decode(newer), Err(Malformed::Version(2))));
        for body in [&b""[..], b"\xff", b"{}", b"null", b"[1]", br#"{"v":1}"#] {
            assert!(matches!(decode(body), Err(Malformed::Unreadable(_))));
        }
    }
}
