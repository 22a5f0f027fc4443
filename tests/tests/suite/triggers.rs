//! HTTP triggers (spec/01 1.9, spec/11 11.2).

use bytes::Bytes;
use hearth_tests::{Answer, Client, Deployed, Server};
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn with_trigger(server: &Server, settings: Value) -> (Deployed, String) {
    let func = Deployed::test_function(&server.client, "app", settings).await;
    let path = func.trigger("app", "/source").await;
    (func, path)
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client
        .send(request.body(body.into()).expect("a request"))
        .await
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Server::start(&[]).await;
    let (func, path) = with_trigger(&server, json!({})).await;
    for method in [Method::GET, Method::POST] {
        send(&server.client, method.clone(), "/t/nobody/source", &[], "")
            .await
            .is_error(404, "App not found");
        for other in [
            "/t/app",
            "/t/app/",
            "/t/app/sourc",
            "/t/app/source/",
            "/t/app/source/more",
        ] {
            send(&server.client, method.clone(), other, &[], "")
                .await
                .is_error(404, "Trigger not found");
        }
    }
    server.client.get(&path).await.expect(200);
    server
        .client
        .get(&format!("{path}?query=1"))
        .await
        .expect(200);
    server
        .client
        .delete(&format!("/v2/fns/{}", func.fn_id))
        .await
        .expect(204);
    server
        .client
        .get(&path)
        .await
        .is_error(404, "Trigger not found");
}

#[tokio::test]
async fn a_request_is_told_under_the_prefix() {
    let server = Server::start(&[]).await;
    let (_, path) = with_trigger(&server, json!({})).await;
    let headers = [
        ("x-a", "1"),
        ("x-a", "2"),
        ("content-type", "text/plain"),
        ("keep-alive", "k"),
        ("fn-http-method", "FAKE"),
    ];
    for method in [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        let answer = send(
            &server.client,
            method.clone(),
            &format!("{path}?q=a%20b"),
            &headers,
            "text",
        )
        .await
        .expect(200);
        let told = answer.json();
        let headers = &told["header"];
        for (name, values) in [
            ("Fn-Http-Method", json!([method.as_str()])),
            (
                "Fn-Http-Request-Url",
                json!([format!("{}{path}?q=a%20b", server.client.base())]),
            ),
            ("Fn-Intent", json!(["httprequest"])),
            ("Fn-Http-H-X-A", json!(["1", "2"])),
            ("Fn-Http-H-Fn-Http-Method", json!(["FAKE"])),
            ("Fn-Http-H-Content-Length", json!(["4"])),
            ("Content-Type", json!(["text/plain"])),
        ] {
            assert_eq!(headers[name], values, "{method}: {name}");
        }
        for gone in [
            "X-A",
            "Keep-Alive",
            "Fn-Http-H-Keep-Alive",
            "Fn-Http-H-Content-Type",
        ] {
            assert_eq!(headers.get(gone), None, "{method}: {gone}");
        }
        assert_eq!(told["data"]["bodyLength"], "4");
        assert_eq!(
            headers["Fn-Call-Id"][0],
            answer.header("fn-call-id").expect("an id")
        );
    }
}

#[tokio::test]
async fn an_answer_has_the_functions_status_and_its_prefixed_headers_only() {
    let server = Server::start(&[]).await;
    let (_, path) = with_trigger(&server, json!({})).await;
    let knobs =
        json!({ "responseCode": 202, "returnHeaders": { "X-A": ["1", "2"], "Location": ["/x"] } });
    let answer = server
        .client
        .post(&path, knobs.to_string())
        .await
        .expect(202);
    assert_eq!(
        answer.headers.get_all("x-a").iter().collect::<Vec<_>>(),
        ["1", "2"]
    );
    assert_eq!(
        (answer.header("location"), answer.header("content-type")),
        (Some("/x"), Some("application/json"))
    );
    for gone in ["fn-fdk-version", "fn-http-status", "fn-http-h-x-a"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }

    let text = "HTTP/1.1 200 OK\r\nX-Plain: p\r\nFn-Http-H-: none\r\nFn-Http-H-Content-Length: 99\r\n\
                Fn-Http-H-Transfer-Encoding: chunked\r\nFn-Http-H-Connection: close\r\nFn-Http-H-Keep-Alive: 1\r\n\
                Fn-Http-H-Fn-Call-Id: forged\r\nFn-Http-H-X-Good: g\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nhi";
    let script = json!({ "script": ["readBody", { "text": text }] }).to_string();
    let answer = server.client.post(&path, script).await.expect(200);
    assert_eq!(
        (
            answer.text().as_str(),
            answer.header("x-good"),
            answer.header("content-type")
        ),
        ("hi", Some("g"), Some("a/b"))
    );
    assert_eq!(answer.header("fn-call-id").map(str::len), Some(26));
    for gone in ["x-plain", "connection", "keep-alive"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn a_status_that_no_answer_can_have_is_an_error() {
    let server = Server::start(&[]).await;
    let (_, path) = with_trigger(&server, json!({})).await;
    for status in [200, 204, 304, 404, 418, 500, 599] {
        let answer = server
            .client
            .post(&path, json!({ "responseCode": status }).to_string())
            .await
            .expect(status);
        assert_eq!(
            answer.body.is_empty(),
            status == 204 || status == 304,
            "{status}"
        );
    }
    for status in [1, 99, 100, 101, 199, 600, 999, 65535] {
        let answer = server
            .client
            .post(&path, json!({ "responseCode": status }).to_string())
            .await;
        answer.is_error(502, "invalid function response");
    }
    let head = send(&server.client, Method::HEAD, &path, &[], "")
        .await
        .expect(200);
    assert!(head.body.is_empty());
    assert_eq!(server.containers().len(), 1);
}

#[tokio::test]
async fn the_platforms_errors_are_its_own() {
    let server = Server::start(&[]).await;
    let (_, path) = with_trigger(&server, json!({ "timeout": 1 })).await;
    let call = async |knobs: Value| server.client.post(&path, knobs.to_string()).await;
    call(json!({ "isCrash": true }))
        .await
        .is_error(502, "error receiving function response");
    call(json!({ "wireStatus": 502, "responseCode": 200 }))
        .await
        .is_error(502, "function failed");
    call(json!({ "wireStatus": 404 }))
        .await
        .is_error(502, "invalid function response");
    let slow = call(json!({ "sleepTime": 3000 })).await;
    slow.is_error(504, "Timed out");
    assert_eq!(slow.header("fn-call-id").map(str::len), Some(26));
    for _ in 0..2 {
        assert!(
            call(json!({ "isEmptyBody": true }))
                .await
                .expect(200)
                .body
                .is_empty()
        );
    }
}

#[tokio::test]
async fn concurrent_requests_are_all_answered() {
    let server = Server::start(&[]).await;
    let (_, path) = with_trigger(&server, json!({})).await;
    let mut requests = JoinSet::new();
    for number in 0..4 {
        let (client, path) = (server.client.clone(), path.clone());
        requests.spawn(async move {
            let knobs = json!({ "sleepTime": 100, "echoContent": number.to_string() });
            let answer = client.post(&path, knobs.to_string()).await.expect(200);
            assert_eq!(answer.json()["request"], knobs);
        });
    }
    while let Some(request) = requests.join_next().await {
        request.expect("answered");
    }
}
