//! How many calls a runner asks for. A credit that was granted cannot be taken back, so that there are
//! few of them at a time: enough that the next call is on its way while one runs.

/// The most credits that are out at a time. With an API node that answers within 5 ms, half of them
/// bring 3,000 calls per second.
const LARGEST_WINDOW: u32 = 32;
/// One container in so many may be asked for at once.
const WINDOW_SHARE: u32 = 4;

/// The most bytes of inputs that are held while more calls are asked for.
pub(super) const MAX_HELD_BYTES: u64 = 64 << 20;

/// The rule of a runner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credits {
    max_calls: u32,
    window: u32,
}

/// What a runner has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    /// Credits that were granted and not used.
    pub(super) outstanding: u32,
    /// Calls whose leases it holds.
    pub(super) calls: u32,
    /// Their inputs.
    pub(super) bytes: u64,
}

impl Credits {
    /// For a runner that holds at most `max_calls`.
    pub(super) fn new(max_calls: u32) -> Self {
        let max_calls = max_calls.max(1);
        Self {
            max_calls,
            window: (max_calls / WINDOW_SHARE).clamp(1, LARGEST_WINDOW),
        }
    }

    /// How many to grant now. Half a window at a time, so that not each call needs a message.
    pub(super) fn wish(&self, load: Load) -> u32 {
        if load.outstanding > self.window / 2 || load.bytes >= MAX_HELD_BYTES {
            return 0;
        }
        let room = self
            .max_calls
            .saturating_sub(load.calls)
            .saturating_sub(load.outstanding);
        room.min(self.window - load.outstanding)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_runner_never_holds_more_than_it_may_and_never_stops_asking(
            max_calls in 1u32..300,
            steps in proptest::collection::vec((0u8..3, 1u64..(8 << 20)), 1..400),
        ) {
            let credits = Credits::new(max_calls);
            let (mut load, mut inputs) = (Load::default(), Vec::new());
            for (step, bytes) in steps {
                match step {
                    0 => load.outstanding += credits.wish(load),
                    1 if load.outstanding > 0 => {
                        load.outstanding -= 1;
                        load.calls += 1;
                        load.bytes += bytes;
                        inputs.push(bytes);
                    }
                    2 if load.calls > 0 => {
                        load.calls -= 1;
                        load.bytes -= inputs.pop().expect("one for each call");
                    }
                    _ => {}
                }
                prop_assert!(load.calls + load.outstanding <= max_calls);
                prop_assert!(load.outstanding <= LARGEST_WINDOW);
                if load.outstanding == 0 && load.calls < max_calls && load.bytes < MAX_HELD_BYTES {
                    prop_assert!(credits.wish(load) > 0);
                }
            }
        }
    }

    #[test]
    fn a_busy_runner_grants_many_with_one_message() {
        let credits = Credits::new(200);
        let load = |outstanding| Load {
            outstanding,
            ..Load::default()
        };
        assert_eq!(credits.wish(load(0)), 32);
        assert_eq!(credits.wish(load(17)), 0);
        assert_eq!(credits.wish(load(16)), 16);
    }
}
