//! Growing pauses between attempts, spread so that many who failed together do not try together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
/// What each pause is longer than the one before, and by how much it is spread; as in gRPC.
const GROWTH: f64 = 1.6;
const SPREAD: f64 = 0.2;

/// The pauses.
#[derive(Debug)]
pub(crate) struct BackOff {
    next: Duration,
    random: fn() -> u64,
}

impl BackOff {
    pub(crate) fn new(random: fn() -> u64) -> Self {
        Self {
            next: FIRST,
            random,
        }
    }

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.mul_f64(GROWTH).min(LONGEST);
        // 53 bits: a number from 0 to 1.
        let chance = ((self.random)() >> 11) as f64 / (1_u64 << 53) as f64;
        pause.mul_f64(1.0 + SPREAD * (2.0 * chance - 1.0))
    }

    /// An attempt went well.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_spread() {
        let mut middle = BackOff::new(|| 1 << 63);
        let pauses: Vec<_> = (0..8).map(|_| middle.next().as_millis()).collect();
        assert_eq!(pauses, [100, 160, 256, 409, 655, 1000, 1000, 1000]);
        middle.reset();
        assert_eq!(middle.next(), FIRST);
        assert_eq!(BackOff::new(|| 0).next(), Duration::from_millis(80));
        assert!(BackOff::new(|| u64::MAX).next() > Duration::from_millis(119));
    }
}
