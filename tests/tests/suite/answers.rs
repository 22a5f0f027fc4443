//! What a function may do in a call, and what its caller sees (spec/03 3.1, spec/11 11.2).

use hearth_tests::{Deployed, Server, eventually, functions, raw};
use serde_json::{Value, json};

/// The limits of the original's own tests.
const LIMITS: &[(&str, &str)] = &[
    ("FN_MAX_RESPONSE_SIZE", "2048"),
    ("FN_MAX_HDR_RESPONSE_SIZE", "1024"),
    ("FN_MAX_REQUEST_SIZE", "32256"),
];

/// How many bytes of input the function says it was sent.
fn body_length(answer: &Value) -> &str {
    answer["data"]["bodyLength"]
        .as_str()
        .expect("the test function tells it")
}

/// Checks that a good call gets its own answer, and that the container of before is not asked again.
async fn next_call_is_in_another_container(server: &Server, func: &Deployed, before: &[String]) {
    let answer = func.call_json(json!({})).await.expect(200);
    assert_eq!(
        answer.json()["header"]["Fn-Call-Id"][0],
        answer.header("fn-call-id").expect("an id")
    );
    eventually("the old container is gone", async || {
        let now = server.containers();
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_empty_body_is_an_answer_twice_in_one_container() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "empty", json!({})).await;
    for _ in 0..2 {
        let answer = func
            .call_json(json!({ "isEmptyBody": true }))
            .await
            .expect(200);
        assert_eq!(
            (answer.body.len(), answer.header("content-length")),
            (0, Some("0"))
        );
    }
    assert_eq!(server.containers().len(), 1);
}

#[tokio::test]
async fn the_answer_is_the_functions_own() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "own", json!({})).await;
    let knobs = json!({ "echoContent": "e", "trailerRepeat": 2, "returnHeaders": { "Set-Cookie": ["a=1", "b=2"] } });
    let answer = func.call_json(knobs.clone()).await.expect(200);
    let told = answer.json();
    assert_eq!(
        (&told["request"], &told["trailer"]),
        (&knobs, &json!(["e", "e"]))
    );
    assert_eq!(
        told["header"]["Fn-Call-Id"][0],
        answer.header("fn-call-id").expect("an id")
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.header("content-length"),
        Some(answer.body.len().to_string().as_str())
    );
    assert_eq!(
        answer
            .headers
            .get_all("set-cookie")
            .iter()
            .collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );

    // A lie about the content is passed on; the status is for triggers only.
    let answer = func
        .call_json(json!({ "responseContentType": "foo/bar", "responseCode": 404 }))
        .await
        .expect(200);
    assert_eq!(
        (
            answer.header("content-type"),
            answer.header("fn-http-status")
        ),
        (Some("foo/bar"), Some("404"))
    );
    answer.json();
    assert_eq!(server.containers().len(), 1);
}

#[tokio::test]
async fn a_crash_in_a_call_is_an_error_and_the_next_call_is_good() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "crash", json!({})).await;
    func.call_json(json!({})).await.expect(200);
    let before = server.containers();
    func.call_json(json!({ "isCrash": true }))
        .await
        .is_error(502, "error receiving function response");
    next_call_is_in_another_container(&server, &func, &before).await;
}

#[tokio::test]
async fn an_exit_with_code_0_in_a_call_is_an_error_and_the_next_call_is_good() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "exit", json!({})).await;
    func.call_json(json!({})).await.expect(200);
    let before = server.containers();
    let exit = json!({ "isExit": true, "exitCode": 0 });
    func.call_json(exit)
        .await
        .is_error(502, "error receiving function response");
    next_call_is_in_another_container(&server, &func, &before).await;
}

#[tokio::test]
async fn a_header_over_the_limit_costs_the_container() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "header", json!({})).await;
    func.call_json(json!({ "returnHeaders": { "X-Fits": ["x".repeat(600)] } }))
        .await
        .expect(200);
    for knobs in [
        json!({ "returnHeaders": { "X-Big": ["x".repeat(1100)] } }),
        json!({ "misbehave": "hugeHeader" }),
    ] {
        let before = server.containers();
        func.call_json(knobs)
            .await
            .is_error(502, "function response header too large");
        next_call_is_in_another_container(&server, &func, &before).await;
    }
}

/// spec/13 13.8, the first one: the rest of an aborted answer must never be anybody's.
#[tokio::test]
async fn after_a_body_over_the_limit_the_next_call_gets_its_own_answer() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "body", json!({})).await;
    func.call_json(json!({ "bodySize": 2048 }))
        .await
        .expect(200);
    for knobs in [
        json!({ "bodySize": 2049 }),
        json!({ "misbehave": "hugeBody", "size": 1 << 20 }),
        json!({ "misbehave": "hugeChunkedBody", "size": 1 << 20 }),
    ] {
        let before = server.containers();
        func.call_json(knobs)
            .await
            .is_error(502, "function response body too large");
        next_call_is_in_another_container(&server, &func, &before).await;
    }
}

#[tokio::test]
async fn a_function_out_of_memory_is_an_error_and_a_line_in_the_log() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "memory", json!({ "memory": 64 })).await;
    func.call_json(json!({ "allocateMemory": 20 << 20 }))
        .await
        .expect(200);
    let before = server.containers();
    let hungry = json!({ "allocateMemory": 120 << 20 });
    func.call_json(hungry)
        .await
        .is_error(502, "error receiving function response");
    eventually("the log says why", async || {
        let lines = server.log_lines();
        lines
            .iter()
            .any(|line| {
                line["message"] == "container ran out of memory" && line["fn_id"] == func.fn_id
            })
            .then_some(())
    })
    .await;
    next_call_is_in_another_container(&server, &func, &before).await;
}

#[tokio::test]
async fn input_has_a_limit_in_either_framing() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "input", json!({})).await;
    assert_eq!(
        body_length(&func.call(vec![b'x'; 32256]).await.expect(200).json()),
        "32256"
    );
    let told = "Content-Length too large for this server, 32257 > max 32256";
    func.call(vec![b'x'; 32257]).await.is_error(413, told);

    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        func.path
    );
    let answer = raw::exchange(
        &server.client,
        format!("{head}{}0\r\n\r\n", chunk.repeat(8)).as_bytes(),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("Request content too large"),
        "{answer}"
    );
    func.call_json(json!({})).await.expect(200);
}

#[tokio::test]
async fn a_chunked_upload_arrives_whole() {
    let server = Server::start(&[]).await;
    let echo = Deployed::new(
        &server.client,
        "echo",
        &functions::image("echo"),
        json!({ "memory": 64 }),
    )
    .await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        echo.path
    );
    let request =
        format!("{head}5\r\nhello\r\n7;name=value\r\n, world\r\n0\r\nX-Trailer: t\r\n\r\n");
    let answer = raw::exchange(&server.client, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello, world"),
        "{answer}"
    );
    let long = "0123456789abcdef".repeat(1 << 16);
    assert_eq!(echo.call(long.clone()).await.expect(200).text(), long);
}

#[tokio::test]
async fn a_kits_errors_keep_the_container_and_other_statuses_do_not() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "statuses", json!({})).await;
    func.call_json(json!({})).await.expect(200);
    let first = server.containers();
    func.call_json(json!({ "wireStatus": 502 }))
        .await
        .is_error(502, "function failed");
    let failed = func
        .call_json(json!({ "wireStatus": 504, "returnHeaders": { "X-Secret": ["s"] } }))
        .await;
    failed.is_error(504, "Timed out");
    assert_eq!(failed.header("x-secret"), None);
    func.call_json(json!({})).await.expect(200);
    assert_eq!(server.containers(), first);
    for status in [201, 404, 500] {
        let before = server.containers();
        func.call_json(json!({ "wireStatus": status }))
            .await
            .is_error(502, "invalid function response");
        next_call_is_in_another_container(&server, &func, &before).await;
    }
}

#[tokio::test]
async fn what_a_function_prints_is_in_the_debug_log() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "prints", json!({})).await;
    func.call_json(json!({ "postOutGarbage": "out\n" }))
        .await
        .expect(200);
    for printed in ["BeginOfLogs", "EndOfLogs", "out"] {
        eventually(printed, async || {
            let ours = |line: &Value| {
                let text = line.to_string();
                text.contains(&format!("\"{printed}\""))
                    && text.contains(&func.fn_id)
                    && text.contains(&func.app_id)
            };
            server.log_lines().iter().any(ours).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_config_is_the_functions_environment() {
    let server = Server::start(&[]).await;
    let app = json!({ "name": "config", "config": { "A": "app", "B": "app" } });
    let app = server
        .client
        .post("/v2/apps", app.to_string())
        .await
        .expect(200)
        .json();
    let settings = json!({ "memory": 65, "config": { "B": "fn", "FN_MEMORY": "1", "C": "a=b c" } });
    let func = Deployed::in_app(
        &server.client,
        &app,
        "func",
        &functions::image("test-function"),
        settings,
    )
    .await;
    let config = func.call_json(json!({})).await.expect(200).json()["config"].clone();
    for (name, value) in [
        ("A", "app"),
        ("B", "fn"),
        ("C", "a=b c"),
        ("FN_MEMORY", "65"),
        ("FN_TYPE", "sync"),
        ("FN_FORMAT", "http-stream"),
        ("FN_LISTENER", "unix:/tmp/iofs/lsnr.sock"),
        ("FN_APP_NAME", "config"),
        ("FN_FN_NAME", "func"),
        ("FN_APP_ID", &func.app_id),
        ("FN_FN_ID", &func.fn_id),
    ] {
        assert_eq!(config[name], value, "{name}");
    }
}

#[tokio::test]
async fn only_post_invokes_and_only_what_is_there() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "gone", json!({})).await;
    let not_allowed = |method| format!("Method not allowed: {method} {}", func.path);
    server
        .client
        .put(&func.path, "")
        .await
        .is_error(405, &not_allowed("PUT"));
    server
        .client
        .get(&func.path)
        .await
        .is_error(405, &not_allowed("GET"));
    server
        .client
        .post("/invoke/unknown", "")
        .await
        .is_error(404, "Fn not found");
    func.call_json(json!({})).await.expect(200);
    server
        .client
        .delete(&format!("/v2/fns/{}", func.fn_id))
        .await
        .expect(204);
    func.call_json(json!({}))
        .await
        .is_error(404, "Fn not found");
}

#[tokio::test]
async fn a_changed_function_is_what_the_next_call_meets() {
    let server = Server::start(&[]).await;
    let func =
        Deployed::test_function(&server.client, "changes", json!({ "config": { "A": "1" } })).await;
    let path = format!("/v2/fns/{}", func.fn_id);
    assert_eq!(
        func.call_json(json!({})).await.expect(200).json()["config"]["A"],
        "1"
    );
    server
        .client
        .put(&path, json!({ "config": { "A": "2" } }).to_string())
        .await
        .expect(200);
    assert_eq!(
        func.call_json(json!({})).await.expect(200).json()["config"]["A"],
        "2"
    );
    let app = json!({ "config": { "B": "3" } }).to_string();
    server
        .client
        .put(&format!("/v2/apps/{}", func.app_id), app)
        .await
        .expect(200);
    assert_eq!(
        func.call_json(json!({})).await.expect(200).json()["config"]["B"],
        "3"
    );
    server
        .client
        .put(
            &path,
            json!({ "image": functions::image("echo") }).to_string(),
        )
        .await
        .expect(200);
    assert_eq!(func.call("an echo").await.expect(200).text(), "an echo");
}
