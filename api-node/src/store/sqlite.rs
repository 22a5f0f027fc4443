//! SQLite: one file, one writer and a few readers per process; several processes may share it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::failure::is_busy;
use super::feed::Feed;
use super::migrate::{self, MigrateError, Migration};
use super::open::ConnectError;
use super::session::{Arg, Database, Record, Session, Sql, bind, now};

/// How long a statement waits for the lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start waits for another process that migrates the file.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a start waits before it tries again to get the file for itself.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long a request waits for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
const DIRECTORY_MODE: u32 = 0o750;

/// How often the file is asked whether another process has changed it.
const FILE_POLL: Duration = Duration::from_millis(100);

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sql: include_str!("migrations/sqlite/0001_apps_fns_triggers.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("migrations/sqlite/0002_runners_lb_nodes.sql"),
    },
    Migration {
        version: 3,
        sql: include_str!("migrations/sqlite/0003_calls.sql"),
    },
    Migration {
        version: 4,
        sql: include_str!("migrations/sqlite/0004_call_logs.sql"),
    },
    Migration {
        version: 5,
        sql: include_str!("migrations/sqlite/0005_dead_calls.sql"),
    },
];

/// An open file.
#[derive(Debug)]
pub(super) struct SqliteDatabase {
    writer: SqlitePool,
    readers: SqlitePool,
    _watch: AbortOnDropHandle<()>,
}

impl SqliteDatabase {
    /// Opens the file, which is created with its directories when missing, and migrates it.
    /// What other processes change in it is told to `feed`.
    pub(super) async fn connect(path: &Path, feed: Feed) -> Result<Self, ConnectError> {
        create_directory(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            // A commit that was answered survives a loss of power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        set_up(&options).await?;
        let pool = |size: u32| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
                .max_lifetime(None)
                .idle_timeout(None)
                // SQLite may end a transaction by itself, as when the disk is full. sqlx then takes
                // it to be open for ever, and every later one of this connection would fail.
                .after_release(|connection, _| {
                    Box::pin(async move {
                        // Waits for a rollback that a dropped transaction has begun.
                        connection.ping().await?;
                        Ok(!connection.is_in_transaction())
                    })
                })
        };
        let writer = pool(1).connect_lazy_with(options.clone());
        // Known before anything is read of the file: whatever is written from now on is seen.
        let known = file_version(&writer).await.ok();
        let watch = tokio::spawn(watch_file(writer.clone(), known, feed));
        Ok(Self {
            writer,
            _watch: AbortOnDropHandle::new(watch),
            readers: pool(READERS)
                .connect_lazy_with(options.create_if_missing(false).pragma("query_only", "ON")),
        })
    }
}

impl Database for SqliteDatabase {
    type Driver = Sqlite;
    const NOTIFIES: bool = false;

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, sqlx::Error> {
        self.readers.acquire().await
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        // The write lock is taken at once: a transaction that reads first and then cannot write
        // would have to start again.
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    async fn single(&self) -> Result<PoolConnection<Sqlite>, sqlx::Error> {
        self.writer.acquire().await
    }
}

impl Session for SqliteConnection {
    const ROW_LOCKS: bool = false;
    const NOW: &'static str = concat!("SELECT ", now!(sqlite));

    async fn rows<T: Record>(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<T>, sqlx::Error> {
        let query = bind!(sqlx::query_as(sql), args);
        query.fetch_all(self).await
    }

    async fn rows_of_built<T: Record>(
        &mut self,
        sql: String,
        args: &[Arg<'_>],
    ) -> Result<Vec<T>, sqlx::Error> {
        let query = bind!(sqlx::query_as(AssertSqlSafe(sql)), args);
        query.fetch_all(self).await
    }

    async fn execute(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<(), sqlx::Error> {
        let query = bind!(sqlx::query(sql), args);
        query.execute(self).await.map(drop)
    }

    fn words(sql: Sql) -> &'static str {
        sql.sqlite
    }

    async fn notify(&mut self, _payload: &str) -> Result<(), sqlx::Error> {
        Ok(())
    }

    async fn script(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(self).await.map(drop)
    }
}

/// Says that everything may have changed when another process has written to the file since its
/// version was `known`, or when the version cannot be told.
async fn watch_file(writer: SqlitePool, mut known: Option<i64>, feed: Feed) {
    let mut ticks = interval(FILE_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = match file_version(&writer).await {
            Ok(version) => Some(version),
            // The connection is in use for long; the next look tells what has changed until then.
            Err(sqlx::Error::PoolTimedOut) => continue,
            // What is wrong with the file is said by those who need it.
            Err(_) => None,
        };
        if found != known {
            feed.missed();
        }
        known = found;
    }
}

/// A number that changes when another connection has written to the file. The connection that
/// writes is asked, because it does not count what it wrote itself.
async fn file_version(writer: &SqlitePool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(writer)
        .await
}

fn create_directory(path: &Path) -> Result<(), ConnectError> {
    let Some(directory) = path.parent().filter(|parent| *parent != Path::new("")) else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|source| ConnectError::Directory {
            path: PathBuf::from(directory),
            source,
        })
}

/// Sets what the file itself remembers (the journal mode and the schema), once per start.
async fn set_up(options: &SqliteConnectOptions) -> Result<(), ConnectError> {
    let options = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(MIGRATION_TIMEOUT);
    let give_up = Instant::now() + MIGRATION_TIMEOUT;
    loop {
        match migrate_file(&options).await {
            // SQLite waits for a lock by itself, but not where two that wait for each other would
            // wait for ever, as when two servers change the journal mode of one file.
            Err(error) if is_busy(&error) && Instant::now() < give_up => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) if is_busy(&error) => return Err(MigrateError::Locked.into()),
            Err(error) => return Err(ConnectError::Unreachable(error)),
            Ok(migrated) => return Ok(migrated?),
        }
    }
}

/// The outer error is about the file and its lock, the inner one about the migration.
async fn migrate_file(
    options: &SqliteConnectOptions,
) -> Result<Result<(), MigrateError>, sqlx::Error> {
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if let Err(error) = migrate::run(&mut *transaction, MIGRATIONS).await {
        return Ok(Err(error));
    }
    transaction.commit().await?;
    connection.close().await?;
    Ok(Ok(()))
}
