//! Group commit for logs in a database: what is appended while others are being committed shares the
//! next transaction. A lone append waits for nobody.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use domain::{ApiError, CallId};
use tokio::select;
use tokio::sync::{Semaphore, oneshot};

use super::parts::{LogParts, Part, PartKey};

/// Transactions at once: one is filled while the other is committed.
const TURNS: usize = 2;
/// Bytes of one transaction; the last append may exceed it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Parts that are put together.
pub(super) struct GatheredParts {
    parts: Arc<dyn LogParts>,
    waiting: Mutex<Vec<Append>>,
    turns: Semaphore,
}

/// Somebody who waits.
struct Append {
    parts: Vec<(CallId, Part)>,
    done: oneshot::Sender<Result<(), ApiError>>,
}

impl GatheredParts {
    pub(super) fn new(parts: Arc<dyn LogParts>) -> Self {
        Self {
            parts,
            waiting: Mutex::default(),
            turns: Semaphore::new(TURNS),
        }
    }

    fn hand_in(&self, parts: Vec<(CallId, Part)>) -> oneshot::Receiver<Result<(), ApiError>> {
        let (done, told) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(Append { parts, done });
        told
    }

    /// Those who have waited longest, without those who have gone away.
    fn batch(&self) -> Vec<Append> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|append| !append.done.is_closed());
        let mut bytes = 0;
        let fits = waiting.iter().take_while(|append| {
            let room = bytes < BATCH_BYTES;
            bytes += size(&append.parts);
            room
        });
        let rest = fits.count();
        let rest = waiting.split_off(rest);
        mem::replace(&mut *waiting, rest)
    }

    /// False if nobody waits who has not been taken by another turn.
    async fn commit(&self) -> bool {
        let batch = self.batch();
        let (parts, waiting): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|append| (append.parts, append.done))
            .unzip();
        let mut parts = parts.concat();
        if parts.is_empty() {
            return false;
        }
        // Everybody locks rows in the same order.
        parts.sort_by(|(a, x), (b, y)| (a, x.key()).cmp(&(b, y.key())));
        let result = self.parts.put_parts(parts).await;
        for done in waiting {
            // Whoever has gone away meanwhile does not want to know.
            let _ = done.send(result.clone());
        }
        true
    }
}

fn size(parts: &[(CallId, Part)]) -> usize {
    parts.iter().map(|(_, part)| part.data.len()).sum()
}

#[async_trait]
impl LogParts for GatheredParts {
    async fn put_parts(&self, parts: Vec<(CallId, Part)>) -> Result<(), ApiError> {
        loop {
            let mut told = self.hand_in(parts.clone());
            let result = loop {
                select! {
                    biased;
                    result = &mut told => break result,
                    // The semaphore is never closed.
                    turn = self.turns.acquire() => {
                        if !self.commit().await {
                            // The other turn has these parts, and will say what came of it.
                            drop(turn);
                            break told.await;
                        }
                    }
                }
            };
            // Whoever had the turn went away in the middle of it. Putting parts twice does no harm.
            if let Ok(result) = result {
                return result;
            }
        }
    }

    async fn list_parts(&self, id: &CallId) -> Result<Vec<PartKey>, ApiError> {
        self.parts.list_parts(id).await
    }

    async fn get_parts(&self, id: &CallId, keys: &[PartKey]) -> Result<Vec<Part>, ApiError> {
        self.parts.get_parts(id, keys).await
    }

    async fn delete_parts(&self, ids: &[CallId]) -> Result<(), ApiError> {
        self.parts.delete_parts(ids).await
    }

    fn deletes_at_once(&self) -> usize {
        self.parts.deletes_at_once()
    }

    async fn prune_parts(&self, unix_millis: u64, limit: usize) -> Result<usize, ApiError> {
        self.parts.prune_parts(unix_millis, limit).await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::ErrorCode;
    use futures_util::future::join_all;
    use tokio::sync::watch;

    use super::*;

    /// A place that answers when it may, and counts.
    struct Gate {
        open: watch::Receiver<bool>,
        batches: Mutex<Vec<usize>>,
        fails: bool,
    }

    #[async_trait]
    impl LogParts for Gate {
        async fn put_parts(&self, parts: Vec<(CallId, Part)>) -> Result<(), ApiError> {
            self.batches.lock().expect("no panic").push(parts.len());
            let mut open = self.open.clone();
            open.wait_for(|open| *open).await.expect("the test runs");
            match self.fails {
                true => Err(ErrorCode::StoreUnavailable.into()),
                false => Ok(()),
            }
        }
        async fn list_parts(&self, _: &CallId) -> Result<Vec<PartKey>, ApiError> {
            Ok(Vec::new())
        }
        async fn get_parts(&self, _: &CallId, _: &[PartKey]) -> Result<Vec<Part>, ApiError> {
            Ok(Vec::new())
        }
        async fn delete_parts(&self, _: &[CallId]) -> Result<(), ApiError> {
            Ok(())
        }
        async fn prune_parts(&self, _: u64, _: usize) -> Result<usize, ApiError> {
            Ok(0)
        }
    }

    fn gate(fails: bool) -> (watch::Sender<bool>, Arc<Gate>, Arc<GatheredParts>) {
        let (opener, open) = watch::channel(false);
        let gate = Arc::new(Gate {
            open,
            batches: Mutex::default(),
            fails,
        });
        let gathered = Arc::new(GatheredParts::new(gate.clone()));
        (opener, gate, gathered)
    }

    fn batches(gate: &Gate) -> Vec<usize> {
        gate.batches.lock().expect("no panic").clone()
    }

    fn part(bytes: usize) -> Vec<(CallId, Part)> {
        let part = Part {
            epoch: 1,
            start: 0,
            data: Bytes::from(vec![b'x'; bytes]),
        };
        vec![(CallId::from("call"), part)]
    }

    #[tokio::test]
    async fn what_comes_meanwhile_is_put_together_and_a_lone_append_at_once() {
        let (opener, gate, gathered) = gate(false);
        let appends = join_all((0..50).map(|_| gathered.put_parts(part(1))));
        let open = async {
            tokio::task::yield_now().await;
            assert_eq!(batches(&gate), [1, 1]);
            opener.send_replace(true);
        };
        let (results, ()) = tokio::join!(appends, open);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(batches(&gate), [1, 1, 48]);
    }

    #[tokio::test]
    async fn a_batch_has_a_limit() {
        let (opener, gate, gathered) = gate(false);
        let appends = join_all((0..10).map(|_| gathered.put_parts(part(BATCH_BYTES / 2))));
        opener.send_replace(true);
        assert!(appends.await.iter().all(Result::is_ok));
        assert!(
            batches(&gate).iter().all(|parts| *parts <= 2),
            "{:?}",
            batches(&gate)
        );
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_of_a_batch() {
        let (opener, gate, gathered) = gate(true);
        opener.send_replace(true);
        let results = join_all((0..10).map(|_| gathered.put_parts(part(1)))).await;
        assert!(results.iter().all(Result::is_err));
        assert_eq!(batches(&gate).iter().sum::<usize>(), 10);
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_went_away_in_the_middle() {
        let (opener, gate, gathered) = gate(false);
        let start = |count| {
            let gathered = gathered.clone();
            tokio::spawn(
                async move { join_all((0..count).map(|_| gathered.put_parts(part(1)))).await },
            )
        };
        // They take both turns, and the second batch is that of others.
        let first = start(2);
        tokio::task::yield_now().await;
        assert_eq!(batches(&gate).len(), 2);
        let others = start(5);
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.expect_err("it was ended").is_cancelled());
        opener.send_replace(true);
        let results = others.await.expect("they end");
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(results.len(), 5);
    }

    #[tokio::test]
    async fn those_whose_batch_was_lost_put_again() {
        let (opener, gate, gathered) = gate(false);
        // Two others have the turns; then three wait, and one of them will put for all.
        let turns = gathered.turns.acquire_many(2).await.expect("open");
        let mut tasks: Vec<_> = (0..3)
            .map(|_| {
                let gathered = gathered.clone();
                tokio::spawn(async move { gathered.put_parts(part(1)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(turns);
        while batches(&gate).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(batches(&gate), [3]);
        let leader = tasks.remove(0);
        leader.abort();
        assert!(leader.await.expect_err("it was ended").is_cancelled());
        opener.send_replace(true);
        for task in tasks {
            assert!(task.await.expect("it ends").is_ok());
        }
        assert!(batches(&gate).iter().sum::<usize>() >= 5);
    }
}
