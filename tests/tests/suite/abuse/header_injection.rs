//! Functions whose headers try to become more than headers.

use hearth_tests::{Deployed, Server, raw};
use serde_json::json;

/// What must never be seen by a client: each attempt tries to make it a header or an answer.
const EVIL: [&str; 3] = ["\r\nevil:", "\r\nEvil:", "\nHTTP/1.1 666"];

/// Makes the call with `knobs`, and behind it on the same connection a good one. Whatever the first
/// one is answered, or when the server ends the connection, nobody is told what the function wants.
async fn attempt(server: &Server, path: &str, good: &str, knobs: &str) {
    let first = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{knobs}",
        knobs.len()
    );
    let second = format!(
        "POST {good} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let answers = raw::exchange(&server.client, format!("{first}{second}").as_bytes()).await;
    for evil in EVIL {
        assert!(!answers.contains(evil), "{knobs}: {answers}");
    }
    let count = answers.matches("HTTP/1.1 ").count();
    assert_eq!(count, 2, "{knobs}: {answers}");
    assert!(
        answers.contains("\"data\""),
        "the good call is answered: {answers}"
    );
}

#[tokio::test]
async fn a_functions_headers_end_where_their_lines_end() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "injects", json!({})).await;
    let app_name = "injects";
    let trigger = func.trigger(app_name, "/it").await;
    func.call_json(json!({})).await.expect(200);
    let start = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n";
    for header in [
        // Line ends that are none to a strict reader, and must not become one to a lenient one.
        "X-A: a\rEvil: 1\r\n",
        "X-A: a\nHTTP/1.1 666 Evil\r\n",
        "X-A: a\r\r\nEvil : 1\r\n",
        "X-A: a\0\r\nFn-Http-H-X: \0\r\n",
        "X-A: a\u{b}Evil: 1\r\n",
        "X-A: a\u{85}Evil: 1\r\n",
        "X-A: a\u{2028}Evil: 1\r\n",
        "X-A: a\r\n Evil: 1\r\n",
        // Through the gate of triggers, where names are cut.
        "Fn-Http-H-: a\r\nFn-Http-H- Evil: 1\r\n",
        "Fn-Http-H-X\rEvil: 1\r\n",
        "Fn-Http-H-X: a\rEvil: 1\r\n",
        "Fn-Http-H-Content-Length: 99\r\nFn-Http-H-Transfer-Encoding: chunked\r\n",
        "Fn-Http-H-Connection: evil\r\nFn-Http-H-Content-Length: 0\r\n",
        "Fn-Http-Status: 200 OK\r\nFn-Http-Status: 666 Evil\r\n",
        "Fn-Http-Status: 99999999999999999999\r\n",
        "Fn-Http-H-Fn-Http-H-Evil-X: 1\r\n",
    ] {
        let knobs = json!({ "script": ["readBody", { "text": format!("{start}{header}\r\nhi") }] })
            .to_string();
        for path in [&func.path, &trigger] {
            attempt(&server, path, &func.path, &knobs).await;
        }
    }
    for misbehaviour in [
        "triggerInjection",
        "connectionNames",
        "hopByHop",
        "foldedHeader",
        "spaceBeforeColon",
        "spaceInHeaderName",
        "emptyHeaderName",
        "nulInHeader",
        "carriageReturnInHeader",
        "bytesInHeader",
        "doubleLength",
        "bothFramings",
        "trailers",
    ] {
        let knobs = json!({ "misbehave": misbehaviour }).to_string();
        for path in [&func.path, &trigger] {
            attempt(&server, path, &func.path, &knobs).await;
        }
    }
    // Values that JSON can say and no header can.
    for value in [
        "a\r\nEvil: 1",
        "a\nEvil: 1",
        "a\r\n\r\nHTTP/1.1 666 Evil",
        "\0",
        "\u{7f}",
        "é",
    ] {
        let knobs = json!({ "returnHeaders": { "X-A": [value] } }).to_string();
        let answer = func.call(knobs.clone()).await;
        // Here the function itself writes the line ends: they are headers of its own.
        assert!(
            matches!(answer.status.as_u16(), 200 | 502),
            "{knobs}: {answer:?}"
        );
    }
    func.call_json(json!({})).await.expect(200);
}
