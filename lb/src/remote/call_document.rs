//! `TryCall.models_call_json` of a call (spec/13 13.5), written without copying the function's
//! settings.

use std::collections::HashMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use domain::{Annotations, FnSpec, MilliCpus, Timestamp};
use http::{HeaderMap, HeaderName};
use proto::call_json;
use proto::engage_extensions::{EARLY_ANSWER, MAX_WAIT_MILLIS};
use proto::runner::{ClientMsg, TryCall, client_msg};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::asked::Asked;
use super::message;

/// What a trigger tells the function of its request's URL.
static FN_HTTP_REQUEST_URL: HeaderName = HeaderName::from_static("fn-http-request-url");
static FN_HTTP_METHOD: HeaderName = HeaderName::from_static("fn-http-method");

/// The first message of `call`, as it goes to the connection.
pub(super) fn first_message(call: &Asked) -> Result<Bytes, serde_json::Error> {
    let call = try_call(call)?;
    let mut encoded = BytesMut::new();
    let body = client_msg::Body::Try(call);
    message::encode(&ClientMsg { body: Some(body) }, &mut encoded);
    Ok(encoded.freeze())
}

fn try_call(call: &Asked) -> Result<TryCall, serde_json::Error> {
    let json = serde_json::to_string(&CallDocument::new(call, now()))?;
    Ok(TryCall {
        models_call_json: json,
        slot_hash_id: call.target.slot_key.to_string(),
        extensions: extensions(call.wait_deadline, Instant::now()),
    })
}

/// What a Hearth runner does for the call beyond the protocol.
fn extensions(wait_deadline: Option<Instant>, now: Instant) -> HashMap<String, String> {
    let early = (EARLY_ANSWER.to_owned(), "1".to_owned());
    let wait = wait_deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(now).as_millis();
        (MAX_WAIT_MILLIS.to_owned(), left.max(1).to_string())
    });
    std::iter::once(early).chain(wait).collect()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The fields of [`call_json::CallJson`], borrowed.
#[derive(Serialize)]
struct CallDocument<'a> {
    id: &'a str,
    status: &'static str,
    image: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    url: Url<'a>,
    method: &'a str,
    timeout: u64,
    idle_timeout: u64,
    #[serde(skip_serializing_if = "is_zero")]
    tmpfs_size: u32,
    memory: u64,
    #[serde(skip_serializing_if = "is_unlimited")]
    cpus: MilliCpus,
    config: &'a domain::ConfigMap,
    annotations: &'a Annotations,
    headers: Headers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syslog_url: Option<&'a str>,
    completed_at: Timestamp,
    created_at: Timestamp,
    started_at: Timestamp,
    app_id: &'a str,
    app_name: &'a str,
    trigger_id: &'static str,
    fn_id: &'a str,
}

impl<'a> CallDocument<'a> {
    fn new(call: &'a Asked, created_at: Timestamp) -> Self {
        let spec: &FnSpec = &call.target.spec;
        let told = |name: &HeaderName| call.headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            id: call.id.as_str(),
            status: "running",
            image: &spec.image,
            kind: match call.detached {
                true => call_json::DETACHED,
                false => call_json::SYNC,
            },
            url: match told(&FN_HTTP_REQUEST_URL) {
                Some(url) => Url::Told(url),
                None => Url::Invoke(spec.fn_id.as_str()),
            },
            method: told(&FN_HTTP_METHOD).unwrap_or("POST"),
            timeout: spec.timeout.as_secs(),
            idle_timeout: spec.idle_timeout.as_secs(),
            tmpfs_size: spec.tmpfs_mb,
            memory: spec.memory_mb,
            cpus: spec.cpus,
            config: &spec.env,
            annotations: &spec.annotations,
            headers: Headers(&call.headers),
            syslog_url: spec.syslog_url.as_deref(),
            completed_at: Timestamp::UNSET,
            created_at,
            started_at: Timestamp::UNSET,
            app_id: spec.app_id.as_str(),
            app_name: &spec.app_name,
            trigger_id: "",
            fn_id: spec.fn_id.as_str(),
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_unlimited(cpus: &MilliCpus) -> bool {
    cpus.millis() == 0
}

enum Url<'a> {
    Told(&'a str),
    /// Of this function. Where the client reached us is not known, and nobody asks.
    Invoke(&'a str),
}

impl Serialize for Url<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Told(url) => serializer.serialize_str(url),
            Self::Invoke(fn_id) => {
                serializer.collect_str(&format_args!("http://localhost/invoke/{fn_id}"))
            }
        }
    }
}

/// Headers as Go keeps them: names in canonical form, or an original runner would not find them.
struct Headers<'a>(&'a HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.keys_len()))?;
        for name in self.0.keys() {
            map.serialize_entry(&canonical(name.as_str()), &Values(self.0, name))?;
        }
        map.end()
    }
}

struct Values<'a>(&'a HeaderMap, &'a HeaderName);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.0.get_all(self.1).iter();
        serializer.collect_seq(values.map(|value| String::from_utf8_lossy(value.as_bytes())))
    }
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let mut start = true;
    let letters = name.chars().map(|letter| {
        let upper = std::mem::replace(&mut start, letter == '-');
        if upper {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    use domain::{AppId, CallId, FnId};
    use http::HeaderValue;
    use nodekit::body;
    use nodekit::exchange::{CallRequest, Target};
    use proto::call_json::CallJson;

    fn spec() -> FnSpec {
        let mut spec = FnSpec {
            app_id: AppId::from("A"),
            app_name: "a".into(),
            fn_id: FnId::from("F"),
            fn_name: "f".into(),
            image: "x/y:1".into(),
            memory_mb: 64,
            cpus: MilliCpus::new(1500).expect("small"),
            tmpfs_mb: 5,
            timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(40),
            env: [("FN_FN_NAME".to_owned(), "f".to_owned())].into(),
            annotations: Annotations::default(),
            syslog_url: Some("tcp://h:1".into()),
        };
        spec.annotations.set("k", "v");
        spec
    }

    fn call(spec: FnSpec, headers: HeaderMap) -> Asked {
        let call = CallRequest {
            id: CallId::from("C"),
            target: Target::new(spec),
            headers,
            body: body::empty(),
            arrived: Instant::now(),
            wait_deadline: None,
            detached: false,
        };
        Asked::new(call).0
    }

    #[test]
    fn a_runner_reads_the_same_function_and_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("x-foo", HeaderValue::from_static("bar"));
        headers.append("x-foo", HeaderValue::from_static("baz"));
        headers.insert(
            "content-type",
            HeaderValue::from_bytes(b"a\xff").expect("a value"),
        );
        let call = call(spec(), headers);
        let message = try_call(&call).expect("JSON");
        assert_eq!(message.slot_hash_id, call.target.slot_key.to_string());
        let read: CallJson = serde_json::from_str(&message.models_call_json).expect("a call");
        assert_eq!((read.id.as_str(), read.kind.as_str()), ("C", "sync"));
        assert_eq!(
            (read.method.as_str(), read.status.as_str()),
            ("POST", "running")
        );
        assert_eq!(read.url, "http://localhost/invoke/F");
        assert_eq!(read.headers["X-Foo"], ["bar", "baz"]);
        assert_eq!(read.headers["Content-Type"], ["a\u{fffd}"]);
        assert!(!read.created_at.is_unset() && read.started_at.is_unset());
        assert_eq!(read.fn_spec(), spec());
    }

    /// spec/13 13.5, field by field.
    #[test]
    fn the_document_is_the_originals() {
        let mut plain = spec();
        (plain.cpus, plain.tmpfs_mb, plain.syslog_url) = (MilliCpus::default(), 0, None);
        let mut headers = HeaderMap::new();
        headers.insert("fn-http-method", HeaderValue::from_static("PUT"));
        headers.insert(
            "fn-http-request-url",
            HeaderValue::from_static("http://h/t/a/s"),
        );
        let mut call = call(plain, headers);
        call.detached = true;
        let document = CallDocument::new(&call, Timestamp::from_unix_millis(0));
        let json = serde_json::to_value(&document).expect("JSON");
        let expected = serde_json::json!({
            "id": "C", "status": "running", "image": "x/y:1", "type": "detached",
            "url": "http://h/t/a/s", "method": "PUT", "timeout": 30, "idle_timeout": 40,
            "memory": 64, "config": {"FN_FN_NAME": "f"}, "annotations": {"k": "v"},
            "headers": {"Fn-Http-Method": ["PUT"], "Fn-Http-Request-Url": ["http://h/t/a/s"]},
            "completed_at": "0001-01-01T00:00:00.000Z", "created_at": "1970-01-01T00:00:00.000Z",
            "started_at": "0001-01-01T00:00:00.000Z", "app_id": "A", "app_name": "a",
            "trigger_id": "", "fn_id": "F",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_hearth_runner_is_told_how_long_the_call_may_wait() {
        let now = Instant::now();
        let told = extensions(Some(now + std::time::Duration::from_millis(1500)), now);
        assert_eq!(told[MAX_WAIT_MILLIS], "1500");
        assert_eq!(extensions(Some(now), now)[MAX_WAIT_MILLIS], "1");
        let endless = extensions(None, now);
        assert_eq!(endless.len(), 1);
        assert_eq!(endless[EARLY_ANSWER], "1");
    }
}
