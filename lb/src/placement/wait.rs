//! Moving averages that fade while nothing comes.

use std::time::Duration;

use super::Now;

/// The weight of a new sample: about the last ten count.
const NEW: f64 = 0.1;

/// A moving average of waits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WaitAverage {
    seconds: f64,
    at: Now,
    samples: bool,
}

impl WaitAverage {
    /// Takes in a call's wait. The first one counts alone.
    pub(crate) fn add(&mut self, wait: Duration, now: Now, half_life: Duration) {
        let sample = wait.as_secs_f64();
        self.seconds = if self.samples {
            let old = self.read(now, half_life);
            old + NEW * (sample - old)
        } else {
            sample
        };
        self.samples = true;
        self.at = now.max(self.at);
    }

    /// Like [`add`](Self::add), but a wait above the average counts at once.
    pub(crate) fn add_peak(&mut self, wait: Duration, now: Now, half_life: Duration) {
        if wait.as_secs_f64() > self.read(now, half_life) {
            *self = Self::default();
        }
        self.add(wait, now, half_life);
    }

    /// Takes over the average that the runner itself has: it knows all of its calls.
    pub(crate) fn set(&mut self, wait: Duration, now: Now) {
        self.seconds = wait.as_secs_f64();
        self.samples = true;
        self.at = now.max(self.at);
    }

    /// The average in seconds, less the longer no sample came.
    pub(crate) fn read(&self, now: Now, half_life: Duration) -> f64 {
        let silent = now.saturating_sub(self.at);
        if silent.is_zero() || self.seconds == 0.0 {
            return self.seconds;
        }
        self.seconds * (-silent.as_secs_f64() / half_life.as_secs_f64().max(1e-3)).exp2()
    }
}

#[cfg(test)]
mod tests;
