//! Pauses between tries (spec/06 6.5): they grow, up to a limit, and nobody keeps step with others.

use std::time::Duration;

const BASE: Duration = Duration::from_millis(25);
const SPREAD: Duration = Duration::from_millis(50);
/// More doublings than any limit leaves room for.
const MAX_DOUBLINGS: u32 = 10;

/// The pause after `failures` in a row, at least one: 25 ms and a random part of 50 ms that doubles
/// with each failure, at most `limit`.
pub(super) fn pause(failures: u32, limit: Duration, random: u64) -> Duration {
    let range = SPREAD.saturating_mul((1u32 << failures.clamp(1, MAX_DOUBLINGS)) - 1);
    // Between nothing and all of it, in steps fine enough.
    let part = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
    (BASE + range.mul_f64(part)).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_limit() {
        let limit = Duration::from_secs(1);
        let millis = |failures, random| pause(failures, limit, random).as_millis();
        for (failures, longest) in [(0, 75), (1, 75), (2, 175), (3, 375), (4, 775), (5, 1000)] {
            assert_eq!(millis(failures, 0), 25, "{failures}");
            assert_eq!(millis(failures, u64::MAX), longest, "{failures}");
        }
        assert_eq!(millis(u32::MAX, u64::MAX), 1000);
        assert_eq!(pause(1, Duration::ZERO, 7), Duration::ZERO);
    }
}
