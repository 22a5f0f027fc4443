//! Paths, ids, headers and whole requests of any bytes and length: the server lives, and says nothing
//! that is its own fault.

use std::time::Duration;

use hearth_tests::{Deployed, Server, functions, raw};
use serde_json::json;
use tokio::time::timeout;

/// Rounds of made-up requests.
const ROUNDS: usize = 400;
const SEED: u64 = 0x5eed_0fab_adc0_de01;

/// Numbers that are always the same ones (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    fn one_of<'a>(&mut self, all: &[&'a [u8]]) -> &'a [u8] {
        all[self.below(all.len())]
    }
}

/// A request that is mostly in order, with pieces of any bytes.
fn made_up(numbers: &mut Numbers, path: &str) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"/",
        b"/v2/apps/",
        b"/v2/fns?app_id=",
        b"/invoke/",
        b"/t/",
        b"%00",
        b"%2e%2e/",
        b"..",
        b"?",
        b"#",
        b"\xff\xfe",
        b"%zz",
        b"\xc3\x28",
        b"&",
        b"=",
        b"name=",
    ];
    const NAMES: [&[u8]; 10] = [
        b"X-Any",
        b"Content-Type",
        b"Fn-Invoke-Type",
        b"Fn-Call-Id",
        b"traceparent",
        b"Expect",
        b"Upgrade",
        b"Cookie",
        b"Accept-Encoding",
        b"Origin",
    ];
    const METHODS: [&[u8]; 8] = [
        b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"BREW",
    ];
    let mut request = numbers.one_of(&METHODS).to_vec();
    request.push(b' ');
    if numbers.below(3) == 0 {
        request.extend_from_slice(path.as_bytes());
    }
    for _ in 0..numbers.below(6) {
        request.extend_from_slice(numbers.one_of(&PIECES));
        let any = numbers.bytes(12);
        request.extend(
            any.iter()
                .filter(|byte| numbers.0 & 1 == 0 || byte.is_ascii_graphic()),
        );
    }
    request.extend_from_slice(b" HTTP/1.1\r\nHost: h\r\n");
    for _ in 0..numbers.below(5) {
        request.extend_from_slice(numbers.one_of(&NAMES));
        request.extend_from_slice(b": ");
        let any = numbers.bytes(40);
        request.extend(any.iter().filter(|byte| !byte.is_ascii_control()));
        request.extend_from_slice(b"\r\n");
    }
    let body = numbers.bytes(200);
    request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    request.extend_from_slice(b"Connection: close\r\n\r\n");
    request.extend_from_slice(&body);
    request
}

/// Sends bytes and hangs up when all are sent; the answer, if there is one, is no server's fault.
async fn throw(server: &Server, bytes: &[u8]) {
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    let thrown = raw::throw(&server.client, bytes);
    let answer = timeout(Duration::from_secs(30), thrown).await;
    assert!(answer.is_ok(), "no end of {:?}", shown());
    let answer = answer.unwrap_or_default();
    let fault = answer.starts_with("HTTP/1.1 5");
    assert!(!fault, "{:?}: {answer}", shown());
}

#[tokio::test]
async fn whatever_a_client_sends_the_server_lives() {
    let server = Server::start(&[("FN_LOG_LEVEL", "info")]).await;
    let func = Deployed::new(&server.client, "echo", &functions::image("echo"), json!({})).await;
    let trigger = func.trigger("echo", "/any").await;
    func.call("warm").await.expect(200);

    let long = "x".repeat(60_000);
    for path in [
        "",
        "*",
        "/",
        "//",
        "/%",
        "/%00",
        "/%ff",
        "/\u{e9}",
        "/..",
        "/../../etc/passwd",
        "/v2/apps/%00",
        "/v2/apps/..%2f..",
        "/v2/fns/%F0%28%8C%BC",
        "/v2/fns?app_id=%00&name=%ff",
        "/v2/apps?cursor=%ff",
        "/v2/apps?per_page=99999999999999999999",
        "/invoke/",
        "/invoke//",
        "/invoke/%00",
        "/invoke/%2e%2e",
        "/invoke/\u{202e}",
        "/t/",
        "/t//",
        "/t/%2f/%2f",
        "/t/echo/any/..",
        "/t/echo/%61ny",
        "/t/echo/any?\u{ff}",
        "http:///",
        "http://[::1",
        "http://h:99999/",
        "ftp://h/",
        "?",
        "#",
        "/v2/triggers?source=%",
    ] {
        for method in [
            "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "X-\u{e9}",
        ] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            throw(&server, request.as_bytes()).await;
        }
    }
    for path in [
        format!("/v2/apps/{long}"),
        format!("/invoke/{long}"),
        format!("/t/{long}/{long}"),
        format!("{trigger}?{long}"),
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        throw(&server, request.as_bytes()).await;
    }
    for header in [
        format!("X: {long}"),
        format!("{long}: x"),
        "X-A: b\r\n".repeat(2000),
        "Host: a\r\nHost: b".to_owned(),
        "Host: \u{e9}\u{0}".to_owned(),
        "Expect: 100-continue".to_owned(),
        "Expect: x".to_owned(),
        "Upgrade: h2c\r\nConnection: upgrade".to_owned(),
        "Fn-Invoke-Type: detached\u{7f}".to_owned(),
        "Fn-Call-Id: x".to_owned(),
        "Fn-Deadline: never".to_owned(),
        "traceparent: 00-\u{ff}".to_owned(),
        "Content-Type: \u{ff}\u{fe}".to_owned(),
        "Content-Encoding: gzip".to_owned(),
        "Fn-Http-H-: x".to_owned(),
    ] {
        for path in [&func.path, &trigger] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\n{header}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
            );
            throw(&server, request.as_bytes()).await;
        }
    }
    func.call("after the table").await.expect(200);

    let mut numbers = Numbers(SEED);
    for round in 0..ROUNDS {
        let request = if round % 4 == 0 {
            numbers.bytes(600)
        } else {
            made_up(&mut numbers, &func.path)
        };
        throw(&server, &request).await;
    }
    assert_eq!(func.call("after").await.expect(200).text(), "after");
    assert!(
        !server.log_text().contains("panicked"),
        "a handler panicked"
    );
}
