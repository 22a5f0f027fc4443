//! How many calls are recorded in a second: a busy front door has more calls than anybody reads, and
//! rows cost the database as much as a cheap function costs the runner.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The number of the second is above these bits, what was admitted in it below.
const COUNT_BITS: u32 = 32;

/// Admits so many in each second.
#[derive(Debug)]
pub(super) struct Rate {
    begin: Instant,
    /// None: all.
    limit: Option<u32>,
    window: AtomicU64,
}

impl Rate {
    /// Seconds are counted from `begin`.
    pub(super) fn new(limit: Option<u32>, begin: Instant) -> Self {
        Self {
            begin,
            limit,
            window: AtomicU64::new(0),
        }
    }

    /// Whether one more is admitted at `now`.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        let second = now.saturating_duration_since(self.begin).as_secs();
        let admitted = |window: u64| {
            let (current, count) = (window >> COUNT_BITS, window & u64::from(u32::MAX));
            // Whoever is a little late belongs to the second that has begun.
            let (current, count) = match current < second {
                true => (second, 0),
                false => (current, count),
            };
            (count < u64::from(limit)).then_some((current << COUNT_BITS) | (count + 1))
        };
        let (set, fetched) = (Ordering::Relaxed, Ordering::Relaxed);
        self.window.fetch_update(set, fetched, admitted).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_second_admits_as_many_as_it_may() {
        let begin = Instant::now();
        let rate = Rate::new(Some(3), begin);
        let admitted = |millis: u64| {
            let now = begin + Duration::from_millis(millis);
            (0..5).filter(|_| rate.admits(now)).count()
        };
        assert_eq!(admitted(0), 3);
        assert_eq!(admitted(999), 0);
        assert_eq!(admitted(1000), 3);
        assert_eq!(admitted(500), 0, "late ones do not begin a second anew");
        assert_eq!(admitted(9000), 3);
        let all = Rate::new(None, begin);
        assert!((0..100).all(|_| all.admits(begin)));
    }
}
