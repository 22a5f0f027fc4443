//! How fast calls end: what a client that is turned away is told, when to come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How far back it is looked.
const SECONDS: u64 = 8;

/// The shortest and the longest that a client is told.
const SHORTEST: u64 = 1;
const LONGEST: u64 = 60;

/// Ends of calls in the last seconds: each second and its count in one number.
#[derive(Debug, Default)]
pub(crate) struct Pace([AtomicU64; SECONDS as usize + 1]);

impl Pace {
    /// A call has ended.
    pub(crate) fn ended(&self, now: Duration) {
        let second = now.as_secs();
        // A lost update is one call less of many.
        let _ = self
            .slot(second)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |stored| {
                match stored >> 32 == second & 0xffff_ffff {
                    true => Some(stored + 1),
                    false => Some((second & 0xffff_ffff) << 32 | 1),
                }
            });
    }

    /// Seconds until `waiting` calls will have been served at this pace; none if none ended lately.
    pub(crate) fn seconds_to_serve(&self, waiting: usize, now: Duration) -> Option<u32> {
        let second = now.as_secs();
        // The second that runs is not over: the ones before it count.
        let counted = (1..=SECONDS.min(second)).map(|ago| self.count(second - ago));
        let ended: u64 = counted.sum::<u64>() + self.count(second);
        let seconds = SECONDS.min(second) + 1;
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        let needed = waiting.saturating_mul(seconds).div_ceil(ended.max(1));
        let told = needed.clamp(SHORTEST, LONGEST);
        (ended > 0).then_some(u32::try_from(told).unwrap_or(u32::MAX))
    }

    fn count(&self, second: u64) -> u64 {
        let stored = self.slot(second).load(Ordering::Relaxed);
        match stored >> 32 == second & 0xffff_ffff {
            true => stored & 0xffff_ffff,
            false => 0,
        }
    }

    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.0[(second % (SECONDS + 1)) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_behind_many_is_told_to_wait_longer() {
        let pace = Pace::default();
        let at = Duration::from_secs;
        assert_eq!(pace.seconds_to_serve(5, at(100)), None);
        for second in 91..=100 {
            (0..10).for_each(|_| pace.ended(at(second)));
        }
        assert_eq!(pace.seconds_to_serve(0, at(100)), Some(1));
        assert_eq!(pace.seconds_to_serve(30, at(100)), Some(3));
        assert_eq!(pace.seconds_to_serve(1_000_000, at(100)), Some(60));
        // Half of what is looked at is long over.
        assert_eq!(pace.seconds_to_serve(30, at(105)), Some(7));
        assert_eq!(pace.seconds_to_serve(30, at(200)), None);
    }
}
