//! Whether a node takes new work: conditions by name, all of which must hold.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The conditions of a node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<RwLock<Vec<Condition>>>,
}

/// One condition. Clones share it.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    holds: Arc<AtomicBool>,
}

impl Readiness {
    /// No conditions: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, which does not hold yet.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition {
            name,
            holds: Arc::new(AtomicBool::new(false)),
        };
        // The list is whole even after a panic elsewhere: a push either happened or did not.
        let mut conditions = self
            .conditions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        conditions.push(condition.clone());
        condition
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        let conditions = self
            .conditions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        conditions.iter().all(Condition::holds)
    }

    /// The conditions that do not hold.
    pub fn missing(&self) -> Vec<&'static str> {
        let conditions = self
            .conditions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .filter(|condition| !condition.holds())
            .map(|condition| condition.name)
            .collect()
    }
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// Says whether it holds; a change is logged.
    pub fn set(&self, holds: bool) {
        if self.holds.swap(holds, Ordering::Relaxed) == holds {
            return;
        }
        if holds {
            tracing::info!(condition = self.name, "ready");
        } else {
            tracing::warn!(condition = self.name, "not ready");
        }
    }

    /// Asks `check` again and again, `period` apart, until `stop`; an answer that takes longer than
    /// `patience` is a failure. So a probe of `/readyz` costs nothing, however often it is sent.
    pub async fn watch<F, E>(
        self,
        period: Duration,
        patience: Duration,
        stop: CancellationToken,
        mut check: impl FnMut() -> F,
    ) where
        F: Future<Output = Result<(), E>>,
        E: fmt::Debug,
    {
        let watching = async {
            loop {
                match timeout(patience, check()).await {
                    Ok(Ok(())) => self.set(true),
                    Ok(Err(error)) => {
                        tracing::debug!(condition = self.name, ?error, "check failed");
                        self.set(false);
                    }
                    Err(_) => self.set(false),
                }
                sleep(period).await;
            }
        };
        stop.run_until_cancelled(watching).await;
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn a_node_is_ready_when_every_condition_holds() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (store, engine) = (readiness.condition("store"), readiness.condition("engine"));
        assert_eq!(readiness.missing(), ["store", "engine"]);
        store.set(true);
        assert_eq!(readiness.missing(), ["engine"]);
        engine.set(true);
        assert!(readiness.is_ready());
        store.set(false);
        assert!(!readiness.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_condition_follows_its_check() {
        let second = Duration::from_secs(1);
        let readiness = Readiness::new();
        let stop = CancellationToken::new();
        let mut answers = [Some(Ok(())), Some(Err("down")), Some(Ok(())), None].into_iter();
        let watch =
            readiness
                .condition("store")
                .watch(second, second / 10, stop.clone(), move || {
                    let answer = answers.next().flatten();
                    async move {
                        match answer {
                            Some(answer) => answer,
                            None => pending().await,
                        }
                    }
                });
        let task = tokio::spawn(watch);
        let mut seen = Vec::new();
        for _ in 0..4 {
            sleep(second / 2).await;
            seen.push(readiness.is_ready());
            sleep(second / 2).await;
        }
        assert_eq!(seen, [true, false, true, false]);
        stop.cancel();
        task.await.expect("the task ends");
        assert!(!readiness.is_ready());
    }
}
