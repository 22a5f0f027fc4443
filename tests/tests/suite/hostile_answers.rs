//! Whatever a function writes to its socket, its caller gets an answer, the server lives on, and the
//! next call gets its own answer (spec/13 13.8).

use std::time::Duration;

use hearth_tests::{Answer, Deployed, Server, eventually};
use serde_json::{Value, json};
use tokio::time::timeout;

const LIMITS: &[(&str, &str)] = &[
    ("FN_MAX_RESPONSE_SIZE", "2048"),
    ("FN_MAX_HDR_RESPONSE_SIZE", "4096"),
];

/// What the caller must see.
#[derive(Debug, Clone, Copy)]
enum Seen {
    /// 200 with this body.
    Body(&'static str),
    /// 502 with this message.
    Error(&'static str),
    /// 504.
    TimedOut,
    /// 200 with this body, or a 502: what a parser makes of it is its own business.
    BodyOrError(&'static str),
}

use Seen::{Body, BodyOrError, Error, TimedOut};

const LOST: Seen = Error("error receiving function response");
const INVALID: Seen = Error("invalid function response");
const LONG_HEADER: Seen = Error("function response header too large");
const LONG_BODY: Seen = Error("function response body too large");

fn check(what: &str, seen: Seen, answer: &Answer) {
    let (status, text) = (answer.status.as_u16(), answer.text());
    let told = |message: &str| format!("{{\"message\":\"{message}\"}}\n");
    let good = match seen {
        Body(body) => status == 200 && text == body,
        Error(message) => status == 502 && text == told(message),
        TimedOut => status == 504 && text == told("Timed out"),
        BodyOrError(body) => (status == 200 && text == body) || status == 502,
    };
    assert!(good, "{what}: {seen:?}: {answer:?}");
    assert_eq!(
        answer.header("fn-call-id").map(str::len),
        Some(26),
        "{what}"
    );
}

/// Does each in turn, each followed by a good call.
async fn one_after_the_other(name: &str, cases: &[(&str, Value, Seen)]) {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, name, json!({ "timeout": 2 })).await;
    for (what, knobs, seen) in cases {
        let answer = timeout(Duration::from_secs(20), func.call_json(knobs.clone())).await;
        check(what, *seen, &answer.expect("an answer in time"));
        let answer = func
            .call_json(json!({ "echoContent": what }))
            .await
            .expect(200);
        assert_eq!(answer.json()["request"]["echoContent"], *what);
        assert_eq!(
            answer.json()["header"]["Fn-Call-Id"][0],
            answer.header("fn-call-id").expect("an id")
        );
    }
}

async fn by_name(name: &str, cases: &[(&str, Seen)]) {
    let cases: Vec<_> = cases
        .iter()
        .map(|&(what, seen)| (what, json!({ "misbehave": what }), seen))
        .collect();
    one_after_the_other(name, &cases).await;
}

#[tokio::test]
async fn answers_that_end_in_the_middle() {
    by_name(
        "ends",
        &[
            ("closeWithoutAnswer", LOST),
            ("crashInHead", LOST),
            ("crashInBody", LOST),
            ("exitInBody", LOST),
            ("closeInBody", LOST),
            ("closeInChunk", LOST),
            ("closeBetweenChunks", LOST),
            ("holdInBody", TimedOut),
            ("holdWithoutAnswer", TimedOut),
        ],
    )
    .await;
}

/// A call may meet a function that is just ending: it was sent, so it is not sent again.
#[tokio::test]
async fn a_function_that_ends_after_its_answer_is_replaced() {
    let server = Server::start(LIMITS).await;
    let func = Deployed::test_function(&server.client, "ends-after", json!({ "timeout": 2 })).await;
    let answer = func
        .call_json(json!({ "misbehave": "exitAfterAnswer" }))
        .await;
    check("exitAfterAnswer", Body("hi"), &answer);
    eventually("another container answers", async || {
        let answer = func.call_json(json!({ "echoContent": "next" })).await;
        if answer.status != 200 {
            check("the next call", LOST, &answer);
            return None;
        }
        assert_eq!(answer.json()["request"]["echoContent"], "next");
        Some(())
    })
    .await;
}

#[tokio::test]
async fn answers_that_are_not_http() {
    by_name(
        "nothttp",
        &[
            ("notHttp", LOST),
            ("binary", LOST),
            ("http09", LOST),
            ("http10", BodyOrError("hi")),
            ("badStatusLine", LOST),
            ("statusZero", LOST),
            ("status999", INVALID),
            ("status204WithBody", INVALID),
            ("status304", INVALID),
            ("informational", Body("hi")),
            ("informationalOnly", TimedOut),
            ("switchingProtocols", INVALID),
        ],
    )
    .await;
}

#[tokio::test]
async fn answers_whose_length_is_a_lie() {
    by_name(
        "lengths",
        &[
            ("doubleLength", LOST),
            ("bothFramings", BodyOrError("hi")),
            ("negativeLength", LOST),
            ("hugeLength", LOST),
            ("badChunkSize", LOST),
            ("hugeChunkSize", LOST),
            ("unknownEncoding", BodyOrError("uv")),
            ("trailers", Body("hi")),
            ("untilClose", Body("hi")),
            ("noHeaders", Body("")),
            ("extraBytes", Body("hi")),
            ("extraAnswer", Body("hi")),
            ("garbageOnStdout", Body("hi")),
        ],
    )
    .await;
}

#[tokio::test]
async fn headers_that_no_server_would_send() {
    by_name(
        "headers",
        &[
            ("emptyHeaderName", LOST),
            ("spaceInHeaderName", LOST),
            ("spaceBeforeColon", BodyOrError("hi")),
            ("foldedHeader", BodyOrError("hi")),
            ("nulInHeader", LOST),
            ("carriageReturnInHeader", LOST),
            ("bytesInHeader", Body("hi")),
            ("bareLf", BodyOrError("hi")),
            ("connectionClose", Body("hi")),
            ("connectionCloseButOpen", Body("hi")),
        ],
    )
    .await;
}

#[tokio::test]
async fn more_than_is_allowed() {
    by_name(
        "too-much",
        &[
            ("hugeHeader", LONG_HEADER),
            ("hugeHeaderName", LONG_HEADER),
            ("endlessHeader", LONG_HEADER),
            ("manyHeaders", LONG_HEADER),
            ("endlessHeaders", LONG_HEADER),
            ("hugeBody", LONG_BODY),
            ("hugeChunkedBody", LONG_BODY),
            ("endlessBody", LONG_BODY),
        ],
    )
    .await;
}

/// A server without limits of its own still has the built-in one for headers.
#[tokio::test]
async fn headers_without_end_are_cut_off_by_default() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "defaults", json!({ "timeout": 20 })).await;
    for endless in ["endlessHeader", "endlessHeaders"] {
        check(
            endless,
            LONG_HEADER,
            &func.call_json(json!({ "misbehave": endless })).await,
        );
    }
    // A thousand small ones, and one of half a megabyte, fit.
    for fitting in [
        json!({ "misbehave": "manyHeaders" }),
        json!({ "misbehave": "hugeHeader", "size": 300_000 }),
    ] {
        assert_eq!(
            func.call_json(fitting.clone()).await.status.as_u16() / 100 % 3,
            2,
            "{fitting}"
        );
    }
    func.call_json(json!({})).await.expect(200);
}

/// Bytes and names that end up in the client's own head.
#[tokio::test]
async fn headers_of_any_bytes_pass_or_fail_and_split_nothing() {
    let answer = |header: &str| {
        format!(
            "HTTP/1.1 200 OK\r\n{header}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
        )
    };
    let script = |header: &str| json!({ "script": ["readBody", { "text": answer(header) }] });
    let cases = [
        (
            "a name of the platform",
            script("Fn-Call-Id: forged"),
            Body("hi"),
        ),
        (
            "a length of the client's connection",
            script("X-A: 1\r\nConnection: content-length"),
            Body("hi"),
        ),
        (
            "an encoding of the client's connection",
            script("Transfer-Encoding: chunked, identity"),
            TimedOut,
        ),
        (
            "a hundred cookies",
            script(
                &"Set-Cookie: a=b\r\n"
                    .repeat(90)
                    .trim_end()
                    .replace("a=b", "a=bc"),
            ),
            Body("hi"),
        ),
        (
            "a name with all signs",
            script("!#$%&'*+-.^_`|~0aZ: v"),
            Body("hi"),
        ),
        (
            "bytes above ASCII",
            script("X-Bytes: äöü\u{7f}é"),
            BodyOrError("hi"),
        ),
        ("an empty value", script("X-Empty:"), Body("hi")),
        (
            "a status line in a header",
            script("X-A: HTTP/1.1 200 OK"),
            Body("hi"),
        ),
        (
            "a status no client has",
            script("Fn-Http-Status: 99999"),
            Body("hi"),
        ),
        (
            "a date that is none",
            script("Date: never\r\nServer: me\r\nVia: x"),
            Body("hi"),
        ),
    ];
    one_after_the_other("bytes", &cases).await;
}

/// What comes while no call runs belongs to nobody.
#[tokio::test]
async fn a_second_answer_is_nobodys() {
    let server = Server::start(&[("FN_FREEZE_IDLE_MSECS", "-1")]).await;
    let func = Deployed::test_function(&server.client, "twice", json!({})).await;
    for round in 1..=2 {
        let answer = func
            .call_json(json!({ "misbehave": "answerTwiceSlowly" }))
            .await
            .expect(200);
        assert_eq!(answer.text(), "hi");
        eventually("the second answer is written", async || {
            (server.log_text().matches("\"EndOfLogs\"").count() >= 2 * round - 1).then_some(())
        })
        .await;
        let answer = func.call_json(json!({})).await.expect(200);
        let id = answer.header("fn-call-id").expect("an id");
        assert_eq!(answer.json()["header"]["Fn-Call-Id"][0], id);
        eventually("the good call is logged", async || {
            (server.log_text().matches("\"EndOfLogs\"").count() >= 2 * round).then_some(())
        })
        .await;
    }
}

/// The same through a trigger, which renames headers and takes over a status.
#[tokio::test]
async fn a_triggers_answer_splits_nothing_either() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "app", json!({ "timeout": 2 })).await;
    let path = func.trigger("app", "/hostile").await;
    let long = format!("Fn-Http-H-{}: v", "x".repeat(70_000));
    for (header, status) in [
        ("Fn-Http-H-: v", 200),
        ("Fn-Http-H-!#$%&'*+-.^_`|~: v", 200),
        ("Fn-Http-H-Date: never", 200),
        ("Fn-Http-H-Content-Length: 1", 200),
        ("Fn-Http-H-Transfer-Encoding: gzip", 200),
        ("Fn-Http-H-Connection: content-type", 200),
        ("Fn-Http-H-Trailer: X\r\nFn-Http-H-Upgrade: h2c", 200),
        ("Fn-Http-H-Content-Type: a/b", 200),
        ("Fn-Http-Status: ", 200),
        ("Fn-Http-Status: abc", 200),
        ("Fn-Http-Status: -200", 200),
        ("Fn-Http-Status: 201 Created", 200),
        ("Fn-Http-Status: 0201", 201),
        ("Fn-Http-Status: 0", 200),
        ("Fn-Http-Status: 99", 502),
        ("Fn-Http-Status: 100", 502),
        ("Fn-Http-Status: 1000", 502),
        ("Fn-Http-Status: 99999999999999999999999", 502),
        // A name that no client's library would take, which the runner's does not take either.
        (long.as_str(), 502),
    ] {
        let text = format!(
            "HTTP/1.1 200 OK\r\n{header}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
        );
        let script = json!({ "script": ["readBody", { "text": text }] }).to_string();
        let answer = server.client.post(&path, script).await;
        assert_eq!(answer.status, status, "{header:.60}: {answer:?}");
        if status < 300 {
            assert_eq!(answer.text(), "hi", "{header:.60}");
        }
        for gone in ["connection", "upgrade", "trailer", "transfer-encoding"] {
            assert_eq!(answer.header(gone), None, "{header:.60}");
        }
        let answer = server
            .client
            .post(&path, r#"{"echoContent":"mine"}"#)
            .await
            .expect(200);
        assert_eq!(
            answer.json()["request"]["echoContent"],
            "mine",
            "{header:.60}"
        );
    }
}
