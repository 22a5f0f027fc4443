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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use domain::ErrorCode;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Item {
        kind: char,
        weight: usize,
    }

    impl Batched for Item {
        type Answer = usize;

        fn weight(&self) -> usize {
            self.weight
        }

        fn may_join(&self, first: &Self) -> bool {
            self.kind == first.kind
        }
    }

    type Sent = Arc<Mutex<Vec<Vec<Item>>>>;

    /// Batches that wait for the gate and are written down.
    fn gated(heaviest: usize, gate: &Arc<Semaphore>) -> (Arc<Batches<Item>>, Sent) {
        let sent = Sent::default();
        let (gate, log) = (Arc::clone(gate), Arc::clone(&sent));
        let batches = Batches::start(heaviest, move |items: Vec<Item>| {
            let gate = Arc::clone(&gate);
            log.lock().unwrap().push(items.clone());
            async move {
                gate.acquire().await.expect("open").forget();
                match items.iter().any(|item| item.kind == '!') {
                    true => Err(ErrorCode::StoreUnavailable.into()),
                    false => Ok(items.iter().map(|item| item.weight).collect()),
                }
            }
        });
        (Arc::new(batches), sent)
    }

    fn item(kind: char, weight: usize) -> Item {
        Item { kind, weight }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_come_while_others_are_under_way_go_together() {
        let gate = Arc::new(Semaphore::new(0));
        let (batches, sent) = gated(1000, &gate);
        let mut callers = Vec::new();
        for weight in 1..=300 {
            let batches = Arc::clone(&batches);
            callers.push(tokio::spawn(async move {
                batches.send(item('a', weight)).await
            }));
            if weight <= UNDER_WAY {
                // Alone, and at once.
                while sent.lock().unwrap().len() < weight {
                    tokio::task::yield_now().await;
                }
            }
        }
        while sent.lock().unwrap().len() < UNDER_WAY {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1000);
        for (n, answer) in join_all(callers).await.into_iter().enumerate() {
            assert_eq!(answer.expect("no panic").expect("an answer"), n + 1);
        }
        let sent = sent.lock().unwrap();
        assert!(sent[..UNDER_WAY].iter().all(|batch| batch.len() == 1));
        for batch in sent.iter() {
            let weight: usize = batch.iter().map(|item| item.weight).sum();
            assert!(batch.len() <= MOST && (weight <= 1000 || batch.len() == 1));
        }
        assert!(sent.len() < 150, "{} batches", sent.len());
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_do_not_mix_and_an_error_is_of_its_batch_alone() {
        let gate = Arc::new(Semaphore::new(1000));
        let (batches, sent) = gated(1000, &gate);
        let sending = ['a', '!', 'a', '!', '!', 'a'].map(|kind| batches.send(item(kind, 1)));
        for (n, answer) in join_all(sending).await.into_iter().enumerate() {
            match n {
                1 | 3 | 4 => assert_eq!(
                    answer.expect_err("refused").code(),
                    ErrorCode::StoreUnavailable
                ),
                _ => assert_eq!(answer.expect("an answer"), 1),
            }
        }
        for batch in sent.lock().unwrap().iter() {
            assert!(batch.iter().all(|item| item.kind == batch[0].kind));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_not_sent() {
        let gate = Arc::new(Semaphore::new(0));
        let (batches, sent) = gated(1, &gate);
        let mut first = Vec::new();
        for _ in 0..UNDER_WAY {
            let batches = Arc::clone(&batches);
            first.push(tokio::spawn(
                async move { batches.send(item('a', 1)).await },
            ));
        }
        while sent.lock().unwrap().len() < UNDER_WAY {
            tokio::task::yield_now().await;
        }
        let gone = tokio::spawn({
            let batches = Arc::clone(&batches);
            async move { batches.send(item('g', 1)).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.expect_err("aborted").is_cancelled());
        gate.add_permits(1000);
        batches.send(item('b', 1)).await.expect("an answer");
        join_all(first).await;
        assert!(
            sent.lock()
                .unwrap()
                .iter()
                .flatten()
                .all(|item| item.kind != 'g')
        );
    }
}
