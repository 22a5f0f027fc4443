//! A function on the real Python FDK (`tests/images/python`).

use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use hearth_tests::{Deployed, Server, binary, engine};
use http::Request;
use serde_json::{Value, json};

/// The image, built by its script unless it is there.
fn image() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    const IMAGE: &str = "hearth-test/python:1";
    BUILT.get_or_init(|| {
        if engine::docker(&["images", "--quiet", IMAGE]).is_empty() {
            let script = binary::repository().join("tests/images/python/build");
            let built = Command::new(script).output().expect("the script runs");
            assert!(
                built.status.success(),
                "{}",
                String::from_utf8_lossy(&built.stderr)
            );
        }
    });
    IMAGE
}

async fn python(server: &Server, settings: Value) -> Deployed {
    let mut settings = settings;
    settings["memory"] = json!(128);
    Deployed::new(&server.client, "python", image(), settings).await
}

/// Python takes its time to start on a busy machine.
const PATIENT: &[(&str, &str)] = &[("FN_HOT_START_TIMEOUT_MSECS", "30000")];

#[tokio::test]
async fn a_call_is_told_and_its_container_used_again() {
    let server = Server::start(PATIENT).await;
    let func = python(&server, json!({ "config": { "GREETING": "hi" } })).await;
    let mut ids = Vec::new();
    for text in ["first", "zwei äöü", ""] {
        let answer = func
            .call_with(&[("x-a", "1"), ("content-type", "text/plain")], text)
            .await
            .expect(200);
        let told = answer.json();
        let body = if text.is_empty() {
            json!({})
        } else {
            json!({ "text": text })
        };
        assert_eq!(told["body"], body);
        let id = answer.header("fn-call-id").expect("an id").to_owned();
        assert_eq!(
            (&told["call"], &told["app"], &told["fn"]),
            (&json!(id), &json!(func.app_id), &json!(func.fn_id))
        );
        for (name, value) in [
            ("GREETING", "hi"),
            ("FN_APP_NAME", "python"),
            ("FN_FN_NAME", "python"),
            ("FN_TYPE", "sync"),
        ] {
            assert_eq!(told["config"][name], value, "{name}");
        }
        assert_eq!(answer.header("content-type"), Some("application/json"));
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert_eq!(server.containers().len(), 1);
}

#[tokio::test]
async fn a_trigger_has_the_functions_status_and_headers() {
    let server = Server::start(PATIENT).await;
    let func = python(&server, json!({})).await;
    let path = func.trigger("python", "/hook").await;
    let request = Request::put(format!("{path}?q=1"))
        .header("x-a", "1")
        .header("content-type", "application/json");
    let body = Bytes::from(json!({ "status": 202 }).to_string());
    let answer = server
        .client
        .send(request.body(body).expect("a request"))
        .await
        .expect(202);
    let told = answer.json();
    assert_eq!(
        (&told["method"], &told["url"]),
        (
            &json!("PUT"),
            &json!(format!("{}{path}?q=1", server.client.base()))
        )
    );
    let headers = told["headers"].as_object().expect("headers");
    let of = |wanted: &str| {
        headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    assert_eq!(of("x-a"), Some(&json!("1")), "{told}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("fn-fdk-version"), None);
}

#[tokio::test]
async fn an_exception_is_a_failed_call_in_a_container_that_goes_on() {
    let server = Server::start(PATIENT).await;
    let func = python(&server, json!({})).await;
    func.call_json(json!({})).await.expect(200);
    let first = server.containers();
    func.call_json(json!({ "fail": true }))
        .await
        .is_error(502, "function failed");
    func.call_json(json!({})).await.expect(200);
    assert_eq!(server.containers(), first);
}

/// The kit reads `Fn-Deadline`, and gives up by itself or is cut off: the caller sees the same.
#[tokio::test]
async fn a_call_past_its_deadline_has_timed_out() {
    let server = Server::start(PATIENT).await;
    let func = python(&server, json!({ "timeout": 1 })).await;
    func.call_json(json!({ "sleep": 5 }))
        .await
        .is_error(504, "Timed out");
    func.call_json(json!({})).await.expect(200);
}
