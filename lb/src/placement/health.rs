//! Whether a runner is given calls: a state machine without clock or side effects.
//!
//! ```text
//!             failures in a row, slow              time is over (and a probe was answered)
//!   healthy ──────────────────────────► ejected ────────────────────────► trial
//!      ▲                                   ▲   a failure, or still slow     │ │
//!      │                                   └────────────────────────────────┘ │
//!      └──────────────────────────────────────────────────────────────────────┘
//!                              enough good calls
//! ```

use std::time::Duration;

use super::Now;
use super::settings::FleetSettings;

/// A runner's health, for people, metrics and the owner of its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is given calls.
    Healthy,
    /// It is given none, until this time at least.
    Ejected {
        /// When it is tried again.
        until: Now,
    },
    /// It is given a few calls, to see how it does.
    Probing,
    /// It takes no new calls, by its own word.
    Draining,
}

/// Why a runner was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It failed calls, or could not be reached. Trying it costs a call, so that a probe comes
    /// first.
    Failures,
    /// It was much slower than the others.
    Slow,
}

/// The state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Healthy {
        /// Failures since the last good call.
        failures: u32,
    },
    Ejected {
        until: Now,
        cause: Cause,
        /// Ejections since it was healthy.
        times: u32,
    },
    Trial {
        cause: Cause,
        times: u32,
        /// Calls it was given, and the last one's time.
        sent: u32,
        last: Now,
        /// Calls it did well.
        good: u32,
    },
}

/// What is learned about a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was given a call.
    Sent,
    /// It did a call well.
    Good,
    /// It gave a call back, or the caller gave up: nothing is learned.
    Void,
    /// It failed a call, or could not be reached.
    Failure,
    /// It is much slower than the others.
    Slow,
    /// It answered a health check.
    Answered,
    /// It did not.
    Silent,
    /// Time has passed.
    Tick,
    /// Too many are ejected: it must do.
    Pardon,
}

/// Without a health check's answer a failing runner is tried after this many times its ejection.
const UNPROBED: u32 = 3;

impl Default for State {
    fn default() -> Self {
        Self::Healthy { failures: 0 }
    }
}

impl State {
    /// Whether it is out of the ordinary round of calls.
    pub(crate) fn is_out(self) -> bool {
        !matches!(self, Self::Healthy { .. })
    }

    /// The state after `event`. `may_eject` is false when too many others are ejected already.
    pub(crate) fn after(
        self,
        event: Event,
        now: Now,
        may_eject: bool,
        settings: &FleetSettings,
    ) -> Self {
        match (self, event) {
            (_, Event::Pardon) => Self::default(),
            (Self::Healthy { .. }, Event::Good) => Self::default(),
            (Self::Healthy { failures }, Event::Failure | Event::Silent) => {
                let failures = failures.saturating_add(1);
                if may_eject && failures >= settings.failures_to_eject.max(1) {
                    Self::eject(Cause::Failures, 1, now, settings)
                } else {
                    Self::Healthy { failures }
                }
            }
            (Self::Healthy { .. }, Event::Slow) if may_eject => {
                Self::eject(Cause::Slow, 1, now, settings)
            }
            (Self::Healthy { .. }, _) => self,

            (
                Self::Ejected {
                    cause,
                    times,
                    until,
                },
                Event::Answered,
            ) if now >= until => Self::trial(cause, times, now),
            (Self::Ejected { times, .. }, Event::Silent) => {
                Self::eject(Cause::Failures, times, now, settings)
            }
            (Self::Ejected { cause, times, .. }, Event::Tick) if now >= self.due(settings) => {
                Self::trial(cause, times, now)
            }
            (Self::Ejected { .. }, _) => self,

            (Self::Trial { times, .. }, Event::Failure | Event::Silent) => {
                Self::eject(Cause::Failures, times.saturating_add(1), now, settings)
            }
            (Self::Trial { times, .. }, Event::Slow) => {
                Self::eject(Cause::Slow, times.saturating_add(1), now, settings)
            }
            (Self::Trial { good, .. }, Event::Good) if good + 1 >= settings.trial_calls => {
                Self::default()
            }
            (
                Self::Trial {
                    cause,
                    times,
                    sent,
                    last,
                    good,
                },
                Event::Good,
            ) => {
                let good = good + 1;
                Self::Trial {
                    cause,
                    times,
                    sent,
                    last,
                    good,
                }
            }
            (
                Self::Trial {
                    cause,
                    times,
                    sent,
                    good,
                    ..
                },
                Event::Sent,
            ) => {
                let sent = sent.saturating_add(1);
                Self::Trial {
                    cause,
                    times,
                    sent,
                    last: now,
                    good,
                }
            }
            (
                Self::Trial {
                    cause,
                    times,
                    sent,
                    last,
                    good,
                },
                Event::Void,
            ) => {
                let sent = sent.saturating_sub(1);
                Self::Trial {
                    cause,
                    times,
                    sent,
                    last,
                    good,
                }
            }
            (Self::Trial { .. }, _) => self,
        }
    }

    /// When time alone changes something: the end of an ejection, or the next call of a trial.
    pub(crate) fn due(self, settings: &FleetSettings) -> Now {
        match self {
            Self::Healthy { .. } => Now::MAX,
            Self::Ejected {
                until,
                cause: Cause::Slow,
                ..
            } => until,
            Self::Ejected {
                until,
                cause: Cause::Failures,
                times,
            } => until.saturating_add(length(times, settings).saturating_mul(UNPROBED - 1)),
            // One call first; each good one earns it more, so that a bad trial costs little.
            Self::Trial { sent, good, .. } if sent <= good.saturating_mul(2) => Now::ZERO,
            // Calls that have not ended: one more is given from time to time.
            Self::Trial { last, .. } => last.saturating_add(settings.eject_longest),
        }
    }

    /// What people see of it.
    pub(crate) fn health(self) -> Health {
        match self {
            Self::Healthy { .. } => Health::Healthy,
            Self::Ejected { until, .. } => Health::Ejected { until },
            Self::Trial { .. } => Health::Probing,
        }
    }

    fn eject(cause: Cause, times: u32, now: Now, settings: &FleetSettings) -> Self {
        let until = now.saturating_add(length(times, settings));
        Self::Ejected {
            until,
            cause,
            times,
        }
    }

    fn trial(cause: Cause, times: u32, now: Now) -> Self {
        Self::Trial {
            cause,
            times,
            sent: 0,
            last: now,
            good: 0,
        }
    }
}

/// How long the ejection with this number lasts.
fn length(times: u32, settings: &FleetSettings) -> Duration {
    let doubled = 1_u32 << times.saturating_sub(1).min(16);
    settings
        .eject_first
        .saturating_mul(doubled)
        .min(settings.eject_longest)
}

#[cfg(test)]
mod tests;
