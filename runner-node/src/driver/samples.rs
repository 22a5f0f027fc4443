//! The resource samples of one container, kept small (spec/05 5.9).

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StatSample;
use super::decimate::decimate;

/// The most samples that are kept and given out.
pub const MAX_SAMPLES: usize = 240;

/// The original's names of the values of a sample, in their order.
pub const METRICS: [&str; 9] = [
    "net_rx",
    "net_tx",
    "mem_limit",
    "mem_usage",
    "disk_read",
    "disk_write",
    "cpu_user",
    "cpu_total",
    "cpu_kernel",
];

/// One sample, as small as it can be: hundreds of idle containers keep some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
    /// The values in the order of [`METRICS`].
    pub values: [u64; METRICS.len()],
}

impl From<Sample> for StatSample {
    fn from(sample: Sample) -> Self {
        Self {
            unix_millis: sample.unix_millis,
            values: METRICS.into_iter().zip(sample.values).collect(),
        }
    }
}

/// Samples nobody has asked for yet, at most [`MAX_SAMPLES`]: when they become more, older ones
/// are averaged.
#[derive(Debug, Default)]
pub struct SampleBuffer(Mutex<Vec<Sample>>);

impl SampleBuffer {
    /// Adds a sample. One that is older than the last is dropped: a clock went backwards.
    pub fn push(&self, sample: Sample) {
        let mut samples = self.lock();
        if samples
            .last()
            .is_some_and(|last| last.unix_millis > sample.unix_millis)
        {
            return;
        }
        if samples.len() >= MAX_SAMPLES {
            *samples = decimate(MAX_SAMPLES / 2, &samples);
        }
        samples.push(sample);
    }

    /// Takes all, oldest first.
    pub fn take(&self) -> Vec<StatSample> {
        let samples = std::mem::take(&mut *self.lock());
        samples.into_iter().map(StatSample::from).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sample>> {
        // Every state of the vector is a good one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix_millis: i64) -> Sample {
        Sample {
            unix_millis,
            values: [1; METRICS.len()],
        }
    }

    #[test]
    fn is_bounded_and_keeps_the_newest() {
        let buffer = SampleBuffer::default();
        for second in 0..100_000 {
            buffer.push(sample(second * 1000));
            assert!(buffer.lock().len() <= MAX_SAMPLES);
        }
        let taken = buffer.take();
        assert!(taken.len() <= MAX_SAMPLES);
        assert_eq!(taken.last().map(|s| s.unix_millis), Some(99_999_000));
        assert!(taken.is_sorted_by_key(|s| s.unix_millis));
        assert_eq!(taken[0].values["cpu_kernel"], 1);
        assert!(buffer.take().is_empty());
    }

    #[test]
    fn a_clock_that_steps_back_does_not_break_the_order() {
        let buffer = SampleBuffer::default();
        buffer.push(sample(10));
        buffer.push(sample(5));
        assert_eq!(buffer.take().len(), 1);
    }
}
