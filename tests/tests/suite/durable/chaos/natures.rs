//! The functions of the chaos: what each does to its calls, and how their calls may end.

use std::time::Duration;

use domain::{CallState, DeadReason};
use serde_json::{Value, json};

/// What a function does to every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nature {
    Succeeds,
    /// Takes longer than a lease that nobody renews.
    Slow,
    /// Fails so many times, and then succeeds.
    Flaky(u32),
    Fails,
    Crashes,
    /// Takes all memory that there is.
    Hungry,
    /// Has no answer before its time is up.
    Hangs,
    /// Takes the largest input that a durable call may have.
    Large,
}

/// Longer than any trouble lasts: a runner that hangs does not make its functions late.
const TIMEOUT: Duration = Duration::from_secs(60);
const SHORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The functions, by what they do.
pub(super) const FUNCTIONS: [Nature; 20] = [
    Nature::Succeeds,
    Nature::Succeeds,
    Nature::Succeeds,
    Nature::Succeeds,
    Nature::Succeeds,
    Nature::Succeeds,
    Nature::Succeeds,
    Nature::Slow,
    Nature::Slow,
    Nature::Slow,
    Nature::Flaky(1),
    Nature::Flaky(1),
    Nature::Flaky(2),
    Nature::Fails,
    Nature::Fails,
    Nature::Crashes,
    Nature::Crashes,
    Nature::Hungry,
    Nature::Hangs,
    Nature::Large,
];

impl Nature {
    /// Whether it costs the machine a container, or much memory, or time.
    pub(super) fn is_heavy(self) -> bool {
        matches!(
            self,
            Self::Large | Self::Hungry | Self::Crashes | Self::Hangs
        )
    }

    /// What every execution is told to do: first, to have itself entered in the ledger.
    pub(super) fn knobs(self, ledger: &str, lease: Duration) -> Value {
        let mut knobs = json!({ "ledger": ledger });
        let millis = |time: Duration| u64::try_from(time.as_millis()).expect("a short time");
        match self {
            Self::Succeeds | Self::Large => {}
            Self::Slow => knobs["sleepTime"] = json!(millis(lease + lease / 2)),
            Self::Flaky(times) => knobs["failAttempts"] = json!(times),
            Self::Fails => knobs["wireStatus"] = json!(502),
            Self::Crashes => knobs["isCrash"] = json!(true),
            Self::Hungry => knobs["allocateUntilKilled"] = json!(true),
            Self::Hangs => knobs["sleepTime"] = json!(millis(3 * SHORT_TIMEOUT)),
        }
        knobs
    }

    /// How long the function may take.
    pub(super) fn timeout(self) -> Duration {
        match self {
            Self::Hangs => SHORT_TIMEOUT,
            _ => TIMEOUT,
        }
    }

    /// Whether a call that is allowed `attempts` may end like this, when nobody cancels it and it
    /// does not expire.
    pub(super) fn may_end(
        self,
        attempts: u32,
        state: CallState,
        reason: Option<DeadReason>,
    ) -> bool {
        let exhausted = reason == Some(DeadReason::RetriesExhausted);
        let only = attempts == 1;
        match (self, state) {
            (Self::Succeeds | Self::Slow | Self::Large, state) => state == CallState::Success,
            (Self::Flaky(times), state) if attempts > times => state == CallState::Success,
            (Self::Flaky(_) | Self::Fails, CallState::Error) => only,
            (Self::Flaky(_) | Self::Fails, CallState::Dead) => !only && exhausted,
            (Self::Crashes | Self::Hungry, CallState::Error) => only,
            (Self::Crashes | Self::Hungry, CallState::Dead) => {
                !only && (exhausted || reason == Some(DeadReason::Poison))
            }
            (Self::Hangs, CallState::Timeout) => only,
            (Self::Hangs, CallState::Dead) => !only && exhausted,
            _ => false,
        }
    }

    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Succeeds => "succeeds",
            Self::Slow => "slow",
            Self::Flaky(_) => "fails first",
            Self::Fails => "fails",
            Self::Crashes => "crashes",
            Self::Hungry => "out of memory",
            Self::Hangs => "hangs",
            Self::Large => "6 MiB",
        }
    }
}
