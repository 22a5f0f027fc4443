//! A registry of metrics per node, rendered for Prometheus (spec/10 10.2).
//!
//! Whoever measures registers a metric once, keeps the handle, and updates it without a lookup. The
//! names are the original's, to the letter: dashboards and the web UI read them (spec/13 13.3).

pub mod buckets;
mod labels;
mod process;
mod values;

use std::fmt;
use std::hash::Hash;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::{Family as RawFamily, MetricConstructor};
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub use values::{Counter, Gauge};

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The prefix of every metric but those of the process.
const NAMESPACE: &str = "fn";

/// A set of labels; made by [`label_set!`](crate::label_set!).
pub trait LabelSet:
    EncodeLabelSet + Clone + Hash + Eq + Send + Sync + fmt::Debug + 'static
{
    /// The names of the labels.
    const NAMES: &'static [&'static str];
}

/// What is known of a metric, for documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricInfo {
    /// Its full name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub help: &'static str,
}

/// A metric for each set of labels. A handle outlives the removal of its set, but is then no longer
/// rendered: remove a set only when nobody will measure under it.
pub struct Family<L, M> {
    raw: RawFamily<L, M, Make<M>>,
}

impl<L: LabelSet, M: Clone> Family<L, M> {
    /// The metric of this set of labels; made when there is none. Takes a lock: keep the handle.
    pub fn handle(&self, labels: &L) -> M {
        self.raw.get_or_create_owned(labels)
    }

    /// Forgets a set of labels, so that sets which nobody uses any more do not pile up.
    pub fn remove(&self, labels: &L) {
        self.raw.remove(labels);
    }
}

impl<L, M> Clone for Family<L, M> {
    fn clone(&self) -> Self {
        Self {
            raw: self.raw.clone(),
        }
    }
}

impl<L, M> fmt::Debug for Family<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Family")
    }
}

/// Makes the metric of a new set of labels.
struct Make<M> {
    buckets: &'static [f64],
    make: fn(&'static [f64]) -> M,
}

impl<M> Clone for Make<M> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<M> MetricConstructor<M> for Make<M> {
    fn new_metric(&self) -> M {
        (self.make)(self.buckets)
    }
}

/// The metrics of one node. Several nodes fit in one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    listing: Vec<MetricInfo>,
}

impl Metrics {
    /// A registry that holds the metrics of the process.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::ProcessCollector));
        Self {
            registry,
            listing: process::LISTING.to_vec(),
        }
    }

    /// Registers a count that only grows. `name` is the full name, `fn_...`.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        self.register(name, help, &[], "counter", Counter::default())
    }

    /// Registers a number that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        self.register(name, help, &[], "gauge", Gauge::default())
    }

    /// Registers a distribution over `buckets`.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        buckets: &'static [f64],
    ) -> Histogram {
        self.register(name, help, &[], "histogram", histogram(buckets))
    }

    /// Registers a counter for each set of labels.
    pub fn counters<L: LabelSet>(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Family<L, Counter> {
        self.family(name, help, "counter", &[], |_| Counter::default())
    }

    /// Registers a gauge for each set of labels.
    pub fn gauges<L: LabelSet>(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Family<L, Gauge> {
        self.family(name, help, "gauge", &[], |_| Gauge::default())
    }

    /// Registers a distribution over `buckets` for each set of labels.
    pub fn histograms<L: LabelSet>(
        &mut self,
        name: &'static str,
        help: &'static str,
        buckets: &'static [f64],
    ) -> Family<L, Histogram> {
        self.family(name, help, "histogram", buckets, histogram)
    }

    /// Every metric that is registered, by name.
    pub fn listing(&self) -> Vec<MetricInfo> {
        let mut listing = self.listing.clone();
        listing.sort_unstable();
        listing
    }

    /// All metrics in Prometheus' text format, to be sent as [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(4096);
        // Writing to a string cannot fail, and our own metrics do not.
        if let Err(error) = encode_registry(&mut text, &self.registry) {
            tracing::error!(%error, "metrics could not be rendered");
        }
        text
    }

    fn family<L: LabelSet, M>(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        buckets: &'static [f64],
        make: fn(&'static [f64]) -> M,
    ) -> Family<L, M>
    where
        M: Metric + TypedMetric + Clone,
    {
        let raw = RawFamily::<L, M, Make<M>>::new_with_constructor(Make { buckets, make });
        self.register(name, help, L::NAMES, kind, raw.clone());
        Family { raw }
    }

    fn register<M: Metric + Clone>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        kind: &'static str,
        metric: M,
    ) -> M {
        debug_assert!(
            name.strip_prefix(NAMESPACE)
                .is_some_and(|rest| rest.starts_with('_')),
            "{name} lacks the prefix {NAMESPACE}_"
        );
        debug_assert!(
            self.listing.iter().all(|info| info.name != name),
            "{name} is registered twice"
        );
        self.listing.push(MetricInfo {
            name,
            kind,
            labels,
            help,
        });
        self.registry.register(name, help, metric.clone());
        metric
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram(buckets: &'static [f64]) -> Histogram {
    Histogram::new(buckets.iter().copied())
}

/// What [`label_set!`](crate::label_set!) needs.
#[doc(hidden)]
pub mod encoding {
    pub use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    crate::label_set! {
        struct ContainerLabels {
            app_id: Arc<str>,
            fn_id: Arc<str>,
            image_name: Arc<str>,
        }
    }

    fn labels(image: &str) -> ContainerLabels {
        ContainerLabels {
            app_id: "A".into(),
            fn_id: "F".into(),
            image_name: image.into(),
        }
    }

    /// The lines that do not concern the process.
    fn lines(metrics: &Metrics) -> Vec<String> {
        let text = metrics.render();
        text.lines()
            .filter(|line| !line.contains("process_"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn names_and_integers_are_the_originals() {
        let mut metrics = Metrics::new();
        let calls = metrics.counter("fn_calls", "Calls accepted");
        let queued = metrics.gauge("fn_queued", "Calls waiting");
        let busy = metrics.gauges::<ContainerLabels>("fn_container_busy_total", "Busy containers");
        calls.add(2);
        calls.inc();
        let held = queued.hold();
        busy.handle(&labels("a\"b\n")).add(1);
        assert_eq!(
            lines(&metrics),
            [
                "# HELP fn_calls Calls accepted.",
                "# TYPE fn_calls counter",
                "fn_calls 3",
                "# HELP fn_queued Calls waiting.",
                "# TYPE fn_queued gauge",
                "fn_queued 1",
                "# HELP fn_container_busy_total Busy containers.",
                "# TYPE fn_container_busy_total gauge",
                "fn_container_busy_total{app_id=\"A\",fn_id=\"F\",image_name=\"a\\\"b\\n\"} 1",
            ]
        );
        drop(held);
        assert_eq!(queued.get(), 0);
    }

    #[test]
    fn a_set_of_labels_can_be_forgotten() {
        let mut metrics = Metrics::new();
        let busy = metrics.gauges::<ContainerLabels>("fn_container_busy_total", "Busy containers");
        busy.handle(&labels("a")).add(1);
        busy.handle(&labels("b")).add(1);
        busy.remove(&labels("a"));
        let text = metrics.render();
        assert!(
            !text.contains("image_name=\"a\"") && text.contains("image_name=\"b\""),
            "{text}"
        );
    }

    #[test]
    fn distributions_have_buckets_sum_and_count() {
        let mut metrics = Metrics::new();
        let latency = metrics.histogram(
            "fn_lb_runner_exec_latency",
            "Execution",
            buckets::LATENCY_MILLIS,
        );
        latency.observe(7.0);
        let text = metrics.render();
        for line in [
            "# TYPE fn_lb_runner_exec_latency histogram",
            "fn_lb_runner_exec_latency_bucket{le=\"1.0\"} 0",
            "fn_lb_runner_exec_latency_bucket{le=\"10.0\"} 1",
            "fn_lb_runner_exec_latency_bucket{le=\"+Inf\"} 1",
            "fn_lb_runner_exec_latency_count 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in {text}"
            );
        }
    }

    #[test]
    fn the_process_is_measured() {
        let text = Metrics::new().render();
        for info in &process::LISTING {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{} ", info.name)));
            let value: f64 = line
                .and_then(|line| line.split(' ').nth(1))
                .and_then(|value| value.parse().ok())
                .unwrap_or_else(|| unreachable!("{} is missing in {text}", info.name));
            assert!(value >= 0.0, "{}", info.name);
        }
    }

    #[test]
    fn the_listing_names_everything() {
        let mut metrics = Metrics::new();
        metrics.gauges::<ContainerLabels>("fn_container_busy_total", "Busy containers");
        let listing = metrics.listing();
        let info = listing.first().expect("a metric");
        assert_eq!(info.name, "fn_container_busy_total");
        assert_eq!(
            (info.kind, info.labels),
            ("gauge", &["app_id", "fn_id", "image_name"][..])
        );
        assert!(listing.iter().any(|info| info.name == "process_open_fds"));
    }
}
