//! Which API node is asked, and when another one: the first that works is kept; after a failure of
//! the transport the next one is asked, and when all have failed, all again after a pause.
//!
//! Everything that is asked may be asked twice: reads, leases, lists.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{ApiError, ErrorCode};
use proto::status;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::RemoteSettings;
use super::backoff::pause;
use super::why::Why;

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long one node may take before the next one is asked.
    pub(super) attempt: Duration,
    /// How long it may take with all attempts.
    pub(super) total: Duration,
}

/// The choice among `count` nodes, at least one.
#[derive(Debug)]
pub(super) struct Failover {
    count: usize,
    current: AtomicUsize,
    pub(super) settings: RemoteSettings,
    random: fn() -> u64,
}

impl Failover {
    /// Starts anywhere, so that clients spread over the nodes.
    pub(super) fn new(count: usize, settings: RemoteSettings, random: fn() -> u64) -> Self {
        let count = count.max(1);
        // The remainder is below the count.
        let start = (random() % count as u64) as usize;
        Self {
            count,
            current: AtomicUsize::new(start),
            settings,
            random,
        }
    }

    /// The node that worked last.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Turns away from `node`, unless somebody else has done so.
    pub(super) fn leave(&self, node: usize) {
        let next = (node + 1) % self.count;
        let _ = self
            .current
            .compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The pause after `failures` in a row.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        pause(failures, self.settings.max_pause, (self.random)())
    }

    /// How long short requests are waited for.
    pub(super) fn patience(&self) -> Patience {
        Patience {
            attempt: self.settings.attempt_timeout,
            total: self.settings.total_timeout,
        }
    }

    /// Makes attempts until one is answered: with a result, or an error that is the answer.
    ///
    /// # Errors
    /// The error of the answer; when no node can be reached in time, what the last one said that
    /// did answer, else `StoreUnavailable`. So too, and at once, when none of them knows what is
    /// asked.
    pub(super) async fn run<T, F>(
        &self,
        patience: Patience,
        mut attempt: impl FnMut(usize, Duration) -> F,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let give_up = Instant::now() + patience.total;
        let (mut tries, mut rounds, mut strangers) = (0, 0, 0);
        let mut said = ErrorCode::StoreUnavailable;
        loop {
            let node = self.current();
            let limit = give_up
                .saturating_duration_since(Instant::now())
                .min(patience.attempt);
            let status = match timeout(limit, attempt(node, limit)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if !may_be_tried_elsewhere(&status) {
                return Err(answer(&status));
            }
            self.leave(node);
            if let Some(error) = status::to_error(&status) {
                said = error.code();
            }
            strangers = match status.code() {
                Code::Unimplemented => strangers + 1,
                _ => 0,
            };
            if strangers == self.count {
                return Err(ApiError::from(ErrorCode::StoreUnavailable)
                    .detail("no API node knows this request: they are older than this node"));
            }
            tries += 1;
            let mut wait = Duration::ZERO;
            if tries % self.count == 0 {
                rounds += 1;
                wait = self.pause(rounds);
            }
            if Instant::now() + wait >= give_up {
                return Err(ApiError::from(said).detail(Why(&status)));
            }
            sleep(wait).await;
        }
    }
}

/// Whether another node, or the same one later, may have another answer: nothing was answered, or
/// the answer is that nothing works just now.
fn may_be_tried_elsewhere(status: &Status) -> bool {
    if let Some(error) = status::to_error(status) {
        return error.code().retryable();
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        // Nodes of several versions are there while a cluster is being replaced.
        Code::Unimplemented => true,
        // A status that a peer sends has no source: this one was made of a broken connection.
        _ => status.source().is_some(),
    }
}

/// The error that a node answered.
fn answer(status: &Status) -> ApiError {
    status::to_error(status).unwrap_or_else(|| ApiError::internal(Why(status)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const MIDDLE: u64 = u64::MAX / 2;

    fn failover(count: usize) -> Failover {
        let failover = Failover::new(count, RemoteSettings::default(), || MIDDLE);
        failover.current.store(0, Ordering::Relaxed);
        failover
    }

    fn gone() -> Status {
        Status::unavailable("connection refused")
    }

    fn named(code: ErrorCode) -> Status {
        status::of_error(&code.into())
    }

    /// Which nodes were asked, and when, until the script ends with an answer.
    async fn play(
        failover: &Failover,
        script: impl Fn(usize, usize) -> Option<Result<(), Status>>,
    ) -> (Vec<(usize, u128)>, Result<(), ErrorCode>) {
        let asked = Mutex::new(Vec::new());
        let start = Instant::now();
        let result = failover.run(failover.patience(), |node, _| {
            let mut asked = asked.lock().unwrap();
            asked.push((node, start.elapsed().as_millis()));
            let outcome = script(node, asked.len());
            async move {
                match outcome {
                    Some(outcome) => outcome,
                    None => std::future::pending().await,
                }
            }
        });
        let result = result.await.map_err(|error| error.code());
        (asked.into_inner().unwrap(), result)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_node_is_asked_at_once_and_kept() {
        let failover = failover(3);
        let (asked, result) = play(&failover, |node, _| {
            Some(if node == 2 { Ok(()) } else { Err(gone()) })
        })
        .await;
        assert_eq!((asked, result), (vec![(0, 0), (1, 0), (2, 0)], Ok(())));
        let (asked, _) = play(&failover, |_, _| Some(Ok(()))).await;
        assert_eq!(asked, [(2, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_have_failed_there_is_a_growing_pause() {
        let failover = failover(2);
        let (asked, result) = play(&failover, |_, tries| {
            Some(if tries == 7 { Ok(()) } else { Err(gone()) })
        })
        .await;
        assert_eq!(result, Ok(()));
        // Half of 50, 150 and 350 ms, and 25 ms; the clock of the runtime ticks in whole ones.
        let expected = [
            (0, 0),
            (1, 0),
            (0, 50),
            (1, 50),
            (0, 151),
            (1, 151),
            (0, 352),
        ];
        assert_eq!(asked.len(), expected.len());
        for ((node, at), (expected_node, expected_at)) in asked.iter().zip(expected) {
            assert_eq!(*node, expected_node, "{asked:?}");
            assert!(at.abs_diff(expected_at) <= 3, "{asked:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_takes_longer_than_the_whole_time() {
        let failover = failover(2);
        let start = Instant::now();
        let (_, result) = play(&failover, |_, _| Some(Err(gone()))).await;
        assert_eq!(result, Err(ErrorCode::StoreUnavailable));
        assert!(start.elapsed() <= RemoteSettings::default().total_timeout);

        let start = Instant::now();
        let (asked, result) = play(&failover, |_, _| None).await;
        assert_eq!(result, Err(ErrorCode::StoreUnavailable));
        assert!((3..=4).contains(&asked.len()), "{asked:?}");
        let total = RemoteSettings::default().total_timeout.as_millis();
        assert!(start.elapsed().as_millis() <= total + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_final_and_a_failure_is_not() {
        let finals = [
            (named(ErrorCode::FnNotFound), ErrorCode::FnNotFound),
            (named(ErrorCode::AppMissingId), ErrorCode::AppMissingId),
            (named(ErrorCode::Internal), ErrorCode::Internal),
            (Status::not_found("of another kind"), ErrorCode::Internal),
            (Status::permission_denied("no"), ErrorCode::Internal),
        ];
        for (status, code) in finals {
            let (asked, result) = play(&failover(2), |_, _| Some(Err(status.clone()))).await;
            assert_eq!((asked.len(), result), (1, Err(code)), "{status:?}");
        }
        let broken = Status::from_error(std::io::Error::other("broken pipe").into());
        let failures = [
            named(ErrorCode::StoreUnavailable),
            named(ErrorCode::ServerBusy),
            gone(),
            broken,
            Status::cancelled("Timeout expired"),
            Status::deadline_exceeded("late"),
            Status::unimplemented("older"),
        ];
        for status in failures {
            let script = |_, tries| {
                Some(if tries == 1 {
                    Err(status.clone())
                } else {
                    Ok(())
                })
            };
            let (asked, result) = play(&failover(2), script).await;
            assert_eq!((asked.len(), result), (2, Ok(())), "{status:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_node_knows_is_not_asked_again() {
        let script = |_, _| Some(Err(Status::unimplemented("older")));
        let (asked, result) = play(&failover(3), script).await;
        let nodes: Vec<_> = asked.into_iter().map(|(node, _)| node).collect();
        assert_eq!(
            (nodes, result),
            (vec![0, 1, 2], Err(ErrorCode::StoreUnavailable))
        );
        // One that is not there may be newer.
        let script = |node, tries| {
            let newer = node == 2 && tries > 3;
            Some(match node {
                2 if newer => Ok(()),
                2 => Err(gone()),
                _ => Err(Status::unimplemented("older")),
            })
        };
        let (asked, result) = play(&failover(3), script).await;
        assert_eq!((asked.len(), result), (6, Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_lasts_is_told_as_itself() {
        // The other node says nothing, and it is the last one that is asked.
        let script = |node, _| (node == 0).then(|| Err(named(ErrorCode::ServerBusy)));
        let (asked, result) = play(&failover(2), script).await;
        assert_eq!(result, Err(ErrorCode::ServerBusy));
        assert_eq!(asked.last().map(|(node, _)| *node), Some(1));
    }
}
