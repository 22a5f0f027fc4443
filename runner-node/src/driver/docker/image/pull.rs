//! One pull per image and credentials, shared by all who wait for it (spec/05 5.5).

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use domain::{ApiError, ErrorCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::Credentials;
use super::reference::ImageReference;

type Outcome = Option<Result<(), ApiError>>;

/// What makes two pulls the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PullKey {
    pub(crate) image: ImageReference,
    pub(crate) credentials: Option<Credentials>,
}

/// The pulls that are under way.
///
/// A pull is a task of its own. It ends with the latest deadline that anyone who wants it has
/// given, so that a caller that goes away disturbs nobody, and a registry that says nothing holds a
/// pull only as long as somebody could be waiting for it.
#[derive(Clone)]
pub(crate) struct Pulls {
    running: Arc<Mutex<HashMap<PullKey, Running>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Running {
    deadline: Instant,
    outcome: watch::Receiver<Outcome>,
}

impl Pulls {
    /// No pulls yet. They run as `tasks` until `stop`.
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            running: Arc::default(),
            tasks,
            stop,
        }
    }

    /// Waits for the pull `key`, which `start` starts unless it is under way.
    ///
    /// # Errors
    /// That of the pull; `ImagePullTimeout` when it is not done at `deadline`; `ServerBusy` when
    /// the driver closes.
    pub(crate) async fn pull<F>(
        &self,
        key: PullKey,
        deadline: Instant,
        start: impl FnOnce() -> F,
    ) -> Result<(), ApiError>
    where
        F: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        let mut outcome = self.join(key, deadline, start);
        let finished = tokio::time::timeout_at(deadline.into(), outcome.wait_for(Option::is_some));
        match finished.await {
            Err(_) => Err(ErrorCode::ImagePullTimeout.into()),
            // The task ended without an outcome: the runtime is going away.
            Ok(Err(_)) => Err(ErrorCode::ServerBusy.into()),
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Ok(())),
        }
    }

    fn join<F>(
        &self,
        key: PullKey,
        deadline: Instant,
        start: impl FnOnce() -> F,
    ) -> watch::Receiver<Outcome>
    where
        F: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        let mut running = self.lock();
        if let Some(pull) = running.get_mut(&key) {
            pull.deadline = pull.deadline.max(deadline);
            return pull.outcome.clone();
        }
        let (sender, outcome) = watch::channel(None);
        running.insert(
            key.clone(),
            Running {
                deadline,
                outcome: outcome.clone(),
            },
        );
        drop(running);
        let (pulls, work) = (self.clone(), start());
        self.tasks.spawn(async move {
            let result = tokio::select! {
                result = work => result,
                () = pulls.past_deadline(&key) => Err(ErrorCode::ImagePullTimeout.into()),
                () = pulls.stop.cancelled() => Err(ErrorCode::ServerBusy.into()),
            };
            // Gone from the table before the outcome is known: who comes later starts anew. It may
            // have gone by its deadline, and another pull have taken its place.
            let mut running = pulls.lock();
            let mine = |pull: &Running| pull.outcome.same_channel(&sender.subscribe());
            if running.get(&key).is_some_and(mine) {
                running.remove(&key);
            }
            drop(running);
            sender.send_replace(Some(result));
        });
        outcome
    }

    /// Ends when the latest deadline has passed. The pull is then no longer in the table.
    async fn past_deadline(&self, key: &PullKey) {
        loop {
            let deadline = {
                let mut running = self.lock();
                match running.get(key) {
                    Some(pull) if pull.deadline > tokio::time::Instant::now().into_std() => {
                        pull.deadline
                    }
                    _ => {
                        running.remove(key);
                        return;
                    }
                }
            };
            tokio::time::sleep_until(deadline.into()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PullKey, Running>> {
        // Each change is one insertion or removal.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn key(image: &str) -> PullKey {
        PullKey {
            image: ImageReference::parse(image).expect("valid"),
            credentials: None,
        }
    }

    fn pulls() -> Pulls {
        Pulls::new(TaskTracker::new(), CancellationToken::new())
    }

    fn after(seconds: u64) -> Instant {
        tokio::time::Instant::now().into_std() + Duration::from_secs(seconds)
    }

    async fn must_not_start() -> Result<(), ApiError> {
        Err(ApiError::internal("a second pull was started"))
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_pull_and_its_result() {
        for result in [Ok(()), Err(ApiError::from(ErrorCode::ImagePullFailed))] {
            let (pulls, started) = (pulls(), AtomicUsize::new(0));
            let (done, wait) = oneshot::channel::<()>();
            let wait = Mutex::new(Some(wait));
            let call = || {
                pulls.pull(key("a"), after(60), || {
                    started.fetch_add(1, Ordering::Relaxed);
                    let wait = wait.lock().expect("lock").take().expect("one start");
                    let result = result.clone();
                    async move {
                        let _ = wait.await;
                        result
                    }
                })
            };
            let others = async {
                assert!(pulls.lock().contains_key(&key("a")));
                done.send(()).expect("someone waits");
            };
            let (a, b, c, ()) = tokio::join!(call(), call(), call(), others);
            for outcome in [a, b, c] {
                assert_eq!(outcome.is_ok(), result.is_ok());
            }
            assert_eq!(started.load(Ordering::Relaxed), 1);
            assert!(pulls.lock().is_empty());
        }
    }

    #[tokio::test]
    async fn another_image_or_user_is_another_pull() {
        let pulls = pulls();
        let mut other = key("a");
        other.credentials = Some(Credentials::default());
        let count = AtomicUsize::new(0);
        let call = |key| {
            pulls.pull(key, after(60), || {
                count.fetch_add(1, Ordering::Relaxed);
                async { Ok(()) }
            })
        };
        let (a, b, c) = tokio::join!(call(key("a")), call(key("b")), call(other));
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn the_first_caller_may_go_away() {
        let pulls = pulls();
        let (done, wait) = oneshot::channel::<()>();
        let first = tokio::spawn({
            let pulls = pulls.clone();
            async move {
                let work = async move { wait.await.map_err(ApiError::internal) };
                pulls.pull(key("a"), after(60), || work).await
            }
        });
        while pulls.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let second = pulls.pull(key("a"), after(60), must_not_start);
        first.abort();
        assert!(first.await.expect_err("aborted").is_cancelled());
        done.send(()).expect("the pull goes on");
        second.await.expect("pulled");
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_has_its_own_deadline_and_the_last_one_ends_the_pull() {
        let pulls = pulls();
        let (dropped, gone) = oneshot::channel::<()>();
        let hung = async move {
            let _guard = dropped;
            std::future::pending().await
        };
        let begin = tokio::time::Instant::now();
        let short = pulls.pull(key("a"), after(1), || hung);
        let long = async {
            let result = pulls.pull(key("a"), after(5), must_not_start).await;
            (result, begin.elapsed())
        };
        let (short, (long, took)) = tokio::join!(short, long);
        assert_eq!(short.expect_err("late").code(), ErrorCode::ImagePullTimeout);
        assert_eq!(long.expect_err("late").code(), ErrorCode::ImagePullTimeout);
        assert!(took >= Duration::from_secs(5));
        gone.await.expect_err("the pull was dropped");
        assert!(pulls.lock().is_empty());
        let again = pulls.pull(key("a"), after(1), || async { Ok(()) });
        again.await.expect("a new pull");
    }

    #[tokio::test]
    async fn closing_ends_pulls() {
        let pulls = pulls();
        let hung = pulls.pull(key("a"), after(60), std::future::pending);
        let (result, ()) = tokio::join!(hung, async { pulls.stop.cancel() });
        assert_eq!(result.expect_err("closed").code(), ErrorCode::ServerBusy);
        pulls.tasks.close();
        pulls.tasks.wait().await;
    }
}
