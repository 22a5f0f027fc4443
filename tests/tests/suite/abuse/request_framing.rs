//! Requests that two readers may read in two ways: nothing hides in them, on the way to a function
//! that really runs (RFC 9112).

use hearth_tests::{Deployed, Server, eventually, functions, raw};
use serde_json::{Value, json};

/// The status of each answer in what came back.
fn statuses(text: &str) -> Vec<&str> {
    text.match_indices("HTTP/1.1 ")
        .filter_map(|(at, found)| text.get(at + found.len()..at + found.len() + 3))
        .collect()
}

async fn calls(server: &Server) -> f64 {
    server.metric("fn_calls").await.expect("a counter")
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_reaches_no_function() {
    let server = Server::start(&[]).await;
    let func = Deployed::new(&server.client, "echo", &functions::image("echo"), json!({})).await;
    func.call("warm").await.expect(200);
    let before = calls(&server).await;
    let path = &func.path;
    let hidden = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    let length = hidden.len();
    for head in [
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: -{length}\r\n"),
        format!("Content-Length: 0x{length:x}\r\n"),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length: {length}\n"),
        "Content-Length: \r\n".to_owned(),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: \"chunked\"\r\n".to_owned(),
        "Transfer-Encoding: chunked;q=1\r\n".to_owned(),
        "Transfer-Encoding:\x0bchunked\r\n".to_owned(),
        "Transfer-Encoding:\r\n chunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Transfer-Encoding\t: chunked\r\n".to_owned(),
        " Transfer-Encoding: chunked\r\n".to_owned(),
        "X: a\r\n Transfer-Encoding: chunked\r\n".to_owned(),
        "X: a\rTransfer-Encoding: chunked\r\n".to_owned(),
        "X: a\nTransfer-Encoding: chunked\r\n".to_owned(),
        "X: a\0b\r\n".to_owned(),
        "X\0: a\r\n".to_owned(),
        "X a: b\r\n".to_owned(),
        "\u{e9}: b\r\n".to_owned(),
        ": a\r\n".to_owned(),
        "no colon\r\n".to_owned(),
    ] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{head}\r\n{hidden}");
        let answers = raw::exchange(&server.client, request.as_bytes()).await;
        assert_eq!(statuses(&answers), ["400"], "{head:?}: {answers}");
    }
    for line in [
        format!("POST {path} HTTP/1.1\nHost: h\n\n{hidden}"),
        format!("POST {path} HTTP/1.1\rHost: h\r\n\r\n{hidden}"),
        format!("POST {path}\r\n\r\n{hidden}"),
        format!("POST {path} HTTP/3.0\r\nHost: h\r\n\r\n{hidden}"),
        format!("POST  {path} HTTP/1.1\r\nHost: h\r\n\r\n{hidden}"),
        format!("POST {path}\0 HTTP/1.1\r\nHost: h\r\n\r\n{hidden}"),
        format!("POST {path} x HTTP/1.1\r\nHost: h\r\n\r\n{hidden}"),
        format!(" POST {path} HTTP/1.1\r\nHost: h\r\n\r\n{hidden}"),
    ] {
        let answers = raw::exchange(&server.client, line.as_bytes()).await;
        assert_eq!(statuses(&answers), ["400"], "{line:?}: {answers}");
    }
    assert_eq!(calls(&server).await, before, "a function was called");
    func.call("after").await.expect(200);
}

#[tokio::test]
async fn a_chunked_body_that_breaks_takes_nothing_with_it() {
    let server = Server::start(&[]).await;
    let func = Deployed::new(&server.client, "echo", &functions::image("echo"), json!({})).await;
    func.call("warm").await.expect(200);
    let path = &func.path;
    let hidden = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    for body in [
        "10000000000000000\r\n",
        "-1\r\n",
        "0x1\r\n",
        "1 1\r\n",
        "g\r\n",
        "\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "0\r\nX: 1\n\r\n",
    ] {
        let before = calls(&server).await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}{hidden}"
        );
        let answers = raw::exchange(&server.client, request.as_bytes()).await;
        assert_eq!(statuses(&answers), ["400"], "{body:?}: {answers}");
        // The call itself may have begun; the hidden one has not.
        assert!(calls(&server).await <= before + 1.0, "{body:?}");
        func.call("after").await.expect(200);
    }
}

#[tokio::test]
async fn what_has_one_reading_is_one_call_and_the_next_request_is_served() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "exact", json!({})).await;
    func.call_json(json!({})).await.expect(200);
    let path = &func.path;
    for (first, body_length) in [
        (
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
            "5",
        ),
        (
            format!("\r\nPOST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
            "0",
        ),
        (
            format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\ntransfer-encoding:Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
            "5",
        ),
        (
            format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n005;a=\"b\";c\r\nhello\r\n0;x\r\n\r\n"
            ),
            "5",
        ),
        (
            format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: t\r\nContent-Length: 99\r\n\r\n"
            ),
            "5",
        ),
        (
            format!(
                "POST http://elsewhere.invalid{path} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
            ),
            "5",
        ),
        (
            format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: X-Secret, content-length, fn-call-id\r\nX-Secret: s\r\n\r\nhello"
            ),
            "5",
        ),
    ] {
        let before = calls(&server).await;
        let second = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nX-Second: yes\r\nConnection: close\r\n\r\ngoodbye"
        );
        let mut connection = raw::Connection::open(&server.client).await;
        connection
            .try_send(format!("{first}{second}").as_bytes())
            .await
            .expect("sent");
        let (head, one) = connection.answer().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{first:?}: {head}");
        let one: Value = serde_json::from_slice(&one).expect("the function's JSON");
        assert_eq!(one["data"]["bodyLength"], body_length, "{first:?}: {one}");
        for absent in [
            "X-Second",
            "X-Secret",
            "X-Trailer",
            "Trailer",
            "Connection",
            "Content-Length",
        ] {
            assert!(
                one["header"].get(absent).is_none(),
                "{first:?}: {absent}: {one}"
            );
        }
        let (head, two) = connection.answer().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{first:?}: {head}");
        let two: Value = serde_json::from_slice(&two).expect("the function's JSON");
        assert_eq!(
            (&two["data"]["bodyLength"], &two["header"]["X-Second"]),
            (&json!("7"), &json!(["yes"]))
        );
        assert_eq!(connection.rest().await, "", "{first:?}");
        assert_eq!(calls(&server).await, before + 2.0, "{first:?}");
    }
}

#[tokio::test]
async fn input_that_a_function_leaves_unread_is_nobodys_request() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "unread", json!({})).await;
    func.call_json(json!({})).await.expect(200);
    let path = &func.path;
    let hidden =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-Hidden: yes\r\nContent-Length: 0\r\n\r\n");
    for misbehaviour in ["answerBeforeInput", "answerAndClose"] {
        let before = calls(&server).await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nTest-Knobs: {{\"misbehave\":\"{misbehaviour}\"}}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{hidden}",
            hidden.len()
        );
        let answers = raw::exchange(&server.client, request.as_bytes()).await;
        assert_eq!(statuses(&answers), ["200"], "{misbehaviour}: {answers}");
        assert_eq!(calls(&server).await, before + 1.0, "{misbehaviour}");
        // A function that closes without notice may cost the call that is sent in this instant.
        let next = eventually("the function is called again", async || {
            let answer = func.call_json(json!({})).await;
            (answer.status == 200).then(|| answer.json())
        })
        .await;
        assert!(
            next["header"].get("X-Hidden").is_none(),
            "{misbehaviour}: {next}"
        );
    }
}
