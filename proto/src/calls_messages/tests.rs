//! Everything survives the trip, and what is malformed is refused by the name of its field.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::call::lease::Snapshot;
use domain::call::{
    AttemptEnd, AttemptOutcome, CallHeaders, CallKind, CallOptions, CallResult, CallState,
    DeadReason, Fault, LeaseRef, LeasedCall, NewCall,
};
use domain::{AppId, CallId, CallRecord, FnId, Timestamp, TriggerId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::calls;
use crate::calls::finish_call_request::Outcome;

/// Through the bytes of the message.
fn sent<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).expect("a message")
}

fn headers() -> impl Strategy<Value = CallHeaders> {
    let name = "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}";
    let byte = any::<u8>().prop_filter("of HTTP", |byte| !b"\0\r\n".contains(byte));
    vec((name, vec(byte, 0..20)), 0..5).prop_map(|pairs| {
        let mut headers = CallHeaders::default();
        for (name, value) in pairs {
            headers.push(&name, &value);
        }
        headers
    })
}

fn lease() -> impl Strategy<Value = LeaseRef> {
    ("[!-~]{1,30}", 1i64..).prop_map(|(call_id, epoch)| LeaseRef {
        call_id: CallId::from(call_id),
        epoch,
    })
}

fn body() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

/// A time that RFC 3339 can tell.
fn time() -> impl Strategy<Value = Timestamp> {
    (0i64..253_402_300_800_000).prop_map(Timestamp::from_unix_millis)
}

fn result() -> impl Strategy<Value = CallResult> {
    (100u16..1000, headers(), body(), any::<bool>()).prop_map(
        |(status, headers, body, truncated)| CallResult {
            status,
            headers,
            body,
            truncated,
        },
    )
}

fn outcome() -> impl Strategy<Value = AttemptOutcome> {
    let fault = prop_oneof![
        Just(Fault::Function),
        Just(Fault::Timeout),
        Just(Fault::Platform),
        Just(Fault::Permanent),
    ];
    let answered =
        (100u16..1000, option::of(millis()), result()).prop_map(|(status, retry_after, result)| {
            AttemptOutcome::Answered {
                status,
                retry_after,
                result,
            }
        });
    let failed = (fault, any::<bool>(), option::of(millis()), "[^\0]*").prop_map(
        |(fault, crashed, retry_after, error)| AttemptOutcome::Failed {
            fault,
            crashed,
            retry_after,
            error,
        },
    );
    prop_oneof![answered, failed, Just(AttemptOutcome::Returned)]
}

fn snapshot(name: &str, value: &str) -> Snapshot {
    let document = serde_json::json!({
        "app": {"id": "a", "name": name, "config": {"k": value}, "created_at": "2024-01-02T03:04:05.678Z", "updated_at": "2024-01-02T03:04:05.678Z"},
        "fn": {"id": "f", "name": name, "app_id": "a", "image": "i:1", "memory": 128, "timeout": 30, "idle_timeout": 30, "config": {"k": value}, "created_at": "2024-01-02T03:04:05.678Z", "updated_at": "2024-01-02T03:04:05.678Z"},
    });
    serde_json::from_value(document).expect("a snapshot")
}

prop_compose! {
    fn leased_call()(
        lease in lease(),
        lease_ms in 1u64..,
        attempt in 1u32..,
        (name, value) in (".*", ".*"),
        headers in headers(),
        body in body(),
        created_at in any::<i64>(),
    ) -> LeasedCall {
        LeasedCall {
            lease,
            lease_for: Duration::from_millis(lease_ms),
            attempt,
            snapshot: Arc::new(snapshot(&name, &value)),
            headers,
            body,
            created_at: Timestamp::from_unix_millis(created_at),
        }
    }
}

prop_compose! {
    fn new_call()(
        (id, fn_id) in ("[!-~]{1,30}", "[!-~]{1,30}"),
        (trigger, origin) in (option::of("[!-~]{1,30}"), option::of("[!-~]{1,30}")),
        (path, method, url) in ("[^\0]*", "[^\0]*", "[^\0]*"),
        headers in headers(),
        (delay_seconds, run_at, key) in (any::<Option<u64>>(), option::of(time()), any::<Option<String>>()),
        body in body(),
    ) -> NewCall {
        NewCall {
            id: CallId::from(id),
            fn_id: FnId::from(fn_id),
            trigger_id: trigger.map(TriggerId::from),
            path,
            method,
            url,
            headers,
            options: CallOptions { delay_seconds, run_at, idempotency_key: key, ..CallOptions::default() },
            origin_id: origin.map(CallId::from),
            body,
        }
    }
}

prop_compose! {
    fn record()(
        (id, path, method, url) in ("[!-~]{1,30}", ".*", ".*", ".*"),
        state in proptest::sample::select(CallState::ALL).prop_filter("over", |state| state.is_final()),
        reason in option::of(proptest::sample::select(DeadReason::ALL)),
        (error, result_status) in (any::<Option<String>>(), any::<Option<u16>>()),
        (created_at, completed_at) in (time(), time()),
        tag in ".*",
    ) -> CallRecord {
        CallRecord {
            id: CallId::from(id),
            status: state,
            kind: CallKind::Sync,
            app_id: AppId::from("a"),
            fn_id: FnId::from("f"),
            trigger_id: None,
            path,
            method,
            url,
            image: "i:1".to_owned(),
            priority: 0,
            tags: BTreeMap::from([("k".to_owned(), tag)]),
            attempts: 1,
            max_attempts: 1,
            epoch: 1,
            reason,
            error,
            origin_id: None,
            callback_url: None,
            runner_id: None,
            result_status,
            created_at,
            due_at: Timestamp::UNSET,
            expires_at: Timestamp::UNSET,
            started_at: Timestamp::UNSET,
            completed_at,
        }
    }
}

proptest! {
    #[test]
    fn results_survive(result in result()) {
        prop_assert_eq!(result_of(sent(result_message(&result))), Ok(result));
    }

    #[test]
    fn leased_calls_survive(call in leased_call()) {
        let message = leased_call_message(&call).expect("a message");
        prop_assert_eq!(leased_call_of(sent(message)), Ok(call));
    }

    #[test]
    fn ends_survive(lease in lease(), outcome in outcome()) {
        let end = AttemptEnd { lease, outcome };
        let message = sent(finish_message("r", &end, 200));
        prop_assert_eq!(&message.runner_id, "r");
        prop_assert_eq!(finish_of(message), Ok(end));
    }

    #[test]
    fn new_calls_survive(call in new_call()) {
        let message = new_call_message(&call).expect("a message");
        prop_assert_eq!(new_call_of(sent(message)), Ok(call));
    }

    #[test]
    fn records_survive(record in record()) {
        let json = record_message(&record).expect("a document");
        prop_assert_eq!(record_of(&json), Ok(record));
    }

    #[test]
    fn no_bytes_upset_the_readers(bytes: Vec<u8>) {
        let bytes = bytes.as_slice();
        let _ = calls::LeasedCall::decode(bytes).map(leased_call_of);
        let _ = calls::FinishCallRequest::decode(bytes).map(finish_of);
        let _ = calls::EnqueueRequest::decode(bytes).map(new_call_of);
        let _ = calls::LeasesRequest::decode(bytes).map(|message| leases_of(message.leases));
        let _ = record_of(bytes);
    }
}

fn a_lease() -> calls::Lease {
    calls::Lease {
        call_id: "c".to_owned(),
        epoch: 1,
    }
}

fn a_leased_call() -> calls::LeasedCall {
    calls::LeasedCall {
        lease: Some(a_lease()),
        lease_ms: 1,
        attempt: 1,
        snapshot: serde_json::to_vec(&snapshot("n", "v"))
            .expect("json")
            .into(),
        ..calls::LeasedCall::default()
    }
}

fn header(name: &str, value: &'static [u8]) -> calls::Header {
    calls::Header {
        name: name.to_owned(),
        value: Bytes::from_static(value),
    }
}

#[track_caller]
fn names<T: std::fmt::Debug>(result: Result<T, Malformed>, field: &str) {
    let error = result.expect_err("must be refused").to_string();
    assert!(error.starts_with(&format!("{field}: ")), "{error}");
}

#[test]
fn what_a_leased_call_lacks_is_named() {
    assert!(leased_call_of(a_leased_call()).is_ok());
    type Change = fn(&mut calls::LeasedCall);
    let cases: [(&str, Change); 8] = [
        ("lease", |m| m.lease = None),
        ("lease.call_id", |m| {
            m.lease = Some(calls::Lease {
                call_id: String::new(),
                epoch: 1,
            })
        }),
        ("lease.epoch", |m| {
            m.lease = Some(calls::Lease {
                epoch: 0,
                ..a_lease()
            })
        }),
        ("lease_ms", |m| m.lease_ms = 0),
        ("attempt", |m| m.attempt = 0),
        ("snapshot", |m| m.snapshot = Bytes::new()),
        ("snapshot", |m| m.snapshot = Bytes::from_static(b"{}")),
        ("headers", |m| m.headers = vec![header("a b", b"")]),
    ];
    for (field, change) in cases {
        let mut message = a_leased_call();
        change(&mut message);
        names(leased_call_of(message), field);
    }
}

#[test]
fn what_is_no_header_is_refused() {
    for (name, value) in [
        ("", &b"v"[..]),
        ("a:", b"v"),
        ("\u{e4}", b"v"),
        ("a", b"v\r"),
        ("a", b"\nv"),
        ("a", b"v\0"),
    ] {
        names(headers_of(vec![header(name, value)]), "headers");
    }
}

#[test]
fn what_the_report_of_an_attempt_lacks_is_named() {
    let report = |outcome| calls::FinishCallRequest {
        runner_id: "r".to_owned(),
        lease: Some(a_lease()),
        outcome,
    };
    let answered = calls::Answered {
        status: 200,
        retry_after_ms: None,
        result: Some(calls::CallResult {
            status: 200,
            ..calls::CallResult::default()
        }),
    };
    let failed = calls::Failed {
        fault: calls::failed::Fault::Function.into(),
        crashed: false,
        retry_after_ms: None,
        error: String::new(),
    };
    let cases = [
        ("outcome", None),
        (
            "answered.status",
            Some(Outcome::Answered(calls::Answered {
                status: 70_000,
                ..answered.clone()
            })),
        ),
        (
            "answered.result",
            Some(Outcome::Answered(calls::Answered {
                result: None,
                ..answered.clone()
            })),
        ),
        (
            "answered.result.status",
            Some(Outcome::Answered(calls::Answered {
                result: Some(calls::CallResult::default()),
                ..answered
            })),
        ),
        (
            "failed.fault",
            Some(Outcome::Failed(calls::Failed {
                fault: 0,
                ..failed.clone()
            })),
        ),
        (
            "failed.fault",
            Some(Outcome::Failed(calls::Failed {
                fault: 99,
                ..failed.clone()
            })),
        ),
        (
            "failed.error",
            Some(Outcome::Failed(calls::Failed {
                error: "\0".to_owned(),
                ..failed
            })),
        ),
    ];
    for (field, outcome) in cases {
        names(finish_of(report(outcome)), field);
    }
    let message = calls::FinishCallRequest {
        lease: None,
        ..report(None)
    };
    names(finish_of(message), "lease");
}

#[test]
fn what_a_new_call_lacks_is_named() {
    let good = serde_json::json!({
        "id": "c", "fn_id": "f", "path": "/", "method": "POST", "url": "/", "headers": [], "options": {},
    });
    let read = |json: &serde_json::Value| {
        new_call_of(calls::EnqueueRequest {
            json: json.to_string().into(),
            body: Bytes::new(),
        })
    };
    assert!(read(&good).is_ok());
    for (key, value, field) in [
        ("id", serde_json::json!(""), "json.id"),
        ("fn_id", serde_json::json!("a b"), "json.fn_id"),
        ("path", serde_json::json!("\0"), "json.path"),
        ("method", serde_json::json!("\0"), "json.method"),
        ("url", serde_json::json!("\0"), "json.url"),
        ("headers", serde_json::json!([["a", "\n"]]), "json.headers"),
        ("options", serde_json::json!({"new": 1}), "json"),
        ("id", serde_json::Value::Null, "json"),
    ] {
        let mut document = good.clone();
        document[key] = value;
        names(read(&document), field);
    }
    names(new_call_of(calls::EnqueueRequest::default()), "json");
}

#[test]
fn a_call_that_is_not_over_is_no_record() {
    names(record_of(b""), "json");
    names(record_of(b"{}"), "json");
    let json = r#"{"id":"c","status":"running","type":"sync","app_id":"a","fn_id":"f","path":"/","priority":0,"attempts":0,"max_attempts":1,"epoch":1,"created_at":"2024-01-02T03:04:05.678Z"}"#;
    names(record_of(json.as_bytes()), "json");
    let over = json.replace("running", "success");
    assert!(record_of(over.as_bytes()).is_ok());
}

#[test]
fn there_are_not_too_many_leases() {
    assert!(leases_of(vec![a_lease(); MAX_ITEMS]).is_ok());
    names(leases_of(vec![a_lease(); MAX_ITEMS + 1]), "leases");
    let wrong = calls::Lease {
        epoch: -1,
        ..a_lease()
    };
    names(leases_of(vec![a_lease(), wrong]), "leases.epoch");
}

#[test]
fn an_output_that_is_too_long_is_cut() {
    let end = AttemptEnd {
        lease: LeaseRef {
            call_id: CallId::from("c"),
            epoch: 1,
        },
        outcome: AttemptOutcome::Answered {
            status: 200,
            retry_after: None,
            result: CallResult {
                status: 200,
                body: Bytes::from_static(b"abc"),
                ..CallResult::default()
            },
        },
    };
    let read = finish_of(finish_message("r", &end, 2)).expect("an end");
    let AttemptOutcome::Answered { result, .. } = read.outcome else {
        panic!("an answer");
    };
    assert_eq!((&*result.body, result.truncated), (&b"ab"[..], true));
}
