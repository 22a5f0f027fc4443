//! Whether this node has room for work that must not stand in anybody's way.

use super::Resources;
use super::pool::Pool;
use crate::evictor::Evictor;

/// How much of the node may be in use while more work is taken, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HighWater(u64);

impl HighWater {
    /// At most all of it.
    pub(crate) fn new(percent: u64) -> Self {
        Self(percent.min(100))
    }

    fn is_reached(self, used: Resources, total: Resources) -> bool {
        let reached = |used: u64, total: u64| {
            u128::from(used) * 100 >= u128::from(total) * u128::from(self.0)
        };
        reached(used.memory_bytes, total.memory_bytes) || reached(used.cpu_millis, total.cpu_millis)
    }
}

/// Whether nobody waits for memory or CPU, and less than `high_water` of it is held by containers that
/// are at work: an idle one makes room for whoever needs it.
fn has_room(pool: &Pool, evictor: &Evictor, high_water: HighWater) -> bool {
    if pool.has_line() {
        return false;
    }
    let (used, total) = (pool.utilisation().used, pool.total());
    !high_water.is_reached(used, total)
        || !high_water.is_reached(used.saturating_sub(evictor.evictable()), total)
}

/// Waits until there is room.
pub(crate) async fn room(pool: &Pool, evictor: &Evictor, high_water: HighWater) {
    loop {
        // Taken before looking, so that no change after the look is missed.
        let moved = pool.moved();
        if has_room(pool, evictor, high_water) {
            return;
        }
        let search = evictor.search();
        let idled = search.idled();
        if has_room(pool, evictor, high_water) {
            return;
        }
        tokio::select! {
            () = moved => {}
            () = idled => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::agent::tests::function;

    const TOTAL: Resources = Resources {
        memory_bytes: 1000,
        cpu_millis: 1000,
    };

    fn memory(bytes: u64) -> Resources {
        Resources {
            memory_bytes: bytes,
            cpu_millis: 0,
        }
    }

    #[test]
    fn work_is_taken_below_the_high_water_and_not_above() {
        let (pool, evictor) = (Pool::new(TOTAL), Evictor::new());
        let room = || {
            room(&pool, &evictor, HighWater::new(80))
                .now_or_never()
                .is_some()
        };
        assert!(room());
        let low = pool.try_acquire(memory(799)).expect("free");
        assert!(room());
        let high = pool.try_acquire(memory(1)).expect("free");
        assert!(!room());
        drop(high);
        assert!(room());
        let cpu = Resources {
            memory_bytes: 0,
            cpu_millis: 800,
        };
        let cpu = pool.try_acquire(cpu).expect("free");
        assert!(!room());
        drop((low, cpu));
        assert!(room());
    }

    #[tokio::test]
    async fn room_comes_when_something_is_given_back_or_becomes_idle() {
        let (pool, evictor) = (Pool::new(TOTAL), Evictor::new());
        let held = pool.try_acquire(memory(900)).expect("free");
        let container = evictor.register(function("f").slot_key, held.resources());
        let waits = room(&pool, &evictor, HighWater::new(80));
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        container.offer(Instant::now());
        waits.await;

        assert!(container.try_claim());
        let waits = room(&pool, &evictor, HighWater::new(80));
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held);
        waits.await;
    }

    #[tokio::test]
    async fn nothing_is_taken_while_somebody_waits_for_resources() {
        let (pool, evictor) = (Pool::new(TOTAL), Evictor::new());
        let held = pool.try_acquire(memory(500)).expect("free");
        let waiter = pool.acquire(memory(600)).expect("possible");
        let waits = room(&pool, &evictor, HighWater::new(80));
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held);
        let token = waiter.await;
        waits.await;
        drop(token);
    }
}
