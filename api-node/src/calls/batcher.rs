//! Group commit: requests that come while others are being committed share the next transaction. A
//! lone request waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Does what is asked of it for many at once.
#[async_trait]
pub(super) trait Commit: Send + Sync + 'static {
    /// What is asked.
    type Item: Clone + Send + 'static;
    /// What comes of it.
    type Answer: Send + 'static;

    /// Whether it is done for those, too, who have gone away before it was begun.
    const KEEPS_ABANDONED: bool;

    /// How much of the batch it is, in bytes.
    fn weight(_item: &Self::Item) -> usize {
        0
    }

    /// Does it, and answers in the same order. When this fails nothing has been done, or it may be
    /// done again.
    async fn commit(
        &self,
        items: Vec<Self::Item>,
    ) -> Result<Vec<Result<Self::Answer, ApiError>>, ApiError>;
}

/// How much is done at once, and how much may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Items of one batch.
    pub(super) items: usize,
    /// Bytes of one batch; the last item may exceed it.
    pub(super) bytes: usize,
    /// Batches at once.
    pub(super) parallel: usize,
    /// Items that may wait; the next ones are refused with `ServerBusy`.
    pub(super) waiting: usize,
    /// Bytes that may wait or be under way; the next ones are refused likewise.
    pub(super) waiting_bytes: usize,
}

/// Bytes are counted in pages, so that their number fits a semaphore.
const PAGE: usize = 4096;

struct Entry<C: Commit> {
    item: C::Item,
    reply: oneshot::Sender<Result<C::Answer, ApiError>>,
    _pages: OwnedSemaphorePermit,
}

/// Collects what is asked into batches. Clones share it.
pub(super) struct Batcher<C: Commit> {
    entries: mpsc::Sender<Entry<C>>,
    pages: Arc<Semaphore>,
}

impl<C: Commit> Clone for Batcher<C> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            pages: Arc::clone(&self.pages),
        }
    }
}

impl<C: Commit> Batcher<C> {
    /// Begins to take items, on tasks of `tasks`; once `closing` is cancelled takes no more, does what
    /// has been taken, and ends.
    pub(super) fn start(
        commit: C,
        limits: BatchLimits,
        tasks: &TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        let (entries, waiting) = mpsc::channel(limits.waiting.max(1));
        let pages = limits.waiting_bytes.div_ceil(PAGE);
        let collector = Collector {
            commit: Arc::new(commit),
            limits,
            tasks: tasks.clone(),
        };
        tasks.spawn(collector.run(waiting, closing));
        Self {
            entries,
            pages: Arc::new(Semaphore::new(pages.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Does `item`, and waits for what comes of it no longer than `limit`.
    ///
    /// # Errors
    /// `ServerBusy` when too many wait, or it is closing: nothing was done. `StoreUnavailable` when
    /// the time is up: it may still be done. What else the commit says.
    pub(super) async fn submit(
        &self,
        item: C::Item,
        limit: Duration,
    ) -> Result<C::Answer, ApiError> {
        let answer = self.hand_in(item)?;
        match timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ApiError::internal("a batch ended without an answer")),
            Err(elapsed) => Err(ApiError::from(ErrorCode::StoreUnavailable).detail(elapsed)),
        }
    }

    /// Hands `item` in; what comes of it is sent to the receiver, which need not be kept if
    /// [`Commit::KEEPS_ABANDONED`].
    ///
    /// # Errors
    /// `ServerBusy`, as [`Batcher::submit`].
    pub(super) fn hand_in(
        &self,
        item: C::Item,
    ) -> Result<oneshot::Receiver<Result<C::Answer, ApiError>>, ApiError> {
        let busy = || ApiError::from(ErrorCode::ServerBusy);
        let pages = u32::try_from(C::weight(&item).div_ceil(PAGE)).unwrap_or(u32::MAX);
        let pages = match Arc::clone(&self.pages).try_acquire_many_owned(pages) {
            Ok(pages) => pages,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return Err(busy()),
        };
        let (reply, answer) = oneshot::channel();
        let entry = Entry {
            item,
            reply,
            _pages: pages,
        };
        self.entries.try_send(entry).map_err(|_| busy())?;
        Ok(answer)
    }
}

struct Collector<C> {
    commit: Arc<C>,
    limits: BatchLimits,
    tasks: TaskTracker,
}

impl<C: Commit> Collector<C> {
    async fn run(self, mut waiting: mpsc::Receiver<Entry<C>>, closing: CancellationToken) {
        let workers = Arc::new(Semaphore::new(self.limits.parallel.max(1)));
        loop {
            let first = tokio::select! {
                biased;
                () = closing.cancelled(), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
                first = waiting.recv() => first,
            };
            let Some(first) = first else {
                return;
            };
            // The semaphore is never closed. While no worker is free the batch grows.
            let Ok(worker) = Arc::clone(&workers).acquire_owned().await else {
                return;
            };
            let batch = self.batch(first, &mut waiting);
            let commit = Arc::clone(&self.commit);
            self.tasks.spawn(run_batch(commit, batch, worker));
        }
    }

    fn batch(&self, first: Entry<C>, waiting: &mut mpsc::Receiver<Entry<C>>) -> Vec<Entry<C>> {
        let mut bytes = C::weight(&first.item);
        let mut batch = vec![first];
        while batch.len() < self.limits.items && bytes <= self.limits.bytes {
            let Ok(next) = waiting.try_recv() else {
                break;
            };
            bytes += C::weight(&next.item);
            batch.push(next);
        }
        batch
    }
}

async fn run_batch<C: Commit>(
    commit: Arc<C>,
    mut batch: Vec<Entry<C>>,
    _worker: OwnedSemaphorePermit,
) {
    if !C::KEEPS_ABANDONED {
        batch.retain(|entry| !entry.reply.is_closed());
    }
    if batch.is_empty() {
        return;
    }
    let items: Vec<_> = batch.iter().map(|entry| entry.item.clone()).collect();
    match checked(&*commit, items).await {
        Ok(answers) => {
            for (entry, answer) in batch.into_iter().zip(answers) {
                // Nobody waits for it any more; it is done all the same.
                let _ = entry.reply.send(answer);
            }
        }
        // One that cannot be done must not fail the others.
        Err(error) if batch.len() > 1 && !error.code().retryable() => {
            tracing::warn!(?error, "a batch failed, and is done one by one");
            for entry in batch {
                let alone = checked(&*commit, vec![entry.item]).await;
                let answer = alone.and_then(|answers| {
                    let first = answers.into_iter().next();
                    first.unwrap_or_else(|| Err(ApiError::internal("no answer")))
                });
                let _ = entry.reply.send(answer);
            }
        }
        Err(error) => {
            for entry in batch {
                let _ = entry.reply.send(Err(error.clone()));
            }
        }
    }
}

/// What the commit answers, which must be as many answers as items.
async fn checked<C: Commit>(
    commit: &C,
    items: Vec<C::Item>,
) -> Result<Vec<Result<C::Answer, ApiError>>, ApiError> {
    let asked = items.len();
    let answers = commit.commit(items).await?;
    if answers.len() != asked {
        let found = answers.len();
        return Err(ApiError::internal(format!(
            "{found} answers for {asked} items"
        )));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests;
