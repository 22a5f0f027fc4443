//! The logs of functions on their way to a syslog server (spec/13 13.6).

use hearth_tests::eventually::PATIENCE;
use hearth_tests::{Deployed, Server, functions};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;

async fn deploy(server: &Server, syslog_url: &str) -> Deployed {
    let app = json!({ "name": "logs", "syslog_url": syslog_url });
    let app = server
        .client
        .post("/v2/apps", app.to_string())
        .await
        .expect(200)
        .json();
    let image = functions::image("test-function");
    Deployed::in_app(
        &server.client,
        &app,
        "logs",
        &image,
        json!({ "memory": 64 }),
    )
    .await
}

/// Whether this is `text`, as `func` has written it to stderr:
/// `<11>1 TIME HOST app_id=…,fn_id=… PID app_id=…,fn_id=… - text`.
fn is_line(line: &str, func: &Deployed, text: &str) -> bool {
    let tag = format!("app_id={},fn_id={}", func.app_id, func.fn_id);
    let fields: Vec<&str> = line.trim_end().splitn(8, ' ').collect();
    let [priority, time, host, name, process, id, structured, message] = fields[..] else {
        return false;
    };
    assert_eq!(
        (name, id, structured),
        (tag.as_str(), tag.as_str(), "-"),
        "{line}"
    );
    assert!(
        time.contains('T') && !host.is_empty() && process.parse::<u32>().is_ok(),
        "{line}"
    );
    priority == "<11>1" && message == text
}

#[tokio::test]
async fn lines_arrive_over_udp() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::start(&[]).await;
    let func = deploy(
        &server,
        &format!("udp://{}", socket.local_addr().expect("it is bound")),
    )
    .await;
    func.call_json(json!({})).await.expect(200);
    let mut buffer = [0; 4096];
    let arrived = timeout(PATIENCE, async {
        for text in ["BeginOfLogs", "EndOfLogs"] {
            loop {
                let length = socket.recv(&mut buffer).await.expect("a packet");
                if is_line(&String::from_utf8_lossy(&buffer[..length]), &func, text) {
                    break;
                }
            }
        }
    });
    arrived.await.expect("both lines");
    // What goes to the server's log is not doubled there.
    assert!(!server.log_text().contains("\"BeginOfLogs\""));
}

#[tokio::test]
async fn lines_arrive_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::start(&[]).await;
    let func = deploy(
        &server,
        &format!("tcp://{}", listener.local_addr().expect("it is bound")),
    )
    .await;
    let called = func.clone();
    let call = tokio::spawn(async move { called.call_json(json!({})).await });
    let arrived = timeout(PATIENCE, async {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut lines = BufReader::new(stream).lines();
        for text in ["BeginOfLogs", "EndOfLogs"] {
            loop {
                let line = lines
                    .next_line()
                    .await
                    .expect("a line")
                    .expect("more lines");
                if is_line(&line, &func, text) {
                    break;
                }
            }
        }
    });
    arrived.await.expect("both lines");
    call.await.expect("no panic").expect(200);
}

#[tokio::test]
async fn a_syslog_server_that_cannot_be_reached_is_an_error() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("it is bound")
    };
    let server = Server::start(&[]).await;
    let func = deploy(&server, &format!("tcp://{address}")).await;
    func.call_json(json!({}))
        .await
        .is_error(500, "Syslog Unavailable");
    assert_eq!(server.containers(), [""; 0]);
    // Without it, the same function works.
    let path = format!("/v2/apps/{}", func.app_id);
    server
        .client
        .put(&path, json!({ "syslog_url": "" }).to_string())
        .await
        .expect(200);
    func.call_json(json!({})).await.expect(200);
}
