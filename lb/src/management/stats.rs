//! `/1/lb/stats`: how many calls ended per runner, function and second, and how long they had waited
//! (spec/07 7.4).
//!
//! Nothing is recorded unless somebody has looked within the last minute.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use domain::{FnId, Timestamp};
use serde::Serialize;

use crate::placement::Now;

/// How long samples are kept, and recording goes on after a look.
const KEPT: Duration = Duration::from_secs(60);

/// Samples beyond which the rest of a minute is not recorded.
const MAX_SAMPLES: usize = 10_000;

/// Nobody has looked yet.
const NEVER: u64 = 0;

/// What was recorded since the last look.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// The second after the last look.
    looked: AtomicU64,
    samples: Mutex<Samples>,
}

/// By second, runner and function.
type Samples = BTreeMap<(u64, Arc<str>, FnId), Sample>;

#[derive(Debug, Default, Clone, Copy)]
struct Sample {
    calls: u64,
    wait: Duration,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    stats: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    timestamp: Timestamp,
    tp: u64,
    node: String,
    func: String,
    /// Mean, in seconds.
    wait: f64,
}

impl Stats {
    /// A call has ended.
    pub(crate) fn record(&self, node: &Arc<str>, func: &FnId, wait: Duration, now: Now) {
        if !self.is_watched(now) {
            return;
        }
        let key = (now.as_secs(), Arc::clone(node), func.clone());
        let mut samples = self.lock();
        if samples.len() >= MAX_SAMPLES && !samples.contains_key(&key) {
            return;
        }
        let sample = samples.entry(key).or_default();
        sample.calls += 1;
        sample.wait = sample.wait.saturating_add(wait);
    }

    /// What was recorded since the last look.
    pub(crate) fn take(&self, now: Now) -> Report {
        self.looked.store(now.as_secs() + 1, Ordering::Relaxed);
        let samples = std::mem::take(&mut *self.lock());
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let wall = wall.unwrap_or_default().as_secs();
        let line = |((second, node, func), sample): ((u64, Arc<str>, FnId), Sample)| {
            let ago = now.as_secs().saturating_sub(second);
            let millis = wall.saturating_sub(ago).saturating_mul(1000);
            Line {
                timestamp: Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
                tp: sample.calls,
                node: node.to_string(),
                func: func.to_string(),
                wait: sample.wait.as_secs_f64() / sample.calls.max(1) as f64,
            }
        };
        Report {
            stats: samples.into_iter().map(line).collect(),
        }
    }

    /// Forgets what is too old.
    pub(crate) fn tidy(&self, now: Now) {
        let oldest = now.saturating_sub(KEPT).as_secs();
        self.lock().retain(|(second, _, _), _| *second >= oldest);
    }

    fn is_watched(&self, now: Now) -> bool {
        let looked = self.looked.load(Ordering::Relaxed);
        looked != NEVER && now.as_secs() < looked + KEPT.as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(stats: &Stats, now: u64) -> Vec<(String, String, u64, f64)> {
        let report = stats.take(Duration::from_secs(now));
        let line = |line: Line| (line.node, line.func, line.tp, line.wait);
        report.stats.into_iter().map(line).collect()
    }

    #[test]
    fn calls_are_counted_per_second_once_somebody_looks() {
        let stats = Stats::default();
        let (node, func) = (Arc::from("a:1"), FnId::from("f"));
        let record = |at: u64, wait: u64| {
            let at = Duration::from_millis(at);
            stats.record(&node, &func, Duration::from_secs(wait), at);
        };
        record(0, 1);
        assert!(lines(&stats, 0).is_empty(), "nobody had looked");
        record(1000, 1);
        record(1999, 2);
        record(2000, 4);
        let line = |tp, wait| ("a:1".to_owned(), "f".to_owned(), tp, wait);
        assert_eq!(lines(&stats, 2), [line(2, 1.5), line(1, 4.0)]);
        assert!(lines(&stats, 3).is_empty(), "it was taken");
        record(4000, 1);
        stats.tidy(Duration::from_secs(70));
        assert!(lines(&stats, 70).is_empty(), "it was too old");
        record(200_000, 1);
        assert!(lines(&stats, 200).is_empty(), "nobody had looked for long");
    }
}
