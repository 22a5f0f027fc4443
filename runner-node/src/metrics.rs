//! The metrics of a runner, by the original's names (spec/10 10.2).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use domain::{ContainerState, FnSpec};
use nodekit::label_set;
use nodekit::metrics::{Counter, Family, Gauge, Histogram, Metrics, buckets};

use crate::resources::pool::Utilisation;

label_set! {
    /// Who a container works for.
    pub struct OwnerLabels {
        /// The app.
        app_id: String,
        /// The function.
        fn_id: String,
        /// The image.
        image_name: String,
    }
}

label_set! {
    /// An eviction, by the state that the container was in.
    pub struct EvictionLabels {
        /// The state.
        container_state: &'static str,
        /// The app.
        app_id: String,
        /// The function.
        fn_id: String,
        /// The image.
        image_name: String,
    }
}

label_set! {
    /// The opening of a container's socket, by how it ended.
    pub struct UdsInitLabels {
        /// `initialized`, `canceled` or `timedout`.
        container_uds_state: &'static str,
        /// The app.
        app_id: String,
        /// The function.
        fn_id: String,
        /// The image.
        image_name: String,
    }
}

/// The states of a container that have metrics, in the order of the arrays below.
const STATES: [ContainerState; 5] = [
    ContainerState::Wait,
    ContainerState::Start,
    ContainerState::Idle,
    ContainerState::Paused,
    ContainerState::Busy,
];

/// How the wait for a container's socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdsOutcome {
    /// The socket is open.
    Initialized,
    /// The container ended first, or its socket is not one.
    Canceled,
    /// The time was up.
    TimedOut,
}

impl UdsOutcome {
    const ALL: [Self; 3] = [Self::Initialized, Self::Canceled, Self::TimedOut];

    fn as_str(self) -> &'static str {
        match self {
            Self::Initialized => "initialized",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedout",
        }
    }
}

/// The metrics of one runner. Clones share them.
#[derive(Debug, Clone)]
pub struct RunnerMetrics {
    /// Calls that came.
    pub calls: Counter,
    /// Calls that wait for a container.
    pub queued: Gauge,
    /// Calls that run.
    pub running: Gauge,
    /// Calls that succeeded.
    pub completed: Counter,
    /// Calls whose caller went away.
    pub canceled: Counter,
    /// Calls that took too long.
    pub timeouts: Counter,
    /// Calls that failed otherwise.
    pub errors: Counter,
    /// Calls that found no room.
    pub server_busy: Counter,
    utilisation: [Gauge; 4],
    families: Arc<Families>,
}

#[derive(Debug)]
struct Families {
    /// Two versions of a function may have the same labels, and share their metrics then.
    owners: Mutex<HashMap<OwnerLabels, Weak<Owner>>>,
    totals: [Family<OwnerLabels, Gauge>; 5],
    durations: [Family<OwnerLabels, Histogram>; 5],
    evictions: Family<EvictionLabels, Counter>,
    uds_init: Family<UdsInitLabels, Histogram>,
}

impl RunnerMetrics {
    /// Registers the metrics of a runner.
    pub fn new(metrics: &mut Metrics) -> Self {
        let total = |metrics: &mut Metrics, name, help| metrics.gauges(name, help);
        let duration = |metrics: &mut Metrics, name, help| {
            metrics.histograms(name, help, buckets::LATENCY_MILLIS)
        };
        let families = Families {
            owners: Mutex::default(),
            totals: [
                total(
                    metrics,
                    "fn_container_wait_total",
                    "Containers that wait for memory and CPU",
                ),
                total(
                    metrics,
                    "fn_container_start_total",
                    "Containers that are being pulled, created or started",
                ),
                total(
                    metrics,
                    "fn_container_idle_total",
                    "Containers that are ready for a call",
                ),
                total(
                    metrics,
                    "fn_container_paused_total",
                    "Containers that are idle and frozen",
                ),
                total(
                    metrics,
                    "fn_container_busy_total",
                    "Containers that run a call",
                ),
            ],
            // The original measures milliseconds under this name; its dashboards expect them.
            durations: [
                duration(
                    metrics,
                    "fn_container_wait_duration_seconds",
                    "Milliseconds that containers waited for memory and CPU",
                ),
                duration(
                    metrics,
                    "fn_container_start_duration_seconds",
                    "Milliseconds that containers took to start",
                ),
                duration(
                    metrics,
                    "fn_container_idle_duration_seconds",
                    "Milliseconds that containers were idle at a time",
                ),
                duration(
                    metrics,
                    "fn_container_paused_duration_seconds",
                    "Milliseconds that containers were frozen at a time",
                ),
                duration(
                    metrics,
                    "fn_container_busy_duration_seconds",
                    "Milliseconds that containers were busy at a time",
                ),
            ],
            evictions: metrics.counters(
                "fn_container_evictions",
                "Idle containers that made room for others",
            ),
            uds_init: metrics.histograms(
                "fn_container_uds_init_latency",
                "Milliseconds from the start of a container to its open socket",
                buckets::LATENCY_MILLIS,
            ),
        };
        Self {
            calls: metrics.counter("fn_calls", "Calls that came to the agent"),
            queued: metrics.gauge("fn_queued", "Calls that wait for a container"),
            running: metrics.gauge("fn_running", "Calls that run"),
            completed: metrics.counter("fn_completed", "Calls that succeeded"),
            canceled: metrics.counter("fn_canceled", "Calls whose caller went away"),
            timeouts: metrics.counter("fn_timeouts", "Calls that took too long"),
            errors: metrics.counter("fn_errors", "Calls that failed"),
            server_busy: metrics.counter("fn_server_busy", "Calls that found no room"),
            utilisation: [
                metrics.gauge("fn_util_mem_used", "Bytes of memory that containers hold"),
                metrics.gauge(
                    "fn_util_mem_avail",
                    "Bytes of memory that containers may still take",
                ),
                metrics.gauge(
                    "fn_util_cpu_used",
                    "Thousandths of a CPU that containers hold",
                ),
                metrics.gauge(
                    "fn_util_cpu_avail",
                    "Thousandths of a CPU that containers may still take",
                ),
            ],
            families: Arc::new(families),
        }
    }

    /// The metrics of a function's containers.
    pub fn owner(&self, spec: &FnSpec) -> OwnerMetrics {
        let labels = OwnerLabels {
            app_id: spec.app_id.to_string(),
            fn_id: spec.fn_id.to_string(),
            image_name: spec.image.clone(),
        };
        let mut owners = self
            .families
            .owners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = owners.get(&labels).and_then(Weak::upgrade) {
            return OwnerMetrics(owner);
        }
        let owner = Arc::new(Owner {
            totals: self
                .families
                .totals
                .each_ref()
                .map(|family| family.handle(&labels)),
            durations: self
                .families
                .durations
                .each_ref()
                .map(|family| family.handle(&labels)),
            labels: labels.clone(),
            families: Arc::clone(&self.families),
        });
        owners.insert(labels, Arc::downgrade(&owner));
        OwnerMetrics(owner)
    }

    /// Notes how much memory and CPU is held.
    pub fn utilisation(&self, now: &Utilisation) {
        let values = [
            now.used.memory_bytes,
            now.available.memory_bytes,
            now.used.cpu_millis,
            now.available.cpu_millis,
        ];
        for (gauge, value) in self.utilisation.iter().zip(values) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

/// The metrics of one function's containers: handles, so that a call looks nothing up.
#[derive(Debug, Clone)]
pub struct OwnerMetrics(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    totals: [Gauge; 5],
    durations: [Histogram; 5],
    labels: OwnerLabels,
    families: Arc<Families>,
}

fn index(state: ContainerState) -> Option<usize> {
    STATES.iter().position(|other| *other == state)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl OwnerMetrics {
    /// A container has entered `state`.
    pub fn entered(&self, state: ContainerState) {
        if let Some(at) = index(state) {
            self.0.totals[at].add(1);
        }
    }

    /// A container has left `state` after `spent` in it.
    pub fn left(&self, state: ContainerState, spent: Duration) {
        if let Some(at) = index(state) {
            self.0.totals[at].add(-1);
            self.0.durations[at].observe(millis(spent));
        }
    }

    /// A container that was in `state` has made room for another.
    pub fn evicted(&self, state: ContainerState) {
        self.0
            .families
            .evictions
            .handle(&eviction_labels(&self.0.labels, state))
            .inc();
    }

    /// The wait for a container's socket took `waited` and ended as `outcome`.
    pub fn uds_init(&self, waited: Duration, outcome: UdsOutcome) {
        self.0
            .families
            .uds_init
            .handle(&uds_init_labels(&self.0.labels, outcome))
            .observe(millis(waited));
    }
}

fn eviction_labels(owner: &OwnerLabels, state: ContainerState) -> EvictionLabels {
    let OwnerLabels {
        app_id,
        fn_id,
        image_name,
    } = owner.clone();
    EvictionLabels {
        container_state: state.as_str(),
        app_id,
        fn_id,
        image_name,
    }
}

fn uds_init_labels(owner: &OwnerLabels, outcome: UdsOutcome) -> UdsInitLabels {
    let OwnerLabels {
        app_id,
        fn_id,
        image_name,
    } = owner.clone();
    UdsInitLabels {
        container_uds_state: outcome.as_str(),
        app_id,
        fn_id,
        image_name,
    }
}

impl Drop for Owner {
    /// Nobody measures under these labels any more, unless the function came back in this instant.
    fn drop(&mut self) {
        let mut owners = self
            .families
            .owners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if owners
            .get(&self.labels)
            .is_some_and(|owner| owner.strong_count() > 0)
        {
            return;
        }
        owners.remove(&self.labels);
        for family in &self.families.totals {
            family.remove(&self.labels);
        }
        for family in &self.families.durations {
            family.remove(&self.labels);
        }
        for state in STATES {
            self.families
                .evictions
                .remove(&eviction_labels(&self.labels, state));
        }
        for outcome in UdsOutcome::ALL {
            self.families
                .uds_init
                .remove(&uds_init_labels(&self.labels, outcome));
        }
    }
}
