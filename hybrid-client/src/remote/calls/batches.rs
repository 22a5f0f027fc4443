//! Requests of many tasks that travel together: the first one goes at once, and those that come
//! while enough are under way wait for each other, and for nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;

use domain::ApiError;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// Batches that are under way at a time. With one alone, whatever came a moment later would wait
/// for a whole round trip.
const UNDER_WAY: usize = 4;
/// Most requests that wait; whoever comes later waits for a place.
const WAITING: usize = 1024;
/// Most requests of one batch.
pub(super) const MOST: usize = 256;

/// What can travel with others of its kind.
pub(super) trait Batched: Send + 'static {
    /// What comes back for each.
    type Answer: Send + 'static;

    /// Its part of a batch, of which there is one for each place of [`MOST`], or of the bytes.
    fn weight(&self) -> usize;

    /// Whether it may be in a batch that begins with `first`.
    fn may_join(&self, first: &Self) -> bool;
}

/// The batches of one kind. What is under way ends when this is dropped.
pub(super) struct Batches<T: Batched> {
    queue: mpsc::Sender<Waiting<T>>,
    _task: AbortOnDropHandle<()>,
}

struct Waiting<T: Batched> {
    item: T,
    answer: oneshot::Sender<Result<T::Answer, ApiError>>,
}

impl<T: Batched> Batches<T> {
    /// Sends batches by `send`, which answers each item in order; none is heavier than `heaviest`,
    /// unless one item is. Must be called within a runtime.
    pub(super) fn start<F>(
        heaviest: usize,
        send: impl Fn(Vec<T>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<T::Answer>, ApiError>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(WAITING);
        Self {
            queue,
            _task: AbortOnDropHandle::new(tokio::spawn(run(waiting, heaviest, send))),
        }
    }

    /// Sends `item` with others, and waits for its answer.
    ///
    /// # Errors
    /// That of the batch.
    pub(super) async fn send(&self, item: T) -> Result<T::Answer, ApiError> {
        let (answer, answered) = oneshot::channel();
        let gone = || ApiError::internal("the task that sends batches has ended");
        let waiting = Waiting { item, answer };
        self.queue.send(waiting).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl<T: Batched> fmt::Debug for Batches<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}

async fn run<T: Batched, F>(
    mut queue: mpsc::Receiver<Waiting<T>>,
    heaviest: usize,
    send: impl Fn(Vec<T>) -> F,
) where
    F: Future<Output = Result<Vec<T::Answer>, ApiError>>,
{
    let mut waiting = VecDeque::new();
    let mut under_way = FuturesUnordered::new();
    let mut more = Vec::new();
    loop {
        while under_way.len() < UNDER_WAY
            && let Some(batch) = next(&mut waiting, heaviest)
        {
            let sending = send(batch.items);
            under_way.push(async move { deliver(batch.answers, sending.await) });
        }
        tokio::select! {
            // The queue is never closed before this task is ended.
            _ = queue.recv_many(&mut more, MOST), if waiting.len() < MOST => {
                waiting.extend(more.drain(..));
            }
            Some(()) = under_way.next() => {}
        }
    }
}

type Answers<A> = Vec<oneshot::Sender<Result<A, ApiError>>>;

struct Batch<T: Batched> {
    items: Vec<T>,
    answers: Answers<T::Answer>,
}

/// The next batch: the oldest, and those that may join it. Nobody waits any more for an item whose
/// sender is gone.
fn next<T: Batched>(waiting: &mut VecDeque<Waiting<T>>, heaviest: usize) -> Option<Batch<T>> {
    let (mut items, mut answers) = (Vec::<T>::new(), Vec::new());
    let mut weight = 0;
    while let Some(next) = waiting.pop_front() {
        if next.answer.is_closed() {
            continue;
        }
        weight += next.item.weight();
        let joins = items.first().is_none_or(|first| {
            items.len() < MOST && weight <= heaviest && next.item.may_join(first)
        });
        if !joins {
            waiting.push_front(next);
            break;
        }
        items.push(next.item);
        answers.push(next.answer);
    }
    (!items.is_empty()).then_some(Batch { items, answers })
}

fn deliver<A>(answers: Answers<A>, result: Result<Vec<A>, ApiError>) {
    match result {
        Ok(results) => {
            for (answer, result) in answers.into_iter().zip(results) {
                // Whoever asked may be gone.
                let _ = answer.send(Ok(result));
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}
