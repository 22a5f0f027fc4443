//! A database that does not answer: 503 for the client, the reason in the log, with the request's id.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use api_node::rest::ApiSettings;
use http::Method;
use nodekit::http_server::Limits;
use nodekit::request_id::RequestIds;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::server::Api;

/// Log lines as they are written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, text: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = String::from_utf8_lossy(&bytes);
        lines
            .lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_database_that_another_process_holds() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole binary: a subscriber of this thread only would miss spans that another test's
    // thread reached first, because whether a span is enabled is remembered for all threads.
    tracing::subscriber::set_global_default(
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish(),
    )
    .expect("the only subscriber of this binary");
    let settings = ApiSettings {
        request_ids: RequestIds::new("x-rid").expect("a name"),
        ..ApiSettings::default()
    };
    let api = Api::start_with(settings, Limits::default()).await;
    api.app("before").await;
    let mut other = SqliteConnectOptions::new()
        .filename(&api.database)
        .connect()
        .await
        .expect("the file");
    let lock = other
        .begin_with("BEGIN IMMEDIATE")
        .await
        .expect("the write lock");

    let body = json!({"name": "a", "config": {"PASSWORD": "hunter2"}}).to_string();
    let answer = api
        .send(Method::POST, "/v2/apps", &[("x-rid", "rid-1")], body)
        .await;
    answer.refused(503, "Datastore unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(api.changes().len(), 1, "only the first app was told of");
    let lines = log.lines_with("rid=\"rid-1\"");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "ERROR",
        "StoreUnavailable",
        "rid=\"rid-1\"",
        "/v2/apps",
        "locked",
    ] {
        assert!(lines[0].contains(part), "{part} is missing in {lines:?}");
    }
    assert_eq!(log.lines_with("hunter2"), [""; 0]);

    lock.rollback().await.expect("the lock is given back");
    api.app("a").await;
    // Of this API: other tests have clients whose servers are gone.
    let mut errors = log.lines_with("ERROR");
    errors.retain(|line| line.contains("request{"));
    assert_eq!(
        errors, lines,
        "a success, or a refusal of another test, logs no error"
    );
}
