//! The state machine of a durable call. Each move is a pure function of what is known of the call: it
//! returns what the call becomes and whether its doorbell must ring, or refuses.
//!
//! Two facts carry the promises: a move out of `running` names the epoch of the claim that led into
//! it, so that whoever lost its lease changes nothing; and a final state refuses every move.

use std::time::Duration;

use super::fault::Fault;
use super::lease::AttemptOutcome;
use super::record::AttemptState;
use super::retry;
use super::state::{CallState, DeadReason};
use crate::timestamp::Timestamp;

/// A call whose container died under it so often is given up, whatever attempts are left.
pub const MAX_CRASHES: u32 = 3;
/// A call whose runner was lost under it so often while its function ran is given up: it may well be
/// what kills them.
pub const MAX_LEASE_LOSSES: u32 = 5;

/// What decides about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How far it is.
    pub state: CallState,
    /// Why it was given up, if it was.
    pub reason: Option<DeadReason>,
    /// The number of its last claim.
    pub epoch: i64,
    /// Attempts that were used up: those that ended through the function's fault.
    pub attempts: u32,
    /// How many it is allowed; at least one.
    pub max_attempts: u32,
    /// How often its container died.
    pub crashes: u32,
    /// How often its lease was lost after its function had begun to run.
    pub lease_losses: u32,
    /// How often in a row it came back without a fault of the function's: the platform failed, the
    /// runner gave it back, or was lost.
    pub setbacks: u32,
    /// The longest pause after a fault of the function's, in milliseconds.
    pub backoff_ms: u64,
    /// When it may run.
    pub due_at: Timestamp,
    /// When it is given up if it has not come to an end.
    pub expires_at: Timestamp,
}

/// Why a move is not made; nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// It has its final state.
    #[error("the call is over")]
    Over,
    /// Another claim came after the one that is named.
    #[error("the lease was lost")]
    Stale,
    /// It is neither queued nor delayed.
    #[error("the call runs already")]
    Running,
    /// It is not running.
    #[error("the call does not run")]
    NotRunning,
    /// Its time has not come.
    #[error("the call is not due yet")]
    NotDue,
    /// It must be given up instead.
    #[error("the call has expired")]
    Expired,
}

/// What a call becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// What is known of it from now on.
    pub next: Progress,
    /// Whether its doorbell rings at [`Progress::due_at`], because it is queued again.
    pub ring: bool,
    /// How the attempt that ends with this move is recorded, if one does.
    pub attempt: Option<AttemptState>,
}

impl Progress {
    /// A call as it is accepted at `now`.
    pub fn accepted(
        now: Timestamp,
        due_at: Timestamp,
        expires_at: Timestamp,
        max_attempts: u32,
    ) -> Self {
        Self {
            state: if due_at > now {
                CallState::Delayed
            } else {
                CallState::Queued
            },
            reason: None,
            epoch: 0,
            attempts: 0,
            max_attempts: max_attempts.max(1),
            crashes: 0,
            lease_losses: 0,
            setbacks: 0,
            backoff_ms: 0,
            due_at,
            expires_at,
        }
    }

    /// A runner takes it.
    ///
    /// # Errors
    /// It is over, running, expired or not due.
    pub fn claim(&self, now: Timestamp) -> Result<Move, Refused> {
        match self.state {
            CallState::Delayed | CallState::Queued => {}
            CallState::Running => return Err(Refused::Running),
            _ => return Err(Refused::Over),
        }
        if self.expires_at <= now {
            return Err(Refused::Expired);
        }
        if self.due_at > now {
            return Err(Refused::NotDue);
        }
        Ok(quiet(Self {
            state: CallState::Running,
            epoch: self.epoch + 1,
            ..self.clone()
        }))
    }

    /// Whether the holder of the claim `epoch` may go on.
    ///
    /// # Errors
    /// It is over, does not run, or was claimed again.
    pub fn check_lease(&self, epoch: i64) -> Result<(), Refused> {
        if self.state.is_final() {
            return Err(Refused::Over);
        }
        if self.epoch != epoch {
            return Err(Refused::Stale);
        }
        if self.state != CallState::Running {
            return Err(Refused::NotRunning);
        }
        Ok(())
    }

    /// The attempt of the claim `epoch` is over. `random` is any number, for the pause.
    ///
    /// # Errors
    /// As [`Progress::check_lease`].
    pub fn finish(
        &self,
        epoch: i64,
        outcome: &AttemptOutcome,
        now: Timestamp,
        random: u64,
    ) -> Result<Move, Refused> {
        self.check_lease(epoch)?;
        let (fault, crashed, retry_after) = match outcome {
            AttemptOutcome::Answered { status, .. } if *status < 500 => {
                return Ok(self.ends(CallState::Success, None, AttemptState::Success));
            }
            AttemptOutcome::Answered { retry_after, .. } => (Fault::Function, false, *retry_after),
            AttemptOutcome::Failed {
                fault,
                crashed,
                retry_after,
                ..
            } => (*fault, *crashed, *retry_after),
            AttemptOutcome::Returned => {
                return Ok(self.comes_back(now, random, AttemptState::Returned));
            }
        };
        let attempt = match fault {
            Fault::Timeout => AttemptState::Timeout,
            _ => AttemptState::Error,
        };
        let failed = Self {
            attempts: self.attempts + u32::from(fault.uses_attempt()),
            crashes: self.crashes + u32::from(crashed),
            ..self.clone()
        };
        if fault == Fault::Permanent {
            return Ok(failed.ends(CallState::Dead, Some(DeadReason::Permanent), attempt));
        }
        if failed.crashes >= MAX_CRASHES && failed.max_attempts > 1 {
            return Ok(failed.ends(CallState::Dead, Some(DeadReason::Poison), attempt));
        }
        if failed.attempts >= failed.max_attempts {
            return Ok(match (failed.max_attempts, fault) {
                (1, Fault::Timeout) => failed.ends(CallState::Timeout, None, attempt),
                (1, _) => failed.ends(CallState::Error, None, attempt),
                _ => failed.ends(CallState::Dead, Some(DeadReason::RetriesExhausted), attempt),
            });
        }
        if fault == Fault::Platform {
            let pause = retry::platform_backoff(failed.setbacks, random);
            return Ok(failed.set_back().waits(now, pause, attempt));
        }
        let own = retry::backoff(Duration::from_millis(failed.backoff_ms), random);
        let pause = retry::asked(own, retry_after);
        let failed = Self {
            setbacks: 0,
            backoff_ms: millis(pause).max(failed.backoff_ms),
            ..failed
        };
        Ok(failed.waits(now, pause, attempt))
    }

    /// The lease of the claim `epoch` ran out: its runner is gone, or takes too long to say that it
    /// is not. This uses up no attempt; but if the function had `started`, the call may be what its runner
    /// died of. `random` is any number, for the pause.
    ///
    /// # Errors
    /// As [`Progress::check_lease`].
    pub fn lease_lost(
        &self,
        epoch: i64,
        started: bool,
        now: Timestamp,
        random: u64,
    ) -> Result<Move, Refused> {
        self.check_lease(epoch)?;
        let attempt = AttemptState::LeaseLost;
        let lost = Self {
            lease_losses: self.lease_losses + u32::from(started),
            ..self.clone()
        };
        if lost.lease_losses >= MAX_LEASE_LOSSES {
            return Ok(lost.ends(CallState::Dead, Some(DeadReason::Poison), attempt));
        }
        Ok(lost.comes_back(now, random, attempt))
    }

    /// Somebody cancels it. A running call's epoch moves on, so that no late result wins.
    ///
    /// # Errors
    /// It is over.
    pub fn cancel(&self) -> Result<Move, Refused> {
        match self.state {
            CallState::Running => {
                Ok(self
                    .moved_on()
                    .ends(CallState::Cancelled, None, AttemptState::Cancelled))
            }
            state if state.is_final() => Err(Refused::Over),
            _ => Ok(self.gives_up(CallState::Cancelled, None)),
        }
    }

    /// Gives it up before it runs (again): it expired, or its function is gone.
    ///
    /// # Errors
    /// It is over, or runs.
    pub fn give_up(&self, reason: DeadReason) -> Result<Move, Refused> {
        match self.state {
            CallState::Running => Err(Refused::Running),
            state if state.is_final() => Err(Refused::Over),
            _ => Ok(self.gives_up(CallState::Dead, Some(reason))),
        }
    }

    fn moved_on(&self) -> Self {
        Self {
            epoch: self.epoch + 1,
            ..self.clone()
        }
    }

    fn gives_up(&self, state: CallState, reason: Option<DeadReason>) -> Move {
        quiet(Self {
            state,
            reason,
            ..self.clone()
        })
    }

    fn ends(&self, state: CallState, reason: Option<DeadReason>, attempt: AttemptState) -> Move {
        Move {
            attempt: Some(attempt),
            ..self.gives_up(state, reason)
        }
    }

    fn set_back(&self) -> Self {
        Self {
            setbacks: self.setbacks.saturating_add(1),
            ..self.clone()
        }
    }

    /// Queued again: at once the first time, since another runner can have it, and later each time
    /// after that, since nobody seems to be able to run it.
    fn comes_back(&self, now: Timestamp, random: u64, attempt: AttemptState) -> Move {
        let pause = match self.setbacks.checked_sub(1) {
            Some(before) => retry::platform_backoff(before, random),
            None => Duration::ZERO,
        };
        self.set_back().waits(now, pause, attempt)
    }

    /// Queued again after `pause`, unless it expires before.
    fn waits(&self, now: Timestamp, pause: Duration, attempt: AttemptState) -> Move {
        let due_at = Timestamp::from_unix_millis(
            now.unix_millis()
                .saturating_add(i64::try_from(millis(pause)).unwrap_or(i64::MAX)),
        );
        if due_at >= self.expires_at {
            return self.ends(CallState::Dead, Some(DeadReason::Expired), attempt);
        }
        Move {
            next: Self {
                state: CallState::Queued,
                due_at,
                ..self.clone()
            },
            ring: true,
            attempt: Some(attempt),
        }
    }
}

fn millis(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

/// A move with no effect but itself.
fn quiet(next: Progress) -> Move {
    Move {
        next,
        ring: false,
        attempt: None,
    }
}

#[cfg(test)]
mod tests;
