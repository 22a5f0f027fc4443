//! What every node serves, request ids and the metrics of requests (spec/01 1.1, spec/10 10.2).

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::server::Api;

#[tokio::test]
async fn root_version_and_health() {
    let api = Api::start().await;
    let root = json!({"hello": "world!", "goto": "https://github.com/fnproject/fn"});
    assert_eq!(api.get("/").await.json(), root);
    assert_eq!(
        api.get("/version").await.json(),
        json!({"version": "0.3.753"})
    );
    assert_eq!(api.get("/livez").await.json(), json!({"status": "ok"}));
    assert_eq!(api.get("/readyz").await.json(), json!({"status": "ok"}));
    api.ready.store(false, Ordering::Relaxed);
    api.get("/readyz").await.refused(503, "not ready");
    assert_eq!(api.get("/livez").await.json(), json!({"status": "ok"}));
}

#[tokio::test]
async fn requests_are_counted_by_template() {
    let api = Api::start().await;
    let id = api.app("a").await;
    api.get(&format!("/v2/apps/{id}")).await.json();
    api.get("/v2/apps/unknown")
        .await
        .refused(404, "App not found");
    api.get("/made-up")
        .await
        .refused(404, "Path not found: GET /made-up");
    let metrics = api.get("/metrics").await;
    assert_eq!(
        metrics.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let answered = |status, blame| {
        format!(
            "{{path=\"/v2/apps/{{app_id}}\",method=\"GET\",status=\"{status}\",blame=\"{blame}\",fn_fdk_version=\"\"}} 1\n"
        )
    };
    for line in [
        "fn_api_request_count{path=\"/v2/apps/{app_id}\",method=\"GET\"} 2\n".to_owned(),
        "fn_api_request_count{path=\"/v2/apps\",method=\"POST\"} 1\n".to_owned(),
        "fn_api_request_count{path=\"unmatched\",method=\"GET\"} 1\n".to_owned(),
        format!("fn_api_response_count{}", answered(200, "")),
        format!("fn_api_response_count{}", answered(404, "user")),
        format!("fn_api_latency_count{}", answered(404, "user")),
    ] {
        assert!(
            metrics.text.contains(&line),
            "{line} is missing in {}",
            metrics.text
        );
    }
    assert!(
        !metrics.text.contains(&id) && !metrics.text.contains("made-up"),
        "{}",
        metrics.text
    );
}

#[tokio::test]
async fn the_document_is_served() {
    let api = Api::start().await;
    let served = api.get("/openapi.json").await.json();
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(
        served["paths"].get("/invoke/{fn_id}"),
        None,
        "the front door is elsewhere"
    );
    assert_ne!(served["paths"]["/v2/apps"]["post"], Value::Null);
}
