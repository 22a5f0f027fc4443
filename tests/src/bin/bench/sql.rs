//! PostgreSQL, asked by its own tools.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use hearth_tests::postgres::Cluster as Postgres;
use tokio::process::Command;

/// A database of a server.
pub(crate) struct Sql<'a> {
    pub(crate) postgres: &'a Postgres,
    pub(crate) database: &'a str,
}

impl Sql<'_> {
    /// What statements print, without headings; they are one transaction.
    pub(crate) async fn run(&self, statements: &str) -> anyhow::Result<String> {
        let output = Command::new(self.postgres.binaries().join("psql"))
            .args(["-qAt", "-v", "ON_ERROR_STOP=1", "-d", self.database])
            .args(["-c", statements])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("psql cannot be started")?;
        ensure!(
            output.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The number that a statement prints.
    pub(crate) async fn number(&self, statement: &str) -> anyhow::Result<f64> {
        let said = self.run(statement).await?;
        said.parse()
            .with_context(|| format!("{statement}: {said:?}"))
    }
}
