//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a condition may take to come true before the test has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `condition` again and again until it yields something, for at most [`PATIENCE`].
///
/// # Panics
/// When the time is up; `what` says what did not happen.
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, condition).await
}

/// The same with another patience.
///
/// # Panics
/// When the time is up.
pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            started.elapsed() < patience,
            "{what}: not within {patience:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
