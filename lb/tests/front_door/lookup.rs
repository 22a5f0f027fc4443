//! Paths, verbs, and what is not found (spec/01 1.1, 1.8, 1.9).

use http::Method;

use crate::node::{Node, request};

#[tokio::test]
async fn what_is_not_there_is_404_in_the_order_of_the_lookups() {
    let (node, calls) = Node::answering(&[], "").await;
    for (path, message) in [
        ("/invoke/unknown", "Fn not found"),
        ("/invoke/orphan", "App not found"),
        ("/invoke/%ff", "Fn not found"),
        ("/invoke/f%00", "Fn not found"),
        ("/t/unknown", "App not found"),
        ("/t/unknown/s", "App not found"),
        ("/t//s", "App not found"),
        ("/t/%ff/s", "App not found"),
        ("/t/a/unknown", "Trigger not found"),
        ("/t/a/s/", "Trigger not found"),
        ("/t/a//s", "Trigger not found"),
        ("/t/a/../a/s", "Trigger not found"),
        ("/t/a/S", "Trigger not found"),
        ("/t/a/%ff", "Trigger not found"),
        ("/t/a/%zz", "Trigger not found"),
        ("/t/a/lost", "Fn not found"),
    ] {
        let answer = node.post(path, &[], "x").await;
        answer.assert_error(404, message);
        assert!(!answer.headers.contains_key("fn-call-id"), "{path}");
    }
    assert_eq!(calls.count(), 0);
}

#[tokio::test]
async fn invoke_takes_only_post() {
    let (node, calls) = Node::answering(&[], "").await;
    for verb in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        for (path, shown) in [
            ("/invoke/f?q", "/invoke/f"),
            ("/invoke/%66%20\"", "/invoke/f \""),
        ] {
            let method = Method::from_bytes(verb.as_bytes()).expect("a token");
            let answer = node.send(request(method, path, &[], "")).await;
            answer.assert_error(405, &format!("Method not allowed: {verb} {shown}"));
            assert_eq!(answer.header("allow"), "POST");
        }
    }
    let head = node.send(request(Method::HEAD, "/invoke/f", &[], "")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (405, 0));
    assert_eq!(calls.count(), 0);
}

#[tokio::test]
async fn a_slash_behind_a_function_redirects_its_calls() {
    let (node, _) = Node::answering(&[], "").await;
    let answer = node.post("/invoke/%66/?a=b", &[], "x").await;
    assert_eq!(answer.status.as_u16(), 307);
    assert_eq!(answer.header("location"), "/invoke/%66?a=b");
    node.get("/invoke/f/")
        .await
        .assert_error(404, "Path not found: GET /invoke/f/");
    node.post("/invoke/f%2F", &[], "")
        .await
        .assert_error(404, "Path not found: POST /invoke/f/");
}

#[tokio::test]
async fn every_other_path_is_the_fallbacks() {
    let (node, _) = Node::answering(&[], "").await;
    for path in [
        "/",
        "/v2/apps?x=1",
        "/invoke",
        "/invoke/",
        "/invoke/f/g",
        "/t",
        "/t/",
        "/tt/a",
        "/v2/%ff",
    ] {
        let answer = node.get(path).await;
        assert_eq!(answer.body, format!("fallback GET {path}"));
    }
    assert!(!node.metrics().contains("fn_api_request_count{"));
}

#[tokio::test]
async fn the_escaped_path_is_the_path() {
    let (node, calls) = Node::answering(&[], "").await;
    for path in ["/t/a/s", "/t/a%2Fs", "/t/%61/%73", "/%74/a/s?q=/other"] {
        assert_eq!(node.get(path).await.status.as_u16(), 200, "{path}");
        calls.only();
    }
    for path in ["/t/a", "/t/a/", "/t/a?q"] {
        assert_eq!(node.get(path).await.status.as_u16(), 200, "{path}");
        calls.only();
    }
}

#[tokio::test]
async fn requests_and_answers_are_counted_by_template() {
    let (node, _) = Node::answering(&[("fn-fdk-version", "fdk-x/1")], "").await;
    node.post("/invoke/f", &[], "").await;
    node.post("/invoke/unknown", &[], "").await;
    node.get("/t/a").await;
    node.get("/t/a/s").await;
    node.get("/t/a/unknown").await;
    let text = node.metrics();
    let answers = "fn_api_response_count{path=";
    for line in [
        r#"fn_api_request_count{path="/invoke/:fn_id",method="POST"} 2"#.to_owned(),
        r#"fn_api_request_count{path="/t/:app_name",method="GET"} 1"#.to_owned(),
        r#"fn_api_request_count{path="/t/:app_name/*trigger_source",method="GET"} 2"#.to_owned(),
        format!(
            r#"{answers}"/invoke/:fn_id",method="POST",status="200",blame="",fn_fdk_version="fdk-x/1"}} 1"#
        ),
        format!(
            r#"{answers}"/invoke/:fn_id",method="POST",status="404",blame="user",fn_fdk_version=""}} 1"#
        ),
        format!(
            r#"{answers}"/t/:app_name/*trigger_source",method="GET",status="404",blame="user",fn_fdk_version=""}} 1"#
        ),
        r#"fn_lb_call_latency_count{call_status="completed"} 3"#.to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is missing in {text}");
    }
    // A look-up that fails is no call.
    assert!(text.contains(r#"fn_lb_call_latency_count{call_status="errors"} 0"#));
}
