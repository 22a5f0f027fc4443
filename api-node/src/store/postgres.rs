//! PostgreSQL: a pool of connections, rows locked while they are changed.

use std::io;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Postgres, Transaction};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::failure::is_lock_timeout;
use super::feed::Feed;
use super::listener::{self, CHANNEL};
use super::migrate::{self, MigrateError, Migration};
use super::open::ConnectError;
use super::session::{Arg, Database, Record, Session, Sql, bind, now};

const MAX_CONNECTIONS: u32 = 16;
/// How long a request waits for a connection: with what a request does besides, a database that is
/// gone is reported within two seconds.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a connection that comes back may take to show that it still works.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// Limits that the server keeps, in milliseconds.
const SESSION_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "5000"),
    ("lock_timeout", "5000"),
    ("idle_in_transaction_session_timeout", "10000"),
];
/// Every statement finds its rows through indexes. The server does not know that of tables that were
/// empty when it planned: it would read them whole, with that plan, until it has looked at them again.
/// And no statement is so long that it pays to compile it.
const SESSION_PLANS: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];

/// A commit that was answered survives a loss of power, though the database or the user may be set to
/// commit later. A setting that waits for more, such as a standby, stays.
const DURABLE_COMMITS: &str = "SELECT set_config('synchronous_commit', 'on', FALSE) \
     WHERE current_setting('synchronous_commit') = 'off'";
/// No session can help that.
const FSYNC: &str = "SELECT current_setting('fsync')";

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sql: include_str!("migrations/postgres/0001_apps_fns_triggers.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("migrations/postgres/0002_runners_lb_nodes.sql"),
    },
    Migration {
        version: 3,
        sql: include_str!("migrations/postgres/0003_calls.sql"),
    },
    Migration {
        version: 4,
        sql: include_str!("migrations/postgres/0004_call_logs.sql"),
    },
    Migration {
        version: 5,
        sql: include_str!("migrations/postgres/0005_dead_calls.sql"),
    },
];
/// A minute for another server that migrates, no limit for a migration itself.
const MIGRATION_LIMITS: &str = "SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0";
/// Held until the transaction ends. The number is arbitrary; every server must use the same.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7236833184512847)";

/// A pool of connections.
#[derive(Debug)]
pub(super) struct PostgresDatabase {
    pool: PgPool,
    _listener: AbortOnDropHandle<()>,
}

impl PostgresDatabase {
    /// Connects and migrates the database, which must exist. What other servers change in it is
    /// told to `feed`.
    pub(super) async fn connect(
        options: &PgConnectOptions,
        feed: Feed,
    ) -> Result<Self, ConnectError> {
        let options = options
            .clone()
            .options(SESSION_LIMITS)
            .options(SESSION_PLANS)
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(connection.script(DURABLE_COMMITS)))
            .after_release(|connection, _| Box::pin(still_works(connection)))
            .connect_lazy_with(options.clone());
        migrate(&options).await?;
        let listener = listener::connect(&options)
            .await
            .map_err(ConnectError::Unreachable)?;
        let listener = tokio::spawn(listener::run(listener, options, feed));
        Ok(Self {
            pool,
            _listener: AbortOnDropHandle::new(listener),
        })
    }
}

async fn migrate(options: &PgConnectOptions) -> Result<(), ConnectError> {
    // Without the pool, which tells that it has waited in vain, but not for what.
    let mut connection = timeout(ACQUIRE_TIMEOUT, options.connect())
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
        .map_err(ConnectError::Unreachable)?;
    let fsync = sqlx::query_scalar::<_, String>(FSYNC);
    let fsync = fsync.fetch_one(&mut connection).await;
    if fsync.map_err(ConnectError::Unreachable)? == "off" {
        tracing::warn!(
            "PostgreSQL does not sync (fsync=off): a loss of power loses what was accepted"
        );
    }
    let transaction = connection.begin().await;
    let mut transaction = transaction.map_err(ConnectError::Unreachable)?;
    let locked = async {
        transaction.script(MIGRATION_LIMITS).await?;
        transaction.script(MIGRATION_LOCK).await
    };
    match locked.await {
        Err(error) if is_lock_timeout(&error) => return Err(MigrateError::Locked.into()),
        result => result.map_err(ConnectError::Unreachable)?,
    }
    migrate::run(&mut *transaction, MIGRATIONS).await?;
    transaction
        .commit()
        .await
        .map_err(ConnectError::Unreachable)
}

/// The pool itself would wait for ever for the answer of a server that is cut off, and lose a place.
async fn still_works(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    timeout(RELEASE_TIMEOUT, connection.ping())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)?
        .map(|()| true)
}

impl Database for PostgresDatabase {
    type Driver = Postgres;
    const NOTIFIES: bool = true;

    async fn reader(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.single().await
    }

    async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        // The beginning is as good a test as any.
        first_alive(|| self.pool.begin()).await
    }

    async fn single(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        first_alive(|| async {
            let mut connection = self.pool.acquire().await?;
            connection.ping().await?;
            Ok(connection)
        })
        .await
    }
}

/// Connections of the pool may have died there, each of which is found out once.
async fn first_alive<T, F>(mut get: impl FnMut() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let tries = async {
        let mut dead = 0;
        loop {
            match get().await {
                Err(error) if is_dead(&error) && dead < MAX_CONNECTIONS => dead += 1,
                result => return result,
            }
        }
    };
    timeout(ACQUIRE_TIMEOUT, tries)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Whether it is the connection that failed, or the server that ends it.
fn is_dead(error: &sqlx::Error) -> bool {
    /// `admin_shutdown`, `crash_shutdown` and `cannot_connect_now`.
    const ENDING: [&str; 3] = ["57P01", "57P02", "57P03"];
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ENDING.contains(&&*code)),
        _ => false,
    }
}

/// Text holds no NUL here, so that nothing can be equal to a text that does; the server would call
/// it an error.
fn never_equal(args: &[Arg<'_>]) -> bool {
    args.iter()
        .any(|arg| matches!(arg, Arg::Text(text) if text.contains('\0')))
}

impl Session for PgConnection {
    const ROW_LOCKS: bool = true;
    const NOW: &'static str = concat!("SELECT ", now!(postgres));

    async fn rows<T: Record>(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<T>, sqlx::Error> {
        if never_equal(args) {
            return Ok(Vec::new());
        }
        let query = bind!(sqlx::query_as(sql), args);
        query.fetch_all(self).await
    }

    async fn rows_of_built<T: Record>(
        &mut self,
        sql: String,
        args: &[Arg<'_>],
    ) -> Result<Vec<T>, sqlx::Error> {
        if never_equal(args) {
            return Ok(Vec::new());
        }
        let query = bind!(sqlx::query_as(AssertSqlSafe(sql)), args);
        query.fetch_all(self).await
    }

    async fn execute(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<(), sqlx::Error> {
        let query = bind!(sqlx::query(sql), args);
        query.execute(self).await.map(drop)
    }

    fn words(sql: Sql) -> &'static str {
        sql.postgres
    }

    async fn notify(&mut self, payload: &str) -> Result<(), sqlx::Error> {
        self.execute(NOTIFY, &[Arg::Text(CHANNEL), Arg::Text(payload)])
            .await
    }

    async fn script(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(self).await.map(drop)
    }
}
