//! Random numbers from a seed that the owner gives, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// A sequence of random numbers that threads share (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// The next number below `bound`; 0 if that is 0.
    pub(crate) fn below(&self, bound: usize) -> usize {
        scale(self.next(), bound)
    }
}

/// Spreads the bits of a number over all of it; each number has one image.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn scale(number: u64, bound: usize) -> usize {
    let wide = u128::from(number) * (bound as u128);
    (wide >> 64) as usize
}
