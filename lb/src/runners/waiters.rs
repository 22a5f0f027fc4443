//! Calls that no runner had room for, in the order in which they came. What frees room wakes as many
//! of them as may find some: waking all would have thousands ask the same few runners.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::SlotKey;
use tokio::sync::oneshot;

/// The waiting calls.
#[derive(Debug)]
pub(crate) struct Waiters {
    queues: Mutex<Queues>,
    /// Calls that wait, whether they are in a queue or on their way to a runner.
    waiting: AtomicUsize,
    limit: usize,
}

/// By function, because room is mostly room for one function.
#[derive(Debug, Default)]
struct Queues(HashMap<SlotKey, VecDeque<oneshot::Sender<()>>>);

/// Queues shorter than this are not looked through for those that have gone away.
const SHORT: usize = 64;

/// One waiting call.
#[derive(Debug)]
pub(crate) struct Waiting {
    waiters: Arc<Waiters>,
}

impl Waiters {
    /// At most `limit` calls may wait.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            queues: Mutex::default(),
            waiting: AtomicUsize::new(0),
            limit,
        })
    }

    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Makes a call a waiting one; none if there are too many.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Waiting> {
        let admitted = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < self.limit).then_some(waiting + 1)
            });
        admitted.ok().map(|_| Waiting {
            waiters: Arc::clone(self),
        })
    }

    /// There may be room for calls with this key: wakes up to `count`, those of the function first,
    /// each group from its oldest on.
    pub(crate) fn wake(&self, key: &SlotKey, count: usize) {
        if self.len() == 0 {
            return;
        }
        let mut queues = self.lock();
        let woken = queues.wake(key, count);
        queues.wake_any(count - woken);
    }

    /// There may be room for any calls.
    pub(crate) fn wake_any(&self, count: usize) {
        if self.len() > 0 {
            self.lock().wake_any(count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Queues up. Dropping what this returns leaves the queue: a later wake goes to the next one.
    pub(crate) fn queue(&self, key: &SlotKey) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let waiting = self.waiters.len();
        let mut queues = self.waiters.lock();
        let queue = queues.0.entry(*key).or_default();
        // More than half have gone away, so that this pays for itself.
        if queue.len() >= SHORT && queue.len() > 2 * waiting {
            queue.retain(|sender| !sender.is_closed());
        }
        queue.push_back(sender);
        receiver
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiters.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queues {
    fn wake(&mut self, key: &SlotKey, count: usize) -> usize {
        let Some(queue) = self.0.get_mut(key) else {
            return 0;
        };
        let mut woken = 0;
        while woken < count
            && let Some(sender) = queue.pop_front()
        {
            // One that has gone away hears nothing.
            woken += usize::from(sender.send(()).is_ok());
        }
        if queue.is_empty() {
            self.0.remove(key);
        }
        woken
    }

    fn wake_any(&mut self, mut count: usize) {
        while count > 0
            && let Some(key) = self.0.keys().next().copied()
        {
            count -= self.wake(&key, 1).min(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SlotKey {
        let mut spec = crate::tests::spec();
        spec.image = name.to_owned();
        spec.slot_key()
    }

    #[test]
    fn the_oldest_of_the_function_is_woken_and_then_others() {
        let waiters = Waiters::new(10);
        let waiting = waiters.admit().expect("room");
        let (a, b) = (key("a"), key("b"));
        let (mut first, mut second) = (waiting.queue(&a), waiting.queue(&a));
        let mut other = waiting.queue(&b);
        waiters.wake(&a, 1);
        assert_eq!(first.try_recv(), Ok(()));
        assert!(second.try_recv().is_err() && other.try_recv().is_err());
        waiters.wake(&a, 2);
        assert_eq!((second.try_recv(), other.try_recv()), (Ok(()), Ok(())));
        assert!(waiters.lock().0.is_empty());
    }

    #[test]
    fn a_wake_that_nobody_hears_goes_to_the_next() {
        let waiters = Waiters::new(10);
        let waiting = waiters.admit().expect("room");
        let (gone, mut here) = (waiting.queue(&key("a")), waiting.queue(&key("b")));
        drop(gone);
        waiters.wake_any(1);
        assert_eq!(here.try_recv(), Ok(()));
        let mut first = waiting.queue(&key("a"));
        (0..10 * SHORT).for_each(|_| drop(waiting.queue(&key("a"))));
        let kept = waiters.lock().0.values().map(VecDeque::len).sum::<usize>();
        assert!(kept <= SHORT, "{kept} that have gone away are kept");
        waiters.wake(&key("a"), 1);
        assert_eq!(first.try_recv(), Ok(()));
    }

    #[test]
    fn no_more_than_the_limit_wait() {
        let waiters = Waiters::new(1);
        let first = waiters.admit().expect("room");
        assert!(waiters.admit().is_none());
        drop(first);
        assert!(waiters.admit().is_some());
    }
}
