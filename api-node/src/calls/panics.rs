//! What outlives a panic: one call that cannot be worked on must not end what works on all the others.

use std::panic::AssertUnwindSafe;

use domain::ApiError;
use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::outage::Outage;

/// Does `work`; a panic in it is an error like others. What it shares must be whole at each await.
pub(super) async fn caught<T>(
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| Err(ApiError::internal("it panicked")))
}

/// Runs a task to its end, and begins anew after each panic.
pub(super) async fn supervised<F: Future<Output = ()>>(task: &'static str, run: impl Fn() -> F) {
    let mut outage = Outage::none(task);
    while let Err(error) = caught(async {
        run().await;
        Ok(())
    })
    .await
    {
        sleep(outage.failed(&error)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_anew() {
        let runs = AtomicU32::new(0);
        supervised("test", || async {
            assert!(runs.fetch_add(1, Ordering::Relaxed) >= 2, "as it is wanted");
        })
        .await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}
