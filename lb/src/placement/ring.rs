//! The hash ring of the runners, from the crate `consistent_hash`, which no other file names.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use consistent_hash::{Node, RingHash, StaticHashRing};

use super::random::mix;
use super::runner::Runner;

/// Points on the ring per unit of weight: with one alone the fullest of fifty runners would get
/// four times its share.
const POINTS_PER_WEIGHT: usize = 160;

/// The ring; made anew when the list of runners changes.
pub(crate) struct Ring(StaticHashRing<'static, Arc<str>, Arc<Runner>, Canonical>);

impl Ring {
    pub(crate) fn new(runners: &[Arc<Runner>]) -> Self {
        let nodes = runners.iter().map(|runner| {
            Node::new(Arc::clone(&runner.address))
                .value(Arc::clone(runner))
                .quantity(POINTS_PER_WEIGHT.saturating_mul(runner.weight as usize))
        });
        Self(StaticHashRing::new(Canonical, nodes))
    }

    /// The runners in the order in which the function comes to them; each once.
    pub(crate) fn candidates(&self, fn_id: &str) -> impl Iterator<Item = &Arc<Runner>> {
        self.0.calc_candidates(&fn_id).map(|node| &node.value)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("points", &self.0.len())
            .finish_non_exhaustive()
    }
}

/// A hash that is the same on every machine and in every build, so that all load balancers see one
/// ring.
struct Canonical;

impl RingHash for Canonical {
    fn hash_item<T: Hash>(&self, item: &T) -> u64 {
        let mut hasher = CanonicalHasher::default();
        item.hash(&mut hasher);
        hasher.finish()
    }

    fn hash_vnode<K: Hash>(&self, node_key: &K, vnode_seq: usize) -> u64 {
        let mut hasher = CanonicalHasher::default();
        node_key.hash(&mut hasher);
        hasher.write_usize(vnode_seq);
        hasher.finish()
    }
}

/// FNV-1a with a final mix; numbers are taken in as eight little-endian bytes.
struct CanonicalHasher(u64);

impl Default for CanonicalHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for CanonicalHasher {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests;
