//! The functions that load balancers have called, by their keys: a call of a known one is neither
//! parsed nor hashed again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use nodekit::exchange::Target;

/// So many locks, so that functions do not share one.
const SHARDS: usize = 64;
/// Functions of one shard in one generation.
const GENERATION: usize = 128;

/// The cache. A function is kept under the key that this runner has computed for it: unlike an
/// original runner, it does not take a load balancer's word, which would let one choose what the
/// calls of all others run.
#[derive(Debug)]
pub(super) struct Targets {
    shards: [RwLock<Shard>; SHARDS],
}

/// What was not used during one generation is forgotten after the next.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Box<[u8]>, Arc<Target>>,
    old: HashMap<Box<[u8]>, Arc<Target>>,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
        }
    }
}

impl Targets {
    fn shard(&self, key: &[u8]) -> &RwLock<Shard> {
        &self.shards[key.first().map_or(0, |byte| usize::from(*byte)) % SHARDS]
    }

    /// The function that is known as `key`.
    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<Target>> {
        let old = {
            let shard = self
                .shard(key)
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(target) = shard.young.get(key) {
                return Some(Arc::clone(target));
            }
            Arc::clone(shard.old.get(key)?)
        };
        self.keep(key, Arc::clone(&old));
        Some(old)
    }

    /// Remembers a function.
    pub(super) fn keep(&self, key: &[u8], target: Arc<Target>) {
        let mut shard = self
            .shard(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if shard.young.len() >= GENERATION {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key.into(), target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::function;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let targets = Targets::default();
        let target = function("f");
        targets.keep(&[0, 1], Arc::clone(&target));
        targets.keep(&[0, 2], Arc::clone(&target));
        for n in 0..4 * GENERATION as u32 {
            let mut key = vec![0, 9];
            key.extend(n.to_le_bytes());
            targets.keep(&key, Arc::clone(&target));
            assert!(targets.find(&[0, 1]).is_some(), "{n}");
        }
        assert!(targets.find(&[0, 2]).is_none());
        let shard = targets.shards[0].read().expect("no panic");
        assert!(shard.young.len() + shard.old.len() <= 2 * GENERATION);
    }
}
