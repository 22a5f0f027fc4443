//! One suite for every store of logs, run on SQLite, a real PostgreSQL, a directory and a server of
//! S3; and what each of them has to stand by itself.

mod contract;
mod directory;
mod s3;
mod s3_server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::call::LeaseRef;
use domain::{CallId, ErrorCode, IdSource};
use hybrid_client::LogChunk;
use tempfile::TempDir;
use tokio::time::timeout;

use self::s3_server::S3Server;
use super::{LogCursor, LogStore, open};
use crate::store::tests::Fixture as Database;

/// What has to happen soon, happens within this time.
const SOON: Duration = Duration::from_secs(30);

/// A new place for logs with a store on it.
struct Fixture {
    logs: Arc<dyn LogStore>,
    url: String,
    database: Database,
    _directory: Option<TempDir>,
    _server: Option<S3Server>,
}

impl Fixture {
    async fn sqlite() -> Self {
        Self::on(String::new(), Database::sqlite().await).await
    }

    async fn postgres() -> Self {
        Self::on(String::new(), Database::postgres().await).await
    }

    async fn directory() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}/made/logs", directory.path().display());
        let fixture = Self::on(url, Database::sqlite().await).await;
        Self {
            _directory: Some(directory),
            ..fixture
        }
    }

    async fn s3() -> Self {
        let server = S3Server::start().await;
        let fixture = Self::on(server.url("logs"), Database::sqlite().await).await;
        Self {
            _server: Some(server),
            ..fixture
        }
    }

    async fn on(url: String, database: Database) -> Self {
        Self {
            logs: opened(&url, &database).await,
            url,
            database,
            _directory: None,
            _server: None,
        }
    }

    /// A second store on the same place, as another API node has it.
    async fn open_again(&self) -> Arc<dyn LogStore> {
        opened(&self.url, &self.database).await
    }
}

async fn opened(url: &str, database: &Database) -> Arc<dyn LogStore> {
    open(url, database.store.clone()).await.expect("it opens")
}

/// The id of a call that was made at a time like ours.
fn new_call() -> CallId {
    call_made_at(1_764_000_000_000)
}

fn call_made_at(unix_millis: u64) -> CallId {
    static IDS: std::sync::LazyLock<IdSource> = std::sync::LazyLock::new(|| IdSource::new(7));
    IDS.next(unix_millis).into()
}

fn chunk(id: &CallId, epoch: i64, offset: u64, data: impl Into<Bytes>) -> LogChunk {
    LogChunk {
        lease: LeaseRef {
            call_id: id.clone(),
            epoch,
        },
        offset,
        data: data.into(),
    }
}

async fn append(logs: &Arc<dyn LogStore>, chunks: Vec<LogChunk>) {
    logs.append(chunks).await.expect("it is appended");
}

async fn read(logs: &Arc<dyn LogStore>, id: &CallId) -> Option<String> {
    let log = logs.read(id).await.expect("it is read");
    log.map(|log| String::from_utf8(log.to_vec()).expect("text"))
}

/// Follows the log from `cursor` until it has shown `wanted`.
async fn follow(logs: &Arc<dyn LogStore>, id: &CallId, cursor: &mut LogCursor, wanted: &str) {
    let mut seen = Vec::new();
    let mut watch = logs.watch(id);
    let following = async {
        loop {
            let page = logs.read_from(id, *cursor).await.expect("it is read");
            if let Some(page) = page {
                seen.extend_from_slice(&page.data);
                *cursor = page.next;
                if page.more {
                    continue;
                }
            }
            let text = String::from_utf8_lossy(&seen);
            if text == wanted {
                return;
            }
            assert!(wanted.starts_with(&*text), "{text:?}");
            watch.changed().await;
        }
    };
    timeout(SOON, following).await.expect("it comes soon");
}

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, domain::ApiError>) {
    let error = result.expect_err("the store is away");
    assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error:?}");
    let shown = format!("{error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains("Signature"), "{shown}");
}
