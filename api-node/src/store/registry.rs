//! What a cluster knows of its own nodes: runners and their leases, and the nodes that an operator
//! lists.

use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, HostPort, RegisteredRunner};
use tokio::sync::watch;

use super::feed::News;
use super::runners::{self, Lease};
use super::session::{Arg, Database, Session};
use super::sql_store::SqlStore;

/// How long a runner is remembered after its lease ran out: those who could not renew it because no
/// API node could be reached are told from those that are gone only when API nodes are back.
const REMEMBERED: Duration = Duration::from_secs(600);

const LIST_NODES: &str = "SELECT address FROM lb_nodes ORDER BY address";
const ADD_NODE: &str =
    "INSERT INTO lb_nodes (address) VALUES ($1) ON CONFLICT (address) DO NOTHING";
const REMOVE_NODE: &str = "DELETE FROM lb_nodes WHERE address = $1";

/// A runner and how its lease stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerLease {
    /// The runner.
    pub runner: RegisteredRunner,
    /// The name in the certificate of who registered it.
    pub owner: Option<String>,
    /// Since when it has its address, by the database's clock, in milliseconds.
    pub registered_at: i64,
    /// For how many milliseconds the lease holds; since when it does not if that is not positive.
    pub left: i64,
}

/// All leases at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerLeases {
    /// The moment, by the database's clock, in milliseconds.
    pub now: i64,
    /// Those that hold, and those that ran out not long ago, by id.
    pub leases: Vec<RunnerLease>,
}

/// Runners and listed nodes. Leases are judged by the clock of the database, which all API nodes
/// share.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Gives a runner a lease, or renews it, for one whose certificate names `owner`.
    async fn register_runner(
        &self,
        runner: &RegisteredRunner,
        owner: Option<&str>,
        lease: Duration,
    ) -> Result<(), ApiError>;
    /// Takes a runner off the list; one that is not on it is no error.
    async fn deregister_runner(&self, id: &str) -> Result<(), ApiError>;
    /// The leases.
    async fn runners(&self) -> Result<RunnerLeases, ApiError>;
    /// Changes its value when the runners of any API node may have changed, other than by the end
    /// of a lease.
    fn runner_changes(&self) -> watch::Receiver<u64>;

    /// The listed nodes by address.
    async fn nodes(&self) -> Result<Vec<String>, ApiError>;
    /// Lists a node; one that is listed already is no error.
    async fn add_node(&self, address: &HostPort) -> Result<(), ApiError>;
    /// Takes a node off the list; one that is not on it is no error.
    async fn remove_node(&self, address: &HostPort) -> Result<(), ApiError>;
}

#[async_trait]
impl<D: Database> Registry for SqlStore<D> {
    async fn register_runner(
        &self,
        runner: &RegisteredRunner,
        owner: Option<&str>,
        lease: Duration,
    ) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let known = runners::locked(&mut *tx, &runner.id).await?;
            let now = tx.now().await?;
            let known = known.filter(|known| known.until > now);
            let news = match &known {
                Some(known) if known.runner == *runner => vec![],
                _ => vec![News::Runners],
            };
            let registered_at = known
                .as_ref()
                .filter(|known| known.runner.address == runner.address)
                .map_or(now, |known| known.registered_at);
            let lease = Lease {
                runner: runner.clone(),
                owner: owner.map(str::to_owned),
                registered_at,
                until: now.saturating_add(millis(lease)),
            };
            runners::put(&mut *tx, &lease).await?;
            if known.is_none() {
                runners::prune(&mut *tx, now.saturating_sub(millis(REMEMBERED))).await?;
            }
            Ok(self.commit(tx, news).await?)
        })
        .await
    }

    async fn deregister_runner(&self, id: &str) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            if runners::delete(&mut *tx, id).await? {
                self.commit(tx, vec![News::Runners]).await?;
            }
            Ok(())
        })
        .await
    }

    async fn runners(&self) -> Result<RunnerLeases, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let now = reader.now().await?;
            let since = now.saturating_sub(millis(REMEMBERED));
            let leases = runners::list(&mut *reader, since).await?;
            let leases = leases.into_iter().map(|lease| RunnerLease {
                runner: lease.runner,
                owner: lease.owner,
                registered_at: lease.registered_at,
                left: lease.until.saturating_sub(now),
            });
            Ok(RunnerLeases {
                now,
                leases: leases.collect(),
            })
        })
        .await
    }

    fn runner_changes(&self) -> watch::Receiver<u64> {
        self.feed.runners()
    }

    async fn nodes(&self) -> Result<Vec<String>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let rows: Vec<(String,)> = reader.rows(LIST_NODES, &[]).await?;
            Ok(rows.into_iter().map(|(address,)| address).collect())
        })
        .await
    }

    async fn add_node(&self, address: &HostPort) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            tx.execute(ADD_NODE, &[Arg::Text(address.as_str())]).await?;
            Ok(self.commit(tx, vec![]).await?)
        })
        .await
    }

    async fn remove_node(&self, address: &HostPort) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            tx.execute(REMOVE_NODE, &[Arg::Text(address.as_str())])
                .await?;
            Ok(self.commit(tx, vec![]).await?)
        })
        .await
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
