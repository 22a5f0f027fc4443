//! Which runner is slow: how long functions take there, beside how long the same functions take
//! elsewhere.
//!
//! A function's usual time is kept as the mean of logarithms, so that one runner that is ten times
//! slower hardly moves it; a runner's slowness is the mean of its calls' distances from it. Both
//! say nothing about functions that are slow everywhere, or all runners being slow.

use std::time::Duration;

use domain::SlotKey;

use super::Now;
use super::runner::RunnerId;

/// Calls that count for a function's usual time.
const FUNCTION_MEMORY: u32 = 64;

/// Calls of a function that must have been seen before one can be compared.
const FUNCTION_SAMPLES: u32 = 5;

/// Calls that count for a runner's slowness.
const RUNNER_MEMORY: u32 = 10;

/// How long a call elsewhere is evidence that the function itself is as it was.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// A trial goes with functions that usually take less.
const TELLING: Duration = Duration::from_secs(1);

/// Functions with which a runner can be judged even though they run nowhere else.
const LONE_FUNCTIONS: usize = 3;

/// Added to each time: below it, differences are chance.
const GRAIN: f64 = 0.000_5;

/// How many standard errors a difference must have to be none of chance.
const SURE: f64 = 4.0;

/// How long a function's calls take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usual {
    mean: f64,
    variance: f64,
    samples: u32,
    last: Option<RunnerId>,
    /// When last a call ended at another runner than the one before.
    elsewhere: Option<Now>,
}

/// One call's distance from its function's usual time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Distance {
    /// Difference of logarithms.
    log: f64,
    /// The variance that the function has anyway.
    variance: f64,
    /// Whether the function ran elsewhere a short while ago.
    elsewhere: bool,
    function: u64,
}

impl Usual {
    /// Whether a call of it tells soon whether a runner is slow.
    pub(crate) fn is_telling(&self) -> bool {
        self.samples >= FUNCTION_SAMPLES && self.mean < TELLING.as_secs_f64().ln()
    }

    /// Compares a call, and lets it count. `count` is false for calls of runners that are out:
    /// their times are not usual.
    pub(crate) fn compare(
        &mut self,
        key: &SlotKey,
        runner: RunnerId,
        took: Duration,
        now: Now,
        count: bool,
    ) -> Option<Distance> {
        let log = (took.as_secs_f64() + GRAIN).ln();
        let log_distance = log - self.mean;
        let known = self.samples >= FUNCTION_SAMPLES;
        if self.last.is_some_and(|last| last != runner) {
            self.elsewhere = Some(now);
        }
        let distance = known.then(|| Distance {
            log: log_distance,
            variance: self.variance,
            elsewhere: self
                .elsewhere
                .is_some_and(|at| now.saturating_sub(at) < ELSEWHERE),
            function: prefix(key),
        });
        if count {
            self.last = Some(runner);
            self.samples = (self.samples + 1).min(FUNCTION_MEMORY);
            let share = 1.0 / f64::from(self.samples);
            if self.samples == 1 {
                self.mean = log;
            } else {
                self.mean += share * log_distance;
                let squared = log_distance * log_distance;
                self.variance += share * (squared - self.variance);
            }
        }
        distance
    }
}

/// How slow a runner is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slowness {
    mean: f64,
    variance: f64,
    samples: u32,
    /// The functions seen last, each once.
    functions: [u64; LONE_FUNCTIONS],
}

impl Slowness {
    /// Lets a call count.
    pub(crate) fn add(&mut self, distance: Distance) {
        if !self.functions.contains(&distance.function) {
            self.functions.rotate_right(1);
            self.functions[0] = distance.function;
        }
        if !distance.elsewhere && self.functions.contains(&0) {
            return;
        }
        self.samples = self.samples.saturating_add(1);
        let share = 1.0 / f64::from(self.samples.min(RUNNER_MEMORY));
        self.mean += share * (distance.log - self.mean);
        self.variance += share * (distance.variance - self.variance);
    }

    /// The mean distance in logarithms, once there are `least` samples.
    pub(crate) fn mean(&self, least: u32) -> Option<f64> {
        (self.samples >= least.max(1)).then_some(self.mean)
    }

    /// Whether a difference from the others is more than chance.
    pub(crate) fn is_sure(&self, difference: f64) -> bool {
        let samples = f64::from(self.samples.clamp(1, RUNNER_MEMORY));
        difference > SURE * (self.variance / samples).sqrt()
    }
}

/// Never 0, which stands for none.
fn prefix(key: &SlotKey) -> u64 {
    let (words, _) = key.as_bytes().as_chunks::<8>();
    u64::from_le_bytes(words[1]) | 1
}

#[cfg(test)]
mod tests;
