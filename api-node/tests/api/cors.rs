//! Cross-origin requests (spec/01 1.2).

use api_node::rest::ApiSettings;
use http::Method;
use nodekit::http_server::Limits;

use crate::server::{Answer, Api};

const ORIGIN: &str = "https://ui.example";

async fn api(origins: &[&str], headers: &[&str]) -> Api {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let settings = ApiSettings {
        cors_origins: owned(origins),
        cors_headers: owned(headers),
        ..ApiSettings::default()
    };
    Api::start_with(settings, Limits::default()).await
}

async fn preflight(api: &Api, origin: &str) -> Answer {
    let headers = [("origin", origin), ("access-control-request-method", "PUT")];
    api.send(Method::OPTIONS, "/v2/apps/x", &headers, "").await
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer
        .headers
        .get(name)
        .map(|value| value.to_str().expect("ASCII").to_lowercase())
}

#[tokio::test]
async fn off_unless_configured() {
    let api = api(&[], &[]).await;
    let answer = api
        .send(Method::GET, "/v2/apps", &[("origin", ORIGIN)], "")
        .await;
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    preflight(&api, ORIGIN)
        .await
        .refused(405, "Method not allowed: OPTIONS /v2/apps/x");
}

#[tokio::test]
async fn any_origin() {
    let api = api(&["*"], &[]).await;
    let answer = preflight(&api, ORIGIN).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        header(&answer, "access-control-allow-origin").as_deref(),
        Some("*")
    );
    assert_eq!(
        header(&answer, "access-control-allow-methods").as_deref(),
        Some("get,post,put,head,delete")
    );
    assert_eq!(
        header(&answer, "access-control-allow-headers").as_deref(),
        Some("origin,content-length,content-type")
    );
    let answer = api
        .send(Method::GET, "/nope", &[("origin", ORIGIN)], "")
        .await;
    assert_eq!(
        header(&answer, "access-control-allow-origin").as_deref(),
        Some("*"),
        "errors can be read too"
    );
}

#[tokio::test]
async fn listed_origins_and_headers() {
    let api = api(&["https://other.example", ORIGIN], &["X-One", "X-Two"]).await;
    let answer = preflight(&api, ORIGIN).await;
    assert_eq!(
        header(&answer, "access-control-allow-origin").as_deref(),
        Some(ORIGIN)
    );
    assert_eq!(
        header(&answer, "access-control-allow-headers").as_deref(),
        Some("x-one,x-two")
    );
    let foreign = preflight(&api, "https://evil.example").await;
    assert_eq!(header(&foreign, "access-control-allow-origin"), None);
}
