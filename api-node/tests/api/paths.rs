//! Unknown paths, wrong verbs, final slashes and hostile bytes (spec/01 1.1).

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::Api;

#[tokio::test]
async fn unknown_paths_and_wrong_verbs() {
    let api = Api::start().await;
    for path in [
        "/ping",
        "/v2",
        "/v2/app",
        "/v2/apps/a/b",
        "/v2/fns/f/calls/c/log/x",
        "//v2/apps",
        "/v1/apps",
    ] {
        api.get(path)
            .await
            .refused(404, &format!("Path not found: GET {path}"));
    }
    let answer = api.send(Method::POST, "/nope?query=1", &[], "").await;
    answer.refused(404, "Path not found: POST /nope");
    for (method, path) in [
        (Method::PATCH, "/v2/apps"),
        (Method::PUT, "/v2/apps"),
        (Method::POST, "/v2/apps/a"),
        (Method::DELETE, "/v2/fns"),
        (Method::POST, "/v2/triggers/t"),
        (Method::POST, "/version"),
        (Method::PUT, "/v2/fns/f/calls"),
        (Method::POST, "/v2/calls/c"),
        (Method::DELETE, "/v2/calls"),
        (Method::POST, "/v2/runner/apps/a/triggerBySource/http//s"),
        (Method::from_bytes(b"BREW").expect("a token"), "/"),
    ] {
        let answer = api.send(method.clone(), path, &[], "").await;
        answer.refused(405, &format!("Method not allowed: {method} {path}"));
        assert!(
            answer.headers["allow"]
                .to_str()
                .is_ok_and(|allow| allow.contains('E')),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_final_slash_is_redirected() {
    let api = Api::start().await;
    let cases = [
        (Method::GET, "/v2/apps/", 301, "/v2/apps"),
        (
            Method::GET,
            "/v2/apps/?name=a&per_page=1",
            301,
            "/v2/apps?name=a&per_page=1",
        ),
        (Method::GET, "/version/", 301, "/version"),
        (Method::GET, "/v2/fns/f/calls/", 301, "/v2/fns/f/calls"),
        (Method::POST, "/v2/apps/", 307, "/v2/apps"),
        (Method::PUT, "/v2/apps/x/", 307, "/v2/apps/x"),
        (Method::DELETE, "/v2/fns/x%0d%0a/", 307, "/v2/fns/x%0d%0a"),
    ];
    for (method, path, status, location) in cases {
        let answer = api.send(method, path, &[], "").await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["location"], location);
    }
    api.get("//evil.example/")
        .await
        .refused(404, "Path not found: GET //evil.example/");
    api.get("/nope/")
        .await
        .refused(404, "Path not found: GET /nope/");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let api = Api::start().await;
    let id = api.app("a").await;
    for (path, status) in [
        ("/".to_owned(), 200),
        (format!("/v2/apps/{id}"), 200),
        ("/v2/apps/nope".to_owned(), 404),
    ] {
        let answer = api.send(Method::HEAD, &path, &[], "").await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (status, ""),
            "{path}"
        );
    }
}

#[tokio::test]
async fn ids_of_any_bytes() {
    let api = Api::start().await;
    for (id, message) in [
        ("a%2Fb", "App not found"),
        ("%C3%BC", "App not found"),
        ("..", "App not found"),
        ("'%22;--", "App not found"),
    ] {
        api.get(&format!("/v2/apps/{id}"))
            .await
            .refused(404, message);
    }
    for id in ["%ff", "%00", "a%00b", "%C3%28"] {
        let path = format!("/v2/apps/{id}");
        api.get(&path)
            .await
            .refused(404, &format!("Path not found: GET {path}"));
        api.send(Method::PUT, &path, &[], "{}")
            .await
            .refused(404, &format!("Path not found: PUT {path}"));
    }
    let long = "x".repeat(8000);
    api.get(&format!("/v2/fns/{long}"))
        .await
        .refused(404, "Fn not found");
}

#[tokio::test]
async fn raw_bytes_in_the_request_line_end_nothing() {
    let api = Api::start().await;
    let lines: [&[u8]; 7] = [
        b"GET /v2/apps/\xff\xfe HTTP/1.1",
        b"GET /v2/apps/\xc3\xbc HTTP/1.1",
        b"GET /v2/apps/%zz HTTP/1.1",
        b"GET /v2/apps/% HTTP/1.1",
        b"GET /v2/apps/a\x00b HTTP/1.1",
        b"GET * HTTP/1.1",
        b"CONNECT example.com:80 HTTP/1.1",
    ];
    for line in lines {
        let mut stream = TcpStream::connect(&api.address)
            .await
            .expect("a connection");
        let request = [line, b"\r\nHost: x\r\nConnection: close\r\n\r\n"].concat();
        stream.write_all(&request).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(
            ["400", "404", "405"].contains(&status),
            "{}: {answer}",
            String::from_utf8_lossy(line)
        );
        assert_eq!(api.get("/livez").await.status, 200);
    }
}
