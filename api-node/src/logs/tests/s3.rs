//! What a store of logs on a server of S3 has to stand: outages, a bucket that is missing, and wrong
//! credentials.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::super::url::Target;
use super::super::{CallLogs, LogCursor, LogStore, LogStoreError, open};
use super::s3_server::{S3Server, SECRET};
use super::{Database, append, assert_unavailable, chunk, new_call, opened, read};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_and_passes() {
    let mut server = S3Server::start().await;
    let database = Database::sqlite().await;
    let logs = opened(&server.url("logs"), &database).await;
    let id = new_call();
    append(&logs, vec![chunk(&id, 1, 0, "before, ")]).await;

    server.stop().await;
    assert_unavailable(logs.append(vec![chunk(&id, 1, 8, "during, ")]).await);
    assert_unavailable(logs.read(&id).await);
    assert_unavailable(logs.read_from(&id, LogCursor::default()).await);
    assert_unavailable(logs.delete(std::slice::from_ref(&id)).await);
    assert_unavailable(logs.prune(u64::MAX >> 16, 1).await);

    server.resume().await;
    append(&logs, vec![chunk(&id, 1, 8, "during, ")]).await;
    append(&logs, vec![chunk(&id, 1, 16, "behind")]).await;
    let log = read(&logs, &id).await;
    assert_eq!(log.as_deref(), Some("before, during, behind"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_need_the_server() {
    let mut server = S3Server::start().await;
    let database = Database::sqlite().await;
    server.stop().await;
    let logs = opened(&server.url("logs"), &database).await;
    let id = new_call();
    assert_unavailable(logs.append(vec![chunk(&id, 1, 0, "x")]).await);
    server.resume().await;
    append(&logs, vec![chunk(&id, 1, 0, "x")]).await;
    assert_eq!(read(&logs, &id).await.as_deref(), Some("x"));
}

/// The clock is held: it moves on by itself whenever everything waits.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_not_waited_for() {
    // It takes connections, and nobody answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let silent = silent.expect("a port on loopback");
    let address = silent.local_addr().expect("its address");
    let url = format!("s3://key:hunter2@{address}/us-east-1/logs?ssl=false");
    let Ok(Target::S3(target)) = Target::parse(&url) else {
        panic!("{url} names a bucket");
    };
    let parts = super::super::s3::open(&target).await.expect("it opens");
    let logs: Arc<dyn LogStore> = Arc::new(CallLogs::new(Arc::new(parts)));
    let id = new_call();
    assert_unavailable(logs.append(vec![chunk(&id, 1, 0, "x")]).await);
    assert_unavailable(logs.read(&id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_missing_is_created_at_the_start_and_later() {
    let server = S3Server::start().await;
    let database = Database::sqlite().await;
    let bucket = server.directory.path().join("logs");
    let url = server.url_with("eu-central-1", "logs", "hunter2%2F%2B%40");
    let logs = opened(&url, &database).await;
    assert!(bucket.is_dir());
    // Another node finds it there.
    opened(&url, &database).await;

    fs::remove_dir_all(&bucket).expect("the bucket is lost");
    let id = new_call();
    append(&logs, vec![chunk(&id, 1, 0, "x"), chunk(&id, 2, 0, "y")]).await;
    assert_eq!(read(&logs, &id).await.as_deref(), Some("xy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_end_the_start_and_are_not_shown() {
    let server = S3Server::start().await;
    let database = Database::sqlite().await;
    let url = server.url_with("us-east-1", "logs", "hunter2-wrong");
    let error = match open(&url, database.store.clone()).await {
        Ok(_) => panic!("it must not open"),
        Err(error) => error,
    };
    assert!(matches!(error, LogStoreError::Bucket { .. }), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(
        shown.starts_with("failed to create bucket logs: 403"),
        "{shown}"
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains(SECRET),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_for_tls_gets_nothing_else() {
    let server = S3Server::start().await;
    let database = Database::sqlite().await;
    let url = server.url("logs").replace("ssl=false", "ssl=true");
    let logs = opened(&url, &database).await;
    let id = new_call();
    assert_unavailable(logs.append(vec![chunk(&id, 1, 0, "x")]).await);
    let buckets = fs::read_dir(server.directory.path()).expect("the buckets");
    assert_eq!(buckets.count(), 0);
}
