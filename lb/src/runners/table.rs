//! The table of runners: keeps a link to each that the sources name, and the fleet informed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use domain::HostPort;
use nodekit::exchange::Target;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::member::{Member, look_after};
use super::pace::Pace;
use super::roster::{Roster, difference};
use super::running::Running;
use super::sources::{Found, Resolver, Source, Sources, SystemResolver};
use super::waiters::Waiters;
use crate::management::Stats;
use crate::metrics::PlacerMetrics;
use crate::placement::{Fleet, FleetSettings, Health, Now, RunnerId, RunnerView};
use crate::remote::{Connector, Link, LinkSettings};

/// How often what has faded is forgotten, and gauges are set.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// What a runner counts for beside others, as long as nobody says otherwise.
const WEIGHT: u32 = 1;

/// Calls that are woken when a runner joins: each that finds room wakes another.
const WAKE_ON_JOIN: usize = 16;

/// How runners are looked after.
#[derive(Debug, Clone)]
pub struct RunnersSettings {
    /// How their connections are kept.
    pub link: LinkSettings,
    /// What placement goes by.
    pub fleet: FleetSettings,
    /// How often each is asked how it is.
    pub check_every: Duration,
    /// How long it may take to answer.
    pub check_timeout: Duration,
    /// The shortest time between two messages of a state feed.
    pub feed_interval: Duration,
    /// How many calls may wait for a runner.
    pub max_waiting: usize,
}

/// What a table of runners works with.
pub struct RunnersParts {
    /// Opens connections.
    pub connector: Arc<dyn Connector>,
    /// Where placement is counted.
    pub metrics: Arc<PlacerMetrics>,
}

/// The runners. Ends its tasks when it is dropped; see [`shutdown`](Self::shutdown).
pub struct Runners {
    shared: Arc<Shared>,
}

/// What the tasks and the calls share.
pub(crate) struct Shared {
    pub(super) fleet: Fleet,
    pub(super) waiters: Arc<Waiters>,
    pub(super) pace: Pace,
    pub(super) stats: Stats,
    pub(super) metrics: Arc<PlacerMetrics>,
    pub(super) settings: RunnersSettings,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) nodes_changed: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    connector: Arc<dyn Connector>,
    origin: Instant,
    members: RwLock<HashMap<RunnerId, Arc<Member>>>,
    roster: Mutex<Listed>,
}

/// What the sources say, and what became of it.
#[derive(Default)]
struct Listed {
    roster: Roster,
    present: Found,
    ids: HashMap<HostPort, RunnerId>,
}

impl Runners {
    /// Finds runners and looks after them from now on.
    pub fn start(parts: RunnersParts, settings: RunnersSettings, sources: Sources) -> Self {
        Self::start_with(parts, settings, sources, Arc::new(SystemResolver))
    }

    pub(super) fn start_with(
        parts: RunnersParts,
        settings: RunnersSettings,
        sources: Sources,
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        let shared = Arc::new(Shared {
            fleet: Fleet::new(settings.fleet.clone(), (settings.link.random)()),
            waiters: Waiters::new(settings.max_waiting),
            pace: Pace::default(),
            stats: Stats::default(),
            metrics: parts.metrics,
            settings,
            resolver,
            nodes_changed: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            connector: parts.connector,
            origin: Instant::now(),
            members: RwLock::default(),
            roster: Mutex::default(),
        });
        sources.start(&shared);
        shared.tasks.spawn(tidy(Arc::clone(&shared)));
        Self { shared }
    }

    /// What is known of each runner, by address.
    pub fn view(&self) -> Vec<RunnerView> {
        self.shared.fleet.runners(self.shared.now())
    }

    /// The stored nodes have changed: reads them now.
    pub fn nodes_changed(&self) {
        self.shared.nodes_changed.notify_one();
    }

    /// Stops to look after the runners, and waits until the calls that they have are over, at most
    /// for `limit`; whether they are.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        tokio::time::timeout(limit, self.shared.tasks.wait())
            .await
            .is_ok()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.shared.stats
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
    }
}

impl fmt::Debug for Runners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runners")
            .field("fleet", &self.shared.fleet)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The fleet's time.
    pub(crate) fn now(&self) -> Now {
        self.origin.elapsed()
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    pub(crate) fn metrics(&self) -> &PlacerMetrics {
        &self.metrics
    }

    /// Seconds after which a client that is turned away may find room.
    pub(crate) fn seconds_to_room(&self) -> Option<u32> {
        self.pace.seconds_to_serve(self.waiters.len(), self.now())
    }

    /// Runs what outlives its call.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Randomness for pauses.
    pub(crate) fn random(&self) -> fn() -> u64 {
        self.settings.link.random
    }

    /// Counts a call as sent to a runner, and gives the way there; none if it was removed meanwhile.
    pub(crate) fn begin(
        self: &Arc<Self>,
        runner: RunnerId,
        target: &Arc<Target>,
    ) -> Option<(Arc<Link>, Running)> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let member = Arc::clone(members.get(&runner)?);
        drop(members);
        let shared = Arc::clone(self);
        let running = Running::begin(shared, runner, member.address(), Arc::clone(target));
        Some((member.link(), running))
    }

    /// A source could not be asked: what it said last holds.
    pub(super) fn look_failed(&self, why: &dyn fmt::Display) {
        self.metrics.look_failed();
        tracing::warn!(%why, "the list of runners could not be read");
    }

    /// A source says which runners it knows.
    pub(super) fn found(self: &Arc<Self>, source: Source, found: Found) {
        let mut listed = self.listed();
        listed.roster.put(source, found);
        let wanted = listed.roster.wanted();
        let difference = difference(&listed.present, wanted.clone());
        if self.stop.is_cancelled() {
            return;
        }
        let gone: Vec<_> = difference
            .remove
            .iter()
            .filter_map(|address| listed.ids.remove(address))
            .collect();
        self.remove(&gone);
        let addresses = difference
            .add
            .iter()
            .map(|(address, _)| (address.as_str(), WEIGHT));
        let joined = match difference.add.is_empty() {
            true => Vec::new(),
            false => self.fleet.add_all(addresses, self.now()),
        };
        for ((address, _), id) in difference.add.into_iter().zip(&joined) {
            match self.join(&address, *id) {
                true => drop(listed.ids.insert(address, *id)),
                false => self.fleet.remove(*id, self.now()),
            }
        }
        listed.present = wanted;
        drop(listed);
        if !joined.is_empty() {
            self.waiters
                .wake_any(WAKE_ON_JOIN.saturating_mul(joined.len()));
        }
    }

    fn join(self: &Arc<Self>, address: &HostPort, id: RunnerId) -> bool {
        let stop = self.stop.child_token();
        let link = Link::start(
            address.as_str(),
            &self.connector,
            &self.settings.link,
            &self.tasks,
            &stop,
        );
        let Some(link) = link else {
            tracing::error!(runner = %address, "no address of a runner");
            return false;
        };
        tracing::info!(runner = %address, "a runner joins");
        let member = Arc::new(Member::new(id, address, link, stop));
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.insert(id, Arc::clone(&member));
        drop(members);
        self.tasks.spawn(look_after(Arc::clone(self), member));
        true
    }

    fn remove(&self, gone: &[RunnerId]) {
        if gone.is_empty() {
            return;
        }
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let gone_members: Vec<_> = gone.iter().filter_map(|id| members.remove(id)).collect();
        drop(members);
        for member in gone_members {
            tracing::info!(runner = %member.address(), "a runner leaves");
            member.stop();
        }
        self.fleet.remove_all(gone, self.now());
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what has faded, and sets the gauges.
async fn tidy(shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let tidying = async {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            let now = shared.now();
            shared.fleet.tidy(now);
            shared.stats.tidy(now);
            let runners = shared.fleet.runners(now);
            let healthy = runners
                .iter()
                .filter(|runner| runner.health == Health::Healthy);
            shared.metrics.runners(runners.len(), healthy.count());
            shared.metrics.waiting(shared.waiters.len());
        }
    };
    stop.run_until_cancelled(tidying).await;
}

#[cfg(test)]
mod tests;
