//! How many messages a node asks the queue for. Enough for its free slots, and to see past those of
//! a function that may get no more slots here; none while all slots are taken. A change costs the
//! broker a little, so that small ones are not made.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that may wait here although there is no slot for them: a few hogs with a full window each,
/// behind which the calls of others are to be seen.
const ALLOWANCE: usize = 1024;
/// Slots that were all taken for so long are not free again soon.
const LULL: Duration = Duration::from_millis(200);
/// The fewest that are asked for.
const FEWEST: u32 = 16;

/// What a node could do with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    /// Free slots of its runners.
    pub(super) slots: u64,
    /// Messages whose calls are being claimed.
    pub(super) claiming: usize,
    /// Messages that wait for a slot.
    pub(super) waiting: usize,
}

/// What the queue was asked for.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    asked: u32,
    /// Since when there are no slots.
    lull: Option<Instant>,
}

impl Prefetch {
    /// What the queue is to be asked for now, if that is something else than before.
    pub(super) fn wanted(&mut self, demand: Demand, now: Instant) -> Option<u32> {
        let wanted = if demand.slots == 0 {
            let since = *self.lull.get_or_insert(now);
            if now.duration_since(since) < LULL {
                return None;
            }
            0
        } else {
            self.lull = None;
            let slots = usize::try_from(demand.slots).unwrap_or(usize::MAX);
            let all = slots
                .saturating_add(demand.claiming)
                .saturating_add(demand.waiting.min(ALLOWANCE));
            let all = u32::try_from(all).unwrap_or(u32::MAX);
            all.clamp(FEWEST, 1 << 16).next_power_of_two()
        };
        let much_less = wanted == 0 || wanted <= self.asked / 4;
        if wanted > self.asked || (much_less && wanted != self.asked) {
            self.asked = wanted;
            return Some(wanted);
        }
        None
    }

    /// When to ask again, although nothing happens.
    pub(super) fn recheck(&self) -> Option<Instant> {
        let since = self.lull?;
        (self.asked > 0).then(|| since + LULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(slots: u64, claiming: usize, waiting: usize) -> Demand {
        Demand {
            slots,
            claiming,
            waiting,
        }
    }

    #[test]
    fn it_covers_free_slots_and_what_waits_in_vain_up_to_a_bound() {
        let now = Instant::now();
        let mut prefetch = Prefetch::default();
        assert_eq!(prefetch.wanted(demand(1, 0, 0), now), Some(FEWEST));
        assert_eq!(prefetch.wanted(demand(3, 1, 0), now), None);
        assert_eq!(prefetch.wanted(demand(10, 20, 0), now), Some(32));
        // A hog whose messages all wait here: there is still room for those of others.
        let Some(asked) = prefetch.wanted(demand(2, 0, 128), now) else {
            unreachable!("more is asked for");
        };
        assert!(asked >= 130);
        let Some(most) = prefetch.wanted(demand(2, 0, 1_000_000), now) else {
            unreachable!("more is asked for");
        };
        assert!(most <= 2048);
        // Less is asked for only when it is much less.
        assert_eq!(prefetch.wanted(demand(600, 0, 0), now), None);
        assert_eq!(prefetch.wanted(demand(1, 0, 0), now), Some(FEWEST));
    }

    #[test]
    fn nothing_is_asked_for_when_slots_are_taken_for_a_while() {
        let now = Instant::now();
        let mut prefetch = Prefetch::default();
        prefetch.wanted(demand(1, 0, 0), now);
        assert_eq!(prefetch.wanted(demand(0, 1, 0), now), None);
        let later = prefetch.recheck().expect("a time");
        assert_eq!(prefetch.wanted(demand(0, 0, 0), later), Some(0));
        assert_eq!(prefetch.recheck(), None);
        assert_eq!(prefetch.wanted(demand(1, 0, 0), later), Some(FEWEST));
    }
}
