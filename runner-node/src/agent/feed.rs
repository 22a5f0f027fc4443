//! The state of this runner for those who follow it: the load balancers (DESIGN 5).
//!
//! Calls only mark their function. A task looks at the marked functions every few milliseconds and
//! writes what has changed on a board, under ascending versions; a watcher that comes back takes
//! what is newer than its last visit. So a slow watcher costs nothing but a number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::SlotKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::mark::{Changes, Mark};

/// How often marked functions are looked at.
const INTERVAL: Duration = Duration::from_millis(5);
/// The same for those with a container that has become idle after there was none.
const URGENT_INTERVAL: Duration = Duration::from_millis(1);
/// Functions without anything that are remembered for watchers who have not heard of their end.
const MAX_GONE: usize = 16 * 1024;

/// What load balancers are told of a function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionView {
    /// Containers that wait for a call.
    pub idle: usize,
    /// Containers that run a call.
    pub busy: usize,
    /// Calls that wait for a container.
    pub waiting: usize,
    /// Moving average of how long calls waited for a container; it does not decay by itself.
    pub wait_nanos: u64,
}

impl FunctionView {
    /// Whether there is nothing of the function here.
    pub fn is_nothing(&self) -> bool {
        (self.idle, self.busy, self.waiting) == (0, 0, 0)
    }
}

/// How busy the runner is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeView {
    /// All of its memory.
    pub memory_total_bytes: u64,
    /// What no container holds of it.
    pub memory_free_bytes: u64,
    /// All of its CPUs, in thousandths.
    pub cpu_total_millis: u64,
    /// What no container holds of them.
    pub cpu_free_millis: u64,
    /// Calls that run.
    pub running: u64,
    /// Calls that wait.
    pub waiting: u64,
}

/// What is new for a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The first one: what is not in it is not there.
    pub complete: bool,
    /// Functions that have changed, also those of which nothing is left.
    pub functions: Vec<(SlotKey, FunctionView)>,
    /// How busy the runner is.
    pub load: NodeView,
    /// The runner takes no new calls.
    pub draining: bool,
}

/// The watcher was away for so long that it must begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too far behind")]
pub struct Lagged;

/// The board, and the marks of functions that are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Feed {
    changes: Arc<Changes>,
    board: Mutex<Board>,
    version: watch::Sender<Version>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Version {
    now: u64,
    /// What must be told at once is not newer than this.
    urgent: u64,
}

impl Feed {
    /// A mark for a new function.
    pub(super) fn mark(&self, key: SlotKey) -> Mark {
        Mark::new(Arc::clone(&self.changes), key)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the marked functions.
    fn collect(&self, shared: &Shared, urgent: bool) {
        let marked = self.changes.take();
        let mut board = self.board();
        if board.watchers.is_empty() {
            return;
        }
        let before = board.now;
        for key in marked {
            board.put(key, look(shared, &key));
        }
        board.prune();
        let now = board.now;
        drop(board);
        if now > before {
            self.version.send_modify(|version| {
                version.now = now;
                if urgent {
                    version.urgent = now;
                }
            });
        }
    }

    /// Adds a watcher, and makes the board true if it is the first one.
    fn join(&self, shared: &Shared) -> u64 {
        let mut board = self.board();
        if board.watchers.is_empty() {
            self.changes.watch(true);
            board.clear();
            for key in shared.keys() {
                board.put(key, look(shared, &key));
            }
        }
        board.join()
    }

    fn leave(&self, watcher: u64) {
        let mut board = self.board();
        board.watchers.remove(&watcher);
        if board.watchers.is_empty() {
            self.changes.watch(false);
            board.clear();
        }
    }
}

/// The mark is cleared first: what happens from then on marks the function again.
fn look(shared: &Shared, key: &SlotKey) -> FunctionView {
    let Some(function) = shared.known_function(key) else {
        return FunctionView::default();
    };
    let mark = function.queue.mark();
    mark.clear();
    let view = function.view();
    mark.told(view.idle > 0);
    view
}

impl Shared {
    fn keys(&self) -> Vec<SlotKey> {
        let mut keys = Vec::new();
        for shard in &self.functions {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            keys.extend(shard.keys().copied());
        }
        keys
    }

    /// All functions as they are now, without a trace in the feed.
    #[cfg(test)]
    pub(super) fn peek(&self) -> Vec<(SlotKey, FunctionView)> {
        let keys = self.keys().into_iter();
        keys.filter_map(|key| Some((key, self.known_function(&key)?.view())))
            .collect()
    }

    fn load(&self) -> NodeView {
        let (total, free) = (self.pool.total(), self.pool.utilisation().available);
        let count = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        NodeView {
            memory_total_bytes: total.memory_bytes,
            memory_free_bytes: free.memory_bytes,
            cpu_total_millis: total.cpu_millis,
            cpu_free_millis: free.cpu_millis,
            running: count(self.metrics.running.get()),
            waiting: count(self.metrics.queued.get()),
        }
    }
}

/// Looks at marked functions until the agent ends.
pub(super) async fn publish(shared: Arc<Shared>) {
    let changes = &shared.feed.changes;
    let looking = async {
        let mut last = Instant::now();
        loop {
            let mut urgent = tokio::select! {
                () = changes.urgent.notified() => true,
                () = changes.some.notified() => false,
            };
            if !urgent {
                urgent = tokio::select! {
                    () = changes.urgent.notified() => true,
                    () = sleep_until(last + INTERVAL) => false,
                };
            }
            if urgent {
                sleep_until(last + URGENT_INTERVAL).await;
            }
            last = Instant::now();
            shared.feed.collect(&shared, urgent);
        }
    };
    shared.stopping.run_until_cancelled(looking).await;
}

/// The table of functions, and which version each of them has.
#[derive(Debug, Default)]
struct Board {
    table: HashMap<SlotKey, (u64, FunctionView)>,
    /// The functions of the table by version.
    log: BTreeMap<u64, SlotKey>,
    /// The versions at which functions went.
    gone: BTreeSet<u64>,
    now: u64,
    /// Ends of functions up to this version are forgotten.
    horizon: u64,
    /// What each watcher has seen.
    watchers: BTreeMap<u64, u64>,
    next_watcher: u64,
}

impl Board {
    /// Writes down how a function is.
    fn put(&mut self, key: SlotKey, view: FunctionView) {
        let view = match view.is_nothing() {
            true => FunctionView::default(),
            false => view,
        };
        match self.table.get(&key) {
            None if view.is_nothing() => return,
            Some((_, known)) if *known == view => return,
            Some((version, _)) => {
                self.log.remove(version);
                self.gone.remove(version);
            }
            None => {}
        }
        self.now += 1;
        self.log.insert(self.now, key);
        self.table.insert(key, (self.now, view));
        if view.is_nothing() {
            self.gone.insert(self.now);
        }
    }

    /// Forgets functions that are gone and of which every watcher knows it, and more if there are
    /// too many.
    fn prune(&mut self) {
        let seen = self.watchers.values().min().copied().unwrap_or(self.now);
        while let Some(version) = self.gone.first().copied() {
            if version > seen && self.gone.len() <= MAX_GONE {
                break;
            }
            self.gone.remove(&version);
            if let Some(key) = self.log.remove(&version) {
                self.table.remove(&key);
            }
            self.horizon = version;
        }
    }

    fn join(&mut self) -> u64 {
        let id = self.next_watcher;
        self.next_watcher += 1;
        self.watchers.insert(id, self.now);
        id
    }

    /// All that is there.
    fn all(&mut self, watcher: u64) -> Vec<(SlotKey, FunctionView)> {
        self.watchers.insert(watcher, self.now);
        let all = self.table.iter();
        all.filter(|(_, (_, view))| !view.is_nothing())
            .map(|(key, (_, view))| (*key, *view))
            .collect()
    }

    /// What a watcher has not seen yet.
    fn news(&mut self, watcher: u64) -> Result<Vec<(SlotKey, FunctionView)>, Lagged> {
        let seen = self
            .watchers
            .insert(watcher, self.now)
            .unwrap_or(self.horizon);
        if seen < self.horizon {
            return Err(Lagged);
        }
        let news = self.log.range(seen + 1..);
        let news = news
            .filter_map(|(_, key)| self.table.get(key).map(|(_, view)| (*key, *view)))
            .collect();
        self.prune();
        Ok(news)
    }

    /// Versions go on, so that nobody takes an old one for a new one.
    fn clear(&mut self) {
        self.table.clear();
        self.log.clear();
        self.gone.clear();
        self.horizon = self.now;
    }
}

/// Follows the state of a runner. Dropping it ends that.
pub struct Watcher {
    shared: Arc<Shared>,
    id: u64,
    versions: watch::Receiver<Version>,
    min_interval: Duration,
    heartbeat: Duration,
    seen: u64,
    /// When the last update was given out.
    last: Option<Instant>,
    draining_told: bool,
    /// The agent was drained, or stopped.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watcher").field(&self.id).finish()
    }
}

impl Watcher {
    pub(super) fn new(shared: &Arc<Shared>, min_interval: Duration, heartbeat: Duration) -> Self {
        let id = shared.feed.join(shared);
        let (calls, stopping) = (shared.calls.clone(), shared.stopping.clone());
        let over = async move {
            tokio::select! {
                () = calls.wait() => {}
                () = stopping.cancelled() => {}
            }
        };
        Self {
            shared: Arc::clone(shared),
            id,
            versions: shared.feed.version.subscribe(),
            min_interval,
            heartbeat,
            seen: 0,
            last: None,
            draining_told: false,
            over: Box::pin(over),
            ended: false,
        }
    }

    /// The next update, the complete one first; nothing when the agent has been drained.
    ///
    /// # Errors
    /// [`Lagged`] when it was not asked for so long that it has to be begun anew.
    pub async fn next(&mut self) -> Result<Option<Update>, Lagged> {
        let complete = match self.last {
            None => true,
            Some(last) => {
                if self.ended || !self.wait(last).await {
                    self.ended = true;
                    return Ok(None);
                }
                false
            }
        };
        let draining = self.shared.closing.is_cancelled();
        self.draining_told = draining;
        self.last = Some(Instant::now());
        let functions = {
            let mut board = self.shared.feed.board();
            self.seen = board.now;
            match complete {
                true => board.all(self.id),
                false => board.news(self.id)?,
            }
        };
        Ok(Some(Update {
            complete,
            functions,
            load: self.shared.load(),
            draining,
        }))
    }

    /// Waits until an update is due; false when there will be none.
    async fn wait(&mut self, last: Instant) -> bool {
        let (may, must) = (last + self.min_interval, last + self.heartbeat);
        loop {
            let version = *self.versions.borrow_and_update();
            let draining_news = self.shared.closing.is_cancelled() && !self.draining_told;
            if draining_news || version.urgent > self.seen {
                return true;
            }
            let due = match version.now > self.seen {
                true => may.min(must),
                false => must,
            };
            if Instant::now() >= due {
                return true;
            }
            tokio::select! {
                biased;
                () = self.shared.closing.cancelled(), if !self.draining_told => {}
                () = &mut self.over => return false,
                changed = self.versions.changed() => if changed.is_err() {
                    return false;
                },
                () = sleep_until(due) => {}
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.feed.leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::function;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(usize, FunctionView),
        Join,
        Leave(usize),
        Read(usize),
    }

    fn view() -> impl Strategy<Value = FunctionView> {
        prop_oneof![
            Just(FunctionView::default()),
            (0usize..3, 0usize..3, 0usize..3, 0u64..3).prop_map(
                |(idle, busy, waiting, wait_nanos)| FunctionView {
                    idle,
                    busy,
                    waiting,
                    wait_nanos
                }
            ),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0usize..6, view()).prop_map(|(at, view)| Step::Put(at, view)),
            1 => Just(Step::Join),
            1 => (0usize..4).prop_map(Step::Leave),
            3 => (0usize..4).prop_map(Step::Read),
        ]
    }

    type Table = HashMap<SlotKey, FunctionView>;

    fn apply(table: &mut Table, news: Vec<(SlotKey, FunctionView)>) {
        for (key, view) in news {
            match view.is_nothing() {
                true => table.remove(&key),
                false => table.insert(key, view),
            };
        }
    }

    proptest! {
        /// Whoever applies all that it is given has the same table as the board, and nothing of
        /// what is gone is kept once all have heard of it.
        #[test]
        fn watchers_end_with_the_table_of_the_board(steps in prop::collection::vec(step(), 1..100)) {
            let keys: Vec<_> = (0..6).map(|n| function(&n.to_string()).slot_key).collect();
            let (mut board, mut model) = (Board::default(), Table::new());
            let mut watchers: Vec<(u64, Table)> = Vec::new();
            let read = |board: &mut Board, (id, table): &mut (u64, Table)| {
                apply(table, board.news(*id).expect("not far behind"));
            };
            for step in steps {
                match step {
                    Step::Put(at, view) => {
                        board.put(keys[at], view);
                        apply(&mut model, vec![(keys[at], view)]);
                    }
                    Step::Join => {
                        let id = board.join();
                        watchers.push((id, board.all(id).into_iter().collect()));
                    }
                    Step::Leave(n) if n < watchers.len() => {
                        board.watchers.remove(&watchers.remove(n).0);
                    }
                    Step::Read(n) if n < watchers.len() => read(&mut board, &mut watchers[n]),
                    _ => {}
                }
            }
            for watcher in &mut watchers {
                read(&mut board, watcher);
                prop_assert_eq!(&watcher.1, &model);
            }
            board.prune();
            prop_assert_eq!(board.table.len(), model.len());
            prop_assert_eq!(board.log.len(), model.len());
            prop_assert!(board.gone.is_empty());
        }
    }

    #[test]
    fn a_watcher_that_stays_away_does_not_cost_memory() {
        let mut board = Board::default();
        let watcher = board.join();
        let busy = FunctionView {
            busy: 1,
            ..FunctionView::default()
        };
        for n in 0..MAX_GONE + 10 {
            let key = function(&n.to_string()).slot_key;
            board.put(key, busy);
            board.put(key, FunctionView::default());
            board.prune();
        }
        assert_eq!(board.table.len(), MAX_GONE);
        assert_eq!(board.news(watcher), Err(Lagged));
    }
}
