//! Notifications of PostgreSQL: what other servers on the same database have committed.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{sleep, timeout};

use super::feed::Feed;

/// Every server on one database must use the same.
pub(super) const CHANNEL: &str = "hearth_changes";
/// After this long without a notification the server is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(1);
/// How long it may take to answer, and to be connected to.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Between two tries to reach it.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the connection was closed")]
    Closed,
    #[error("the server did not answer in time")]
    Silent,
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Connects and begins to listen.
///
/// # Errors
/// The server does not answer, or refuses.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    // A pool of its own each time: what a dead connection leaves behind is in nobody's way.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ANSWER_LIMIT)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let connecting = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        // A new connection means that something was missed, which has to be said.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    timeout(2 * ANSWER_LIMIT, connecting)
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)?
}

/// Hands notifications to `feed`, for ever. After a gap everything may have changed.
pub(super) async fn run(mut listener: PgListener, options: PgConnectOptions, feed: Feed) {
    loop {
        let lost = follow(&mut listener, &feed).await;
        tracing::warn!(error = %lost, "changes of other servers are not seen until the database answers");
        drop(listener);
        listener = loop {
            sleep(RECONNECT_PAUSE).await;
            match connect(&options).await {
                Ok(listener) => break listener,
                Err(error) => tracing::debug!(%error, "cannot listen for changes yet"),
            }
        };
        tracing::info!("changes of other servers are seen again");
        feed.missed();
    }
}

async fn follow(listener: &mut PgListener, feed: &Feed) -> Lost {
    loop {
        let outcome = match timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                feed.received(notification.payload());
                Ok(())
            }
            Ok(Ok(None)) => Err(Lost::Closed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => still_there(listener).await,
        };
        if let Err(lost) = outcome {
            return lost;
        }
    }
}

/// A link that was cut looks like silence.
async fn still_there(listener: &mut PgListener) -> Result<(), Lost> {
    let ping = sqlx::query("SELECT 1").execute(listener);
    timeout(ANSWER_LIMIT, ping)
        .await
        .map_err(|_| Lost::Silent)??;
    Ok(())
}
