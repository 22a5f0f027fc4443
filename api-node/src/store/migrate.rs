//! Forward migrations (spec/09 9.3). The caller holds the database's lock and a transaction: either
//! the schema and its version change together, or nothing does.

use super::session::{Arg, Session};

/// One step of the schema.
pub(super) struct Migration {
    /// Counts from one, without gaps.
    pub version: i64,
    /// The statements.
    pub sql: &'static str,
}

/// Why a database cannot be used by this server.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Another server migrated it for too long.
    #[error("database is locked")]
    Locked,
    /// A migration was interrupted, and left the schema between two versions.
    #[error("database is dirty. version: {0}")]
    Dirty(i64),
    /// A newer server, or the original, has used it.
    #[error("database is newer than this server. version: {found} known: {known}")]
    Newer {
        /// Of the database.
        found: i64,
        /// The highest that this server has.
        known: i64,
    },
    /// A step failed; nothing was changed.
    #[error("error running migration. version: {version} direction: up err: {source}")]
    Step {
        /// Of the step.
        version: i64,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The version could not be read or written.
    #[error("error reading the version of the database: {0}")]
    Version(#[from] sqlx::Error),
}

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations \
    (version BIGINT NOT NULL PRIMARY KEY, dirty BOOLEAN NOT NULL)";
const READ: &str = "SELECT version, CAST(CASE WHEN dirty THEN 1 ELSE 0 END AS BIGINT) \
    FROM schema_migrations ORDER BY version DESC LIMIT 1";
const CLEAR: &str = "DELETE FROM schema_migrations";
const WRITE: &str = "INSERT INTO schema_migrations (version, dirty) VALUES ($1, FALSE)";

/// Brings the schema to the highest version of `migrations`.
pub(super) async fn run(
    session: &mut impl Session,
    migrations: &[Migration],
) -> Result<(), MigrateError> {
    session.execute(CREATE_TABLE, &[]).await?;
    let found: Option<(i64, i64)> = session.row(READ, &[]).await?;
    let (version, dirty) = found.unwrap_or((0, 0));
    if dirty != 0 {
        return Err(MigrateError::Dirty(version));
    }
    let known = migrations.last().map_or(0, |last| last.version);
    if version > known {
        return Err(MigrateError::Newer {
            found: version,
            known,
        });
    }
    for step in migrations.iter().filter(|step| step.version > version) {
        session
            .script(step.sql)
            .await
            .map_err(|source| MigrateError::Step {
                version: step.version,
                source,
            })?;
        session.execute(CLEAR, &[]).await?;
        session.execute(WRITE, &[Arg::Int(step.version)]).await?;
        tracing::info!(version = step.version, "database migrated");
    }
    Ok(())
}
