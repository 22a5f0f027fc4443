//! What the statements need of a database: one connection that runs them, and a way to get one.
//!
//! Both databases number their parameters `$1`, `$2` …, so a statement is written once. What they
//! do not share (locks, pools, settings) is behind these two traits.

use std::future::Future;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Transaction};

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arg<'a> {
    /// Text that is there.
    Text(&'a str),
    /// Text that may be null.
    Nullable(Option<&'a str>),
    /// A number.
    Int(i64),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// Binds parameters to a query of either driver.
macro_rules! bind {
    ($query:expr, $args:expr) => {
        $args.iter().fold($query, |query, arg| match *arg {
            Arg::Text(text) => query.bind(text),
            Arg::Nullable(text) => query.bind(text),
            Arg::Int(number) => query.bind(number),
            Arg::Bytes(bytes) => query.bind(bytes),
        })
    };
}
pub(super) use bind;

/// The database's clock in milliseconds since 1970, as an expression. It goes on within a transaction.
macro_rules! now {
    (sqlite) => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
    (postgres) => {
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    };
}
pub(super) use now;

/// A statement, in the words of each database where they differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sql {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

/// A row that can be read from every database.
pub(super) trait Record:
    Send + Unpin + for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>
{
}

impl<T> Record for T where
    T: Send + Unpin + for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>
{
}

/// A statement that reads rows in order to change them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locking {
    /// For a database whose transaction holds the only write lock already.
    pub plain: &'static str,
    /// For a database that locks rows.
    pub for_update: &'static str,
}

/// A connection, or a transaction on one.
pub(super) trait Session: Send {
    /// Whether rows must be locked one by one before they are changed.
    const ROW_LOCKS: bool;
    /// The statement that reads the database's clock, in milliseconds since 1970.
    const NOW: &'static str;

    /// Runs a statement and returns its rows.
    fn rows<T: Record>(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Vec<T>, sqlx::Error>> + Send;

    /// Runs a statement that was put together of texts of the program alone.
    fn rows_of_built<T: Record>(
        &mut self,
        sql: String,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Vec<T>, sqlx::Error>> + Send;

    /// Runs a statement that returns nothing.
    fn execute(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs several statements without parameters.
    fn script(&mut self, sql: &'static str)
    -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// What time it is for the database.
    fn now(&mut self) -> impl Future<Output = Result<i64, sqlx::Error>> + Send {
        async move {
            let row: Option<(i64,)> = self.row(Self::NOW, &[]).await?;
            row.map(|(now,)| now).ok_or(sqlx::Error::RowNotFound)
        }
    }

    /// Tells the other processes on this database, if and when the transaction commits. Nothing
    /// where there is no such way.
    fn notify(&mut self, payload: &str) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The words of this database.
    fn words(sql: Sql) -> &'static str;

    /// Runs a statement that every database says in its own words, and returns its rows.
    fn dialect_rows<T: Record>(
        &mut self,
        sql: Sql,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Vec<T>, sqlx::Error>> + Send {
        self.rows(Self::words(sql), args)
    }

    /// The same for one that returns nothing.
    fn dialect_execute(
        &mut self,
        sql: Sql,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        self.execute(Self::words(sql), args)
    }

    /// The first row of a statement.
    fn row<T: Record>(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Option<T>, sqlx::Error>> + Send {
        async move { Ok(self.rows(sql, args).await?.into_iter().next()) }
    }

    /// The first row of a statement, which nobody else can change until the transaction ends.
    fn locked_row<T: Record>(
        &mut self,
        sql: Locking,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Option<T>, sqlx::Error>> + Send {
        self.row(
            if Self::ROW_LOCKS {
                sql.for_update
            } else {
                sql.plain
            },
            args,
        )
    }
}

/// A database that is open.
pub(super) trait Database: Send + Sync + 'static {
    /// The sqlx driver.
    type Driver: sqlx::Database<Connection: Session>;

    /// Whether [`Session::notify`] comes back to this process, too.
    const NOTIFIES: bool;

    /// A connection for reading.
    fn reader(
        &self,
    ) -> impl Future<Output = Result<PoolConnection<Self::Driver>, sqlx::Error>> + Send;

    /// A connection for one statement that changes something, and is a transaction of its own.
    fn single(
        &self,
    ) -> impl Future<Output = Result<PoolConnection<Self::Driver>, sqlx::Error>> + Send;

    /// A transaction for changes. Dropping it rolls it back.
    fn begin(
        &self,
    ) -> impl Future<Output = Result<Transaction<'static, Self::Driver>, sqlx::Error>> + Send;
}
