//! The engine's stream of a container's resource use (spec/05 5.9).

use std::sync::Arc;

use bollard::models::{ContainerCpuStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptions;
use futures_util::StreamExt as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::engine::Engine;
use crate::driver::samples::{Sample, SampleBuffer};

/// Collects samples until the container has ended or the stream breaks. The engine sends one per
/// second.
pub(super) async fn collect(engine: Engine, id: String, samples: Arc<SampleBuffer>) {
    let options = StatsOptions {
        stream: true,
        one_shot: false,
    };
    let mut stream = Box::pin(engine.docker().stats(&id, Some(options)));
    while let Some(Ok(stats)) = stream.next().await {
        if let Some(sample) = sample_of(&stats) {
            engine.metrics().sample(&sample);
            samples.push(sample);
        }
    }
}

/// The sample in one message; none when the container does not run.
fn sample_of(stats: &ContainerStatsResponse) -> Option<Sample> {
    let read = OffsetDateTime::parse(stats.read.as_deref()?, &Rfc3339).ok()?;
    let unix_millis = i64::try_from(read.unix_timestamp_nanos() / 1_000_000).ok()?;
    if unix_millis <= 0 {
        return None;
    }
    let networks = stats.networks.iter().flat_map(|networks| networks.values());
    let (net_rx, net_tx) = networks.fold((0_u64, 0_u64), |(rx, tx), network| {
        (
            rx.saturating_add(network.rx_bytes.unwrap_or(0)),
            tx.saturating_add(network.tx_bytes.unwrap_or(0)),
        )
    });
    let memory = stats.memory_stats.clone().unwrap_or_default();
    let disk = |wanted: &str| {
        let entries = stats.blkio_stats.iter();
        entries
            .filter_map(|blkio| blkio.io_service_bytes_recursive.as_ref())
            .flatten()
            .filter(|entry| {
                let op = entry.op.as_deref().unwrap_or_default();
                op.eq_ignore_ascii_case(wanted)
            })
            .fold(0_u64, |sum, entry| {
                sum.saturating_add(entry.value.unwrap_or(0))
            })
    };
    let [cpu_user, cpu_total, cpu_kernel] =
        cpu_percent(stats.precpu_stats.as_ref(), stats.cpu_stats.as_ref());
    Some(Sample {
        unix_millis,
        values: [
            net_rx,
            net_tx,
            memory.limit.unwrap_or(0),
            memory.usage.unwrap_or(0),
            disk("read"),
            disk("write"),
            cpu_user,
            cpu_total,
            cpu_kernel,
        ],
    })
}

/// User, total and kernel time between two readings, in per cent of one CPU.
fn cpu_percent(before: Option<&ContainerCpuStats>, now: Option<&ContainerCpuStats>) -> [u64; 3] {
    let (Some(before), Some(now)) = (before, now) else {
        return [0; 3];
    };
    let system = |stats: &ContainerCpuStats| stats.system_cpu_usage.unwrap_or(0);
    // The first message has no reading before it.
    let Some(passed) = system(now)
        .checked_sub(system(before))
        .filter(|passed| *passed > 0)
    else {
        return [0; 3];
    };
    if system(before) == 0 {
        return [0; 3];
    }
    let cores = u128::from(now.online_cpus.unwrap_or(1).max(1));
    let used = |stats: &ContainerCpuStats| {
        let usage = stats.cpu_usage.clone().unwrap_or_default();
        [
            usage.usage_in_usermode,
            usage.total_usage,
            usage.usage_in_kernelmode,
        ]
        .map(Option::unwrap_or_default)
    };
    let (before, now) = (used(before), used(now));
    std::array::from_fn(|at| {
        let delta = u128::from(now[at].saturating_sub(before[at]));
        u64::try_from(delta * cores * 100 / u128::from(passed)).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::StatSample;

    #[test]
    fn values_are_derived_as_the_original_derives_them() {
        let stats: ContainerStatsResponse = serde_json::from_str(
            r#"{
                "read": "2024-01-02T03:04:05.678901234Z",
                "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 10}, "eth1": {"rx_bytes": 2, "tx_bytes": 20}},
                "memory_stats": {"usage": 5, "limit": 50},
                "blkio_stats": {"io_service_bytes_recursive": [
                    {"major": 8, "minor": 0, "op": "Read", "value": 100},
                    {"major": 8, "minor": 1, "op": "read", "value": 11},
                    {"major": 8, "minor": 0, "op": "Write", "value": 7},
                    {"major": 8, "minor": 0, "op": "Total", "value": 118}]},
                "precpu_stats": {"cpu_usage": {"total_usage": 100, "usage_in_usermode": 60, "usage_in_kernelmode": 40}, "system_cpu_usage": 1000},
                "cpu_stats": {"cpu_usage": {"total_usage": 400, "usage_in_usermode": 260, "usage_in_kernelmode": 140}, "system_cpu_usage": 3000, "online_cpus": 2}
            }"#,
        )
        .expect("a message");
        let sample = StatSample::from(sample_of(&stats).expect("a sample"));
        assert_eq!(sample.unix_millis, 1_704_164_645_678);
        let expected = [
            ("net_rx", 3),
            ("net_tx", 30),
            ("mem_limit", 50),
            ("mem_usage", 5),
            ("disk_read", 111),
            ("disk_write", 7),
            ("cpu_user", 20),
            ("cpu_total", 30),
            ("cpu_kernel", 10),
        ];
        assert_eq!(sample.values, expected.into());
    }

    #[test]
    fn a_container_that_does_not_run_has_no_sample() {
        let stats = |json| serde_json::from_str::<ContainerStatsResponse>(json).expect("a message");
        assert_eq!(
            sample_of(&stats(r#"{"read": "0001-01-01T00:00:00Z"}"#)),
            None
        );
        assert_eq!(sample_of(&stats("{}")), None);
    }
}
