//! The driver's metrics (spec/10 10.2).

use std::time::Duration;

use nodekit::label_set;
use nodekit::metrics::buckets::{CPU_PERCENT, IO_BYTES, LATENCY_MILLIS, MEMORY_BYTES};
use nodekit::metrics::{Counter, Family, Gauge, Histogram, Metrics};

use super::image::cache::CacheSize;
use crate::driver::samples::Sample;

label_set! {
    /// A kind of request to the engine, and how it ended.
    pub(super) struct ApiLabels {
        api_name: &'static str,
        api_status: String,
    }
}

label_set! {
    /// How a container ended.
    pub(super) struct ExitLabels {
        api_name: &'static str,
        exit_status: String,
    }
}

label_set! {
    /// What the engine told.
    pub(super) struct EventLabels {
        event_action: String,
        event_type: String,
    }
}

/// Handles of the metrics of the Docker driver.
#[derive(Debug, Clone)]
pub struct DockerMetrics {
    latency: Family<ApiLabels, Histogram>,
    retries: Family<ApiLabels, Counter>,
    exits: Family<ExitLabels, Counter>,
    events: Family<EventLabels, Counter>,
    instance_id: Gauge,
    busy_images: Gauge,
    busy_image_bytes: Gauge,
    idle_images: Gauge,
    idle_image_bytes: Gauge,
    max_image_bytes: Gauge,
    stats: [Histogram; 9],
}

impl DockerMetrics {
    /// Registers them.
    pub fn new(metrics: &mut Metrics) -> Self {
        let mut stat = |name, help, buckets| metrics.histogram(name, help, buckets);
        let stats = [
            stat(
                "fn_docker_stats_net_rx",
                "Bytes received by a container",
                IO_BYTES,
            ),
            stat(
                "fn_docker_stats_net_tx",
                "Bytes sent by a container",
                IO_BYTES,
            ),
            stat(
                "fn_docker_stats_mem_limit",
                "Memory limit of a container in bytes",
                MEMORY_BYTES,
            ),
            stat(
                "fn_docker_stats_mem_usage",
                "Memory use of a container in bytes",
                MEMORY_BYTES,
            ),
            stat(
                "fn_docker_stats_disk_read",
                "Bytes read from disk by a container",
                IO_BYTES,
            ),
            stat(
                "fn_docker_stats_disk_write",
                "Bytes written to disk by a container",
                IO_BYTES,
            ),
            stat(
                "fn_docker_stats_cpu_user",
                "User CPU of a container in per cent of one CPU",
                CPU_PERCENT,
            ),
            stat(
                "fn_docker_stats_cpu_total",
                "CPU of a container in per cent of one CPU",
                CPU_PERCENT,
            ),
            stat(
                "fn_docker_stats_cpu_kernel",
                "Kernel CPU of a container in per cent of one CPU",
                CPU_PERCENT,
            ),
        ];
        Self {
            latency: metrics.histograms(
                "fn_docker_api_latency",
                "Time of requests to the engine in milliseconds",
                LATENCY_MILLIS,
            ),
            retries: metrics.counters(
                "fn_docker_api_retries",
                "Requests to the engine that were sent again",
            ),
            exits: metrics.counters("fn_docker_exits", "Containers that ended, by exit status"),
            events: metrics.counters(
                "fn_docker_events",
                "Events of the engine about our containers",
            ),
            instance_id: metrics
                .gauge("fn_docker_instance_id", "Hash of this runner's instance id"),
            busy_images: metrics.gauge("fn_image_cleaner_busy_img_count", "Images in use"),
            busy_image_bytes: metrics
                .gauge("fn_image_cleaner_busy_img_size", "Bytes of images in use"),
            idle_images: metrics.gauge("fn_image_cleaner_idle_img_count", "Images not in use"),
            idle_image_bytes: metrics.gauge(
                "fn_image_cleaner_idle_img_size",
                "Bytes of images not in use",
            ),
            max_image_bytes: metrics.gauge(
                "fn_image_cleaner_max_img_size",
                "Bytes of images above which unused ones are removed",
            ),
            stats,
        }
    }

    pub(super) fn call(&self, api_name: &'static str, api_status: String, took: Duration) {
        self.latency
            .handle(&ApiLabels {
                api_name,
                api_status,
            })
            .observe(took.as_secs_f64() * 1000.0);
    }

    pub(super) fn retry(&self, api_name: &'static str, api_status: String) {
        self.retries
            .handle(&ApiLabels {
                api_name,
                api_status,
            })
            .inc();
    }

    pub(super) fn exit(&self, exit_status: String) {
        let labels = ExitLabels {
            api_name: "docker_wait_container",
            exit_status,
        };
        self.exits.handle(&labels).inc();
    }

    pub(super) fn event(&self, event_action: String, event_type: String) {
        let labels = EventLabels {
            event_action,
            event_type,
        };
        self.events.handle(&labels).inc();
    }

    pub(super) fn instance(&self, id: &str) {
        // FNV-1a of 64 bits, as the original's.
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.instance_id.set(hash.cast_signed());
    }

    pub(super) fn images(&self, size: CacheSize, max: u64) {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.busy_images.set(signed(size.busy_count));
        self.busy_image_bytes.set(signed(size.busy_size));
        self.idle_images.set(signed(size.idle_count));
        self.idle_image_bytes.set(signed(size.idle_size));
        self.max_image_bytes.set(signed(max));
    }

    pub(super) fn sample(&self, sample: &Sample) {
        for (metric, value) in self.stats.iter().zip(sample.values) {
            // The metric is a distribution over coarse buckets.
            metric.observe(value as f64);
        }
    }
}
