//! Keyed calls and parts of logs as messages of the service `Calls`, and back; all else that
//! passes about calls is in [`proto::calls_messages`].

use std::time::Duration;

use domain::CallId;
use proto::calls;
use proto::calls_messages::{
    Malformed, attempt_of, duration_ms, fn_id_of, id, lease_message, present, result_message,
    result_of,
};

use crate::calls::{BeginKeyed, Keyed, LogChunk};

/// The longest text that tells requests apart, in bytes.
const MAX_FINGERPRINT: usize = 255;
/// The longest time for which a key is held: longer than any call that keeps its client waiting.
const MAX_HOLD: Duration = Duration::from_secs(24 * 3600);

/// `begin` as a message.
pub fn begin_message(begin: &BeginKeyed) -> calls::BeginKeyedRequest {
    calls::BeginKeyedRequest {
        fn_id: begin.fn_id.to_string(),
        key: begin.key.clone(),
        fingerprint: begin.fingerprint.clone(),
        call_id: begin.call_id.to_string(),
        hold_ms: duration_ms(begin.hold),
    }
}

/// The beginning that a message tells of.
///
/// # Errors
/// A field is missing or not what it must be.
pub fn begin_of(message: calls::BeginKeyedRequest) -> Result<BeginKeyed, Malformed> {
    let hold = Duration::from_millis(message.hold_ms);
    if hold.is_zero() || hold > MAX_HOLD {
        return Err(Malformed::new("hold_ms", "must be between 1 and 86400000"));
    }
    if !(1..=MAX_FINGERPRINT).contains(&message.fingerprint.len()) {
        return Err(Malformed::new("fingerprint", "must be 1 to 255 bytes"));
    }
    Ok(BeginKeyed {
        fn_id: fn_id_of(message.fn_id)?,
        key: key_of(message.key)?,
        fingerprint: message.fingerprint,
        call_id: CallId::from(id("call_id", message.call_id)?),
        hold,
    })
}

/// An idempotency key, as the options of a call may have it.
///
/// # Errors
/// It is none.
pub fn key_of(key: String) -> Result<String, Malformed> {
    let longest = domain::call::options::MAX_KEY_BYTES;
    if key.is_empty() || key.len() > longest || key.bytes().any(|byte| byte < b' ') {
        let rule = "must be 1 to 255 bytes without control characters";
        return Err(Malformed::new("key", rule));
    }
    Ok(key)
}

/// `keyed` as a message.
pub fn keyed_message(keyed: &Keyed) -> calls::BeginKeyedReply {
    match keyed {
        Keyed::Fresh => calls::BeginKeyedReply::default(),
        Keyed::Made { call_id, result } => calls::BeginKeyedReply {
            call_id: call_id.to_string(),
            result: Some(result_message(result)),
        },
    }
}

/// What a key stands for, as a message tells.
///
/// # Errors
/// A field is missing or not what it must be.
pub fn keyed_of(message: calls::BeginKeyedReply) -> Result<Keyed, Malformed> {
    if message.call_id.is_empty() {
        return Ok(Keyed::Fresh);
    }
    Ok(Keyed::Made {
        call_id: CallId::from(id("call_id", message.call_id)?),
        result: result_of(present("result", message.result)?)?,
    })
}

/// `chunk` as a message.
pub fn chunk_message(chunk: &LogChunk) -> calls::LogChunk {
    calls::LogChunk {
        lease: Some(lease_message(&chunk.lease)),
        offset: chunk.offset,
        data: chunk.data.clone(),
    }
}

/// The part of a log that a message has.
///
/// # Errors
/// It belongs to no attempt, or ends where no log can.
pub fn chunk_of(message: calls::LogChunk) -> Result<LogChunk, Malformed> {
    let lease = attempt_of(present("chunks.lease", message.lease)?);
    let end = message.offset.checked_add(message.data.len() as u64);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(Malformed::new("chunks.offset", "is too large"));
    }
    Ok(LogChunk {
        lease: lease?,
        offset: message.offset,
        data: message.data,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::FnId;
    use domain::call::{CallResult, LeaseRef};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn beginnings_survive(
            (fn_id, call_id) in ("[!-~]{1,30}", "[!-~]{1,30}"),
            key in "[^\0-\x1f]{1,60}",
            fingerprint in vec(any::<u8>(), 1..64),
            hold in 1u64..86_400_000,
        ) {
            let begin = BeginKeyed {
                fn_id: FnId::from(fn_id),
                key,
                fingerprint: Bytes::from(fingerprint),
                call_id: CallId::from(call_id),
                hold: Duration::from_millis(hold),
            };
            prop_assert_eq!(begin_of(begin_message(&begin)), Ok(begin));
        }

        #[test]
        fn what_keys_stand_for_survives(call_id in "[!-~]{1,30}", status in 100u16..1000, body: Vec<u8>) {
            prop_assert_eq!(keyed_of(keyed_message(&Keyed::Fresh)), Ok(Keyed::Fresh));
            let result = CallResult {
                status,
                body: body.into(),
                ..CallResult::default()
            };
            let made = Keyed::Made { call_id: CallId::from(call_id), result };
            prop_assert_eq!(keyed_of(keyed_message(&made)), Ok(made));
        }

        #[test]
        fn parts_of_logs_survive(
            call_id in "[!-~]{1,30}",
            epoch in 0i64..,
            offset in 0..(i64::MAX / 2) as u64,
            data: Vec<u8>,
        ) {
            let chunk = LogChunk {
                lease: LeaseRef { call_id: CallId::from(call_id), epoch },
                offset,
                data: data.into(),
            };
            prop_assert_eq!(chunk_of(chunk_message(&chunk)), Ok(chunk));
        }
    }

    #[track_caller]
    fn names<T: std::fmt::Debug>(result: Result<T, Malformed>, field: &str) {
        let error = result.expect_err("must be refused").to_string();
        assert!(error.starts_with(&format!("{field}: ")), "{error}");
    }

    #[test]
    fn what_is_malformed_is_named() {
        let good = || calls::BeginKeyedRequest {
            fn_id: "f".to_owned(),
            key: "k".to_owned(),
            fingerprint: Bytes::from_static(b"x"),
            call_id: "c".to_owned(),
            hold_ms: 1,
        };
        assert!(begin_of(good()).is_ok());
        type Change = fn(&mut calls::BeginKeyedRequest);
        let cases: [(&str, Change); 8] = [
            ("fn_id", |m| m.fn_id.clear()),
            ("key", |m| m.key.clear()),
            ("key", |m| m.key = "\n".to_owned()),
            ("key", |m| m.key = "k".repeat(256)),
            ("fingerprint", |m| m.fingerprint = Bytes::new()),
            ("call_id", |m| m.call_id = "a b".to_owned()),
            ("hold_ms", |m| m.hold_ms = 0),
            ("hold_ms", |m| m.hold_ms = u64::MAX),
        ];
        for (field, change) in cases {
            let mut message = good();
            change(&mut message);
            names(begin_of(message), field);
        }
        let made = calls::BeginKeyedReply {
            call_id: "c".to_owned(),
            result: None,
        };
        names(keyed_of(made), "result");
        let chunk = calls::LogChunk {
            lease: Some(calls::Lease {
                call_id: "c".to_owned(),
                epoch: 1,
            }),
            offset: u64::MAX,
            data: Bytes::from_static(b"x"),
        };
        names(chunk_of(chunk), "chunks.offset");
        names(chunk_of(calls::LogChunk::default()), "chunks.lease");
    }
}
