//! Opening a store by its URL (spec/09 9.1): wait for the database, migrate it, use it.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::{IdSource, Timestamp};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Store;
use super::feed::Feed;
use super::migrate::MigrateError;
use super::postgres::PostgresDatabase;
use super::sql_store::SqlStore;
use super::sqlite::SqliteDatabase;
use super::url::{Target, UrlError};

/// Between two tries to reach the database.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// What time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The wall clock of this machine.
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let millis = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    })
}

/// What a store is opened with.
#[derive(Clone)]
pub struct OpenOptions {
    /// How often the database is tried, a second apart, before the start fails
    /// (`FN_DS_DB_PING_MAX_RETRIES`). At least once.
    pub ping_max_retries: u32,
    /// Where the ids of new things come from.
    pub ids: Arc<IdSource>,
    /// Where their times come from.
    pub clock: Clock,
    /// Ends the waiting.
    pub cancel: CancellationToken,
}

/// Why a store could not be opened. The text holds no password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no store.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database cannot be used.
    #[error("database {target}: {source}")]
    Connect {
        /// Where it should be.
        target: String,
        /// What is wrong.
        source: ConnectError,
    },
    /// The server was told to stop meanwhile.
    #[error("cancelled while waiting for the database")]
    Cancelled,
}

/// What can be wrong with one try.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The directory of the file cannot be made.
    #[error("cannot create the directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The database does not answer, or lets nobody in.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] sqlx::Error),
    /// The schema is not one that this server can use.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

/// Opens the store that `url` names, creating and migrating it as needed.
///
/// `sqlite3://<path>` (also `sqlite://`) names a file, `postgres://` (also `postgresql://` and
/// `pgx://`) a server. Several servers may do this at once.
///
/// # Errors
/// [`OpenError`]; a database that cannot be reached is tried again first.
pub async fn open(url: &str, options: OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    let target = Target::parse(url)?;
    let cancel = options.cancel.clone();
    cancel
        .run_until_cancelled(reach(&target, options))
        .await
        .ok_or(OpenError::Cancelled)?
        .map_err(|source| OpenError::Connect {
            target: target.to_string(),
            source,
        })
}

async fn reach(target: &Target, options: OpenOptions) -> Result<Arc<dyn Store>, ConnectError> {
    let mut pings = 1;
    loop {
        match connect(target, &options).await {
            Err(ConnectError::Unreachable(error)) if pings < options.ping_max_retries => {
                tracing::warn!(%target, pings, %error, "the database does not answer yet");
            }
            result => return result,
        }
        pings += 1;
        sleep(PING_INTERVAL).await;
    }
}

async fn connect(target: &Target, options: &OpenOptions) -> Result<Arc<dyn Store>, ConnectError> {
    let (ids, clock) = (Arc::clone(&options.ids), Arc::clone(&options.clock));
    let feed = Feed::new(origin());
    Ok(match target {
        Target::Sqlite(path) => {
            let database = SqliteDatabase::connect(path, feed.clone()).await?;
            Arc::new(SqlStore::new(database, feed, ids, clock))
        }
        Target::Postgres(server) => {
            let database = PostgresDatabase::connect(server, feed.clone()).await?;
            Arc::new(SqlStore::new(database, feed, ids, clock))
        }
    })
}

/// A name that no other store has, in this process or another: hashers are seeded by the system.
fn origin() -> Arc<str> {
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random()).into()
}
