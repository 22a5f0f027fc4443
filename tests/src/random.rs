//! Random numbers that a printed state brings back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A sequence (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a state.
    pub fn new(state: u64) -> Self {
        Self(state)
    }

    /// A sequence of its own for each of many things, whatever the order in which they are made.
    pub fn of(state: u64, number: u64) -> Self {
        Self(Self(state ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03)).next())
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` up to, and without, `to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// The same as a time.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.within(from, to))
    }

    /// One of several.
    ///
    /// # Panics
    /// When there are none.
    pub fn one_of<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        let count = u64::try_from(several.len()).expect("a number");
        &several[usize::try_from(self.within(0, count)).expect("a place")]
    }
}

/// The state that a variable of the environment gives, or a new one.
///
/// # Panics
/// When the variable is no number.
pub fn state(variable: &str) -> u64 {
    match std::env::var(variable) {
        Ok(state) => state.parse().expect("a state is a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            u64::from(now.expect("a time after 1970").subsec_nanos())
        }
    }
}
