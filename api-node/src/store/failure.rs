//! What can go wrong inside a store, whether trying again helps, and what the caller is told.

use domain::{ApiError, ErrorCode};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why a change or a read did not happen.
#[derive(Debug)]
pub(super) enum Failure {
    /// A rule refused it.
    Refused(ApiError),
    /// The database refused it, or did not answer.
    Sql(sqlx::Error),
    /// What one statement had shown was gone when the next one looked.
    LostRace,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code.into())
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// The constraints of the migrations: PostgreSQL tells the name, SQLite the columns.
const UNIQUE: [(&str, &str, ErrorCode); 4] = [
    ("apps_name_unique", "apps.name", ErrorCode::AppAlreadyExists),
    (
        "fns_name_unique",
        "fns.app_id, fns.name",
        ErrorCode::FnAlreadyExists,
    ),
    (
        "triggers_source_unique",
        "triggers.app_id, triggers.type, triggers.source",
        ErrorCode::TriggerSourceTaken,
    ),
    (
        "triggers_name_unique",
        "triggers.app_id, triggers.fn_id, triggers.name",
        ErrorCode::TriggerAlreadyExists,
    ),
];

impl Failure {
    /// Whether the same transaction may well succeed when it is run again at once: it lost a race
    /// against another one, and looks at the outcome of that race then.
    pub(super) fn lost_a_race(&self) -> bool {
        let error = match self {
            Self::Sql(sqlx::Error::Database(error)) => error,
            Self::LostRace => return true,
            _ => return false,
        };
        // A parent that was there when it was checked, and is gone when it is referred to.
        error.is_foreign_key_violation()
            // Serialization failure, deadlock.
            || matches!(sqlstate(&**error), Some("40001" | "40P01"))
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Refused(error) => return error,
            Failure::LostRace => return ErrorCode::StoreUnavailable.into(),
            Failure::Sql(error) => error,
        };
        if let Some(code) = duplicate(&error) {
            return code.into();
        }
        if is_unavailable(&error) {
            return Self::from(ErrorCode::StoreUnavailable).detail(error);
        }
        Self::internal(error)
    }
}

fn duplicate(error: &sqlx::Error) -> Option<ErrorCode> {
    let error = error.as_database_error()?;
    if !error.is_unique_violation() {
        return None;
    }
    UNIQUE
        .into_iter()
        .find(|(name, columns, _)| match error.constraint() {
            Some(constraint) => constraint == *name,
            None => error.message() == format!("UNIQUE constraint failed: {columns}"),
        })
        .map(|(_, _, code)| code)
}

/// Whether the database could not be reached, or could not work at all.
pub(super) fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            sqlstate(&**error).is_some_and(|state| {
                // Connection exceptions, insufficient resources, a server that is stopping or
                // starting, a failed-over server that only reads, a statement or lock time-out.
                state.starts_with("08")
                    || state.starts_with("53")
                    || state.starts_with("57P")
                    || matches!(
                        state,
                        "25006" | "25P03" | "57014" | "55P03" | "40001" | "40P01"
                    )
            }) || sqlite_code(&**error).is_some_and(|code| {
                // SQLITE_BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
                matches!(code, 5 | 6 | 8 | 10 | 13 | 14)
            })
        }
        _ => false,
    }
}

/// Whether another connection holds the lock of an SQLite file.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| matches!(sqlite_code(error), Some(5 | 6)))
}

/// Whether PostgreSQL waited too long for a lock.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| sqlstate(error) == Some("55P03"))
}

fn sqlstate(error: &dyn DatabaseError) -> Option<&str> {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .map(PgDatabaseError::code)
}

/// The primary result code: the lowest byte of the extended one.
fn sqlite_code(error: &dyn DatabaseError) -> Option<i32> {
    let code = error.try_downcast_ref::<SqliteError>()?.code()?;
    code.parse::<i32>().ok().map(|code| code & 0xFF)
}
