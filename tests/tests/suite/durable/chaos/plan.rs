//! What each client of the chaos does, by the number of its call.

use std::time::Duration;

use bytes::Bytes;
use hearth_tests::random::Random;

use super::natures::{FUNCTIONS, Nature};

/// Where a call is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// At a load balancer, with `Fn-Invoke-Type: detached`.
    Detached,
    /// At a load balancer, with `Prefer: respond-async`.
    Preferred,
}

/// When a call is cancelled, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    Never,
    /// As soon as it is accepted, long before it is due.
    Waiting,
    /// A while after it was accepted.
    After(Duration),
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Names the call: two clients with one of these and one key hand in the same call.
    pub(super) call: u64,
    /// Which of the functions.
    pub(super) function: usize,
    pub(super) door: Door,
    pub(super) key: Option<String>,
    pub(super) delay: Option<u64>,
    pub(super) expiry: Option<u64>,
    pub(super) priority: Option<u64>,
    pub(super) max_attempts: Option<u32>,
    pub(super) cancel: Cancel,
    /// How long its client rests after it.
    pub(super) pause: Duration,
}

/// A delay that is not over before a call can be cancelled.
const LONG_DELAY: u64 = 20;
/// As much as a durable call may have.
pub(super) const LARGE_INPUT: usize = 6 << 20;

impl Plan {
    /// What the client does whose call has this number. Of some pairs of numbers both hand in the
    /// same call with one key.
    pub(super) fn of(state: u64, number: u64, longest_pause: u64) -> Self {
        let even = number & !1;
        let mut random = Random::of(state, even);
        let is_pair = random.within(0, 100) < 12;
        let call = if is_pair { even } else { number };
        let mut random = Random::of(state, call.wrapping_add(1 << 40));
        let mut some = |percent: u64| random.within(0, 100) < percent;
        let (delayed, expires, urgent, few) = (some(8), some(3), some(20), some(20));
        let (cancelled, preferred) = (some(6), some(30));
        let mut function = index(&mut random, FUNCTIONS.len());
        // What makes the machine tremble is not for every twentieth: each crash costs a container.
        if FUNCTIONS[function].is_heavy() && random.within(0, 2) == 0 {
            function = 0;
        }
        let cancel = match (cancelled, random.within(0, 3)) {
            (false, _) => Cancel::Never,
            (true, 0) => Cancel::After(random.millis(0, 1_500)),
            (true, _) => Cancel::Waiting,
        };
        Self {
            call,
            function,
            door: if preferred {
                Door::Preferred
            } else {
                Door::Detached
            },
            key: is_pair.then(|| format!("key-{call}")),
            delay: match cancel {
                Cancel::Waiting => Some(LONG_DELAY),
                _ => delayed.then(|| random.within(1, 5)),
            },
            expiry: expires.then(|| random.within(2, 10)),
            priority: urgent.then(|| random.within(0, 10)),
            max_attempts: few.then(|| u32::try_from(random.within(1, 3)).expect("a small number")),
            cancel,
            pause: random.millis(0, longest_pause),
        }
    }

    /// The same, but of a function that costs the machine little.
    pub(super) fn light(mut self) -> Self {
        if self.nature().is_heavy() {
            self.function = 0;
        }
        self
    }

    pub(super) fn nature(&self) -> Nature {
        FUNCTIONS[self.function]
    }

    /// How often the function may fail.
    pub(super) fn attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(3)
    }

    /// The options of the call, as headers.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("Fn-Call-Tags", format!("call={}", self.call))];
        headers.push(match self.door {
            Door::Detached => ("Fn-Invoke-Type", "detached".to_owned()),
            Door::Preferred => ("Prefer", "respond-async".to_owned()),
        });
        let mut option = |name, value: Option<u64>| {
            headers.extend(value.map(|value| (name, value.to_string())));
        };
        option("Fn-Call-Delay", self.delay);
        option("Fn-Call-Expiry", self.expiry);
        option("Fn-Call-Priority", self.priority);
        option("Fn-Call-Max-Attempts", self.max_attempts.map(u64::from));
        headers.extend(self.key.clone().map(|key| ("Idempotency-Key", key)));
        headers
    }

    /// The input, whose length depends on the call.
    pub(super) fn input(&self) -> Bytes {
        let length = match self.nature() {
            Nature::Large => LARGE_INPUT,
            _ => 10 + usize::try_from(self.call % 1_000).expect("a small number"),
        };
        vec![b'.'; length].into()
    }
}

fn index(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.within(0, count as u64)).expect("a place")
}
