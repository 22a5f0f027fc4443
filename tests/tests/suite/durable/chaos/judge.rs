//! What the four ledgers say together: the clients, the API, the functions, and what is left in the
//! store and the broker.

use std::collections::{BTreeMap, HashMap};

use domain::call::{Attempt, AttemptState};
use domain::{CallState, DeadReason};
use hearth_tests::Deployed;

use super::books::{Books, History};
use super::clients::{Account, CancelTold, Told};
use super::natures::Nature;

/// All that is known in the end.
pub(super) struct Evidence {
    /// By the clients.
    pub(super) accounts: Vec<Account>,
    /// By the API, in two looks.
    pub(super) first: Books,
    pub(super) second: Books,
    /// By the functions.
    pub(super) executions: Executions,
    /// What is left that should not be: its name, and how much of it.
    pub(super) left: Vec<(&'static str, u64)>,
    /// What the functions do, by their ids.
    pub(super) natures: HashMap<String, Nature>,
}

/// How often functions began with a call, and came to the end of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) begun: usize,
    pub(super) ended: usize,
}

/// What the functions say, by the ids of the calls.
pub(super) type Executions = BTreeMap<String, Runs>;

/// Reads the lines of the ledger.
pub(super) fn executions(lines: &[String]) -> Executions {
    let mut executions = Executions::new();
    for line in lines {
        let mut words = line.split(' ');
        let (what, call) = (words.next(), words.next().expect("a call"));
        let runs = executions.entry(call.to_owned()).or_default();
        match what {
            Some("begin") => runs.begun += 1,
            what => {
                assert_eq!(what, Some("end"), "nothing to enter: {line}");
                runs.ended += 1;
            }
        }
    }
    executions
}

/// The natures of functions, by their ids.
pub(super) fn natures(functions: &[Deployed], natures: &[Nature]) -> HashMap<String, Nature> {
    let ids = functions.iter().map(|function| function.fn_id.clone());
    ids.zip(natures.iter().copied()).collect()
}

impl Evidence {
    /// What must not have happened, and did.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.check_promises(&mut faults);
        for (id, history) in &self.second {
            let mut found = |what: String| {
                let call = call_number(history).unwrap_or_else(|| "?".to_owned());
                faults.push(format!("call {call} ({id}) {what}\n    {}", told(history)));
            };
            if !history.call.status.is_final() {
                found("is in flight".to_owned());
                continue;
            }
            if let Some(why) = illegal(history) {
                found(why);
            }
            let runs = self.executions.get(id).copied().unwrap_or_default();
            if let Some(why) = unexplained(history, runs) {
                found(why);
            }
            match self.first.get(id) {
                Some(before) if before == history || !before.call.status.is_final() => {}
                Some(before) => found(format!("has changed; it was\n    {}", told(before))),
                None => found("was not there a moment ago".to_owned()),
            }
        }
        for id in self
            .first
            .keys()
            .filter(|id| !self.second.contains_key(*id))
        {
            faults.push(format!("call {id} is gone"));
        }
        for id in self.executions.keys() {
            if !self.second.contains_key(id) {
                faults.push(format!("call {id} was executed, and nobody knows it"));
            }
        }
        for (what, count) in &self.left {
            if *count > 0 {
                faults.push(format!("{count} {what} are left"));
            }
        }
        faults
    }

    /// What clients were told holds.
    fn check_promises(&self, faults: &mut Vec<String>) {
        let mut calls: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (id, history) in &self.second {
            match call_number(history) {
                Some(number) => calls.entry(number).or_default().push(id),
                None => faults.push(format!("call {id} is nobody's")),
            }
        }
        let mut cancelled: HashMap<&str, bool> = HashMap::new();
        for account in &self.accounts {
            let number = account.plan.call.to_string();
            let made = calls.get(&number).map(Vec::as_slice).unwrap_or_default();
            if made.len() > 1 {
                faults.push(format!("call {number} was made {} times", made.len()));
            }
            let Told::Accepted(id) = &account.told else {
                continue;
            };
            if account.looked == Some(http::StatusCode::NOT_FOUND) {
                faults.push(format!("call {number} ({id}) was accepted, and not found"));
            }
            let Some(history) = self.second.get(id) else {
                faults.push(format!("call {number} ({id}) was accepted, and is lost"));
                continue;
            };
            let is_cancelled = history.call.status == CallState::Cancelled;
            match account.cancel {
                Some(CancelTold::Cancelled) if !is_cancelled => faults.push(format!(
                    "call {number} ({id}) was cancelled, and is\n    {}",
                    told(history)
                )),
                _ => {}
            }
            *cancelled.entry(id).or_default() |= account.cancel.is_some();
            if let Some(why) = self.unnatural(account, history) {
                faults.push(format!("call {number} ({id}) {why}\n    {}", told(history)));
            }
        }
        for (id, history) in &self.second {
            let asked_for = cancelled.get(id.as_str()).copied().unwrap_or_default();
            if history.call.status == CallState::Cancelled && !asked_for {
                faults.push(format!("call {id} was cancelled by nobody"));
            }
        }
    }

    /// Why this end is not one of this function's, if so.
    fn unnatural(&self, account: &Account, history: &History) -> Option<String> {
        let call = &history.call;
        let nature = self.natures.get(call.fn_id.as_str())?;
        let own = account.plan.call.to_string();
        if *nature != account.plan.nature() || call_number(history).as_ref() != Some(&own) {
            return Some("is another call".to_owned());
        }
        if call.max_attempts != account.plan.attempts() {
            return Some(format!("is allowed {} attempts", call.max_attempts));
        }
        let may_expire = account.plan.expiry.is_some();
        let fits = match (call.status, call.reason) {
            (state, _) if !state.is_final() => true,
            (CallState::Cancelled, _) => true,
            (CallState::Dead, Some(DeadReason::Expired)) => may_expire,
            (state, reason) => nature.may_end(account.plan.attempts(), state, reason),
        };
        (!fits).then(|| format!("of a function that {} ended so", nature.name()))
    }
}

/// The number that the call's client gave it.
fn call_number(history: &History) -> Option<String> {
    history.call.tags.get("call").cloned()
}

/// What no history may be, of a call that is over.
fn illegal(history: &History) -> Option<String> {
    let (call, attempts) = (&history.call, &history.attempts);
    let epochs = attempts.iter().map(|attempt| attempt.epoch);
    let claims = i64::try_from(attempts.len()).expect("a small number");
    if !epochs.eq(1..=claims) {
        return Some("has claims with wrong numbers".to_owned());
    }
    let open =
        |attempt: &&Attempt| attempt.status == AttemptState::Running || attempt.ended_at.is_unset();
    if attempts.iter().any(|attempt| open(&attempt)) {
        return Some("is over, and an attempt of it is not".to_owned());
    }
    let was_running = matches!(last(attempts), Some(AttemptState::Cancelled));
    if call.epoch != claims + i64::from(was_running) {
        return Some("has another epoch than its last attempt".to_owned());
    }
    let earlier = attempts.iter().rev().skip(1);
    if earlier.into_iter().any(|attempt| {
        matches!(
            attempt.status,
            AttemptState::Success | AttemptState::Cancelled
        )
    }) {
        return Some("went on after its end".to_owned());
    }
    let failed = attempts
        .iter()
        .filter(|attempt| is_failure(attempt))
        .count();
    let used = usize::try_from(call.attempts).expect("a small number");
    if used > failed || call.attempts > call.max_attempts {
        return Some(format!("has used {used} attempts"));
    }
    let last = last(attempts);
    let agrees = match (call.status, call.reason) {
        (CallState::Success, None) => last == Some(AttemptState::Success),
        (CallState::Error, None) => last == Some(AttemptState::Error),
        (CallState::Timeout, None) => last == Some(AttemptState::Timeout),
        (CallState::Cancelled, None) => last != Some(AttemptState::Success),
        (CallState::Dead, Some(DeadReason::RetriesExhausted)) => {
            call.attempts == call.max_attempts
                && matches!(last, Some(AttemptState::Error | AttemptState::Timeout))
        }
        (CallState::Dead, Some(DeadReason::Poison | DeadReason::Permanent)) => {
            last == Some(AttemptState::Error)
        }
        (CallState::Dead, Some(DeadReason::Expired | DeadReason::FunctionDeleted)) => {
            last != Some(AttemptState::Success)
        }
        _ => false,
    };
    (!agrees).then(|| "does not end as its last attempt does".to_owned())
}

fn last(attempts: &[Attempt]) -> Option<AttemptState> {
    attempts.last().map(|attempt| attempt.status)
}

fn is_failure(attempt: &Attempt) -> bool {
    matches!(attempt.status, AttemptState::Error | AttemptState::Timeout)
}

/// What executions the history does not explain.
fn unexplained(history: &History, runs: Runs) -> Option<String> {
    let started = history
        .attempts
        .iter()
        .filter(|attempt| !attempt.started_at.is_unset());
    let started = started.count();
    // Each execution is one attempt's, whose start was noted before; and an attempt is one execution.
    if runs.begun > started {
        return Some(format!(
            "ran {} times, and {started} attempts were started",
            runs.begun
        ));
    }
    if history.call.status == CallState::Success && runs.ended == 0 {
        return Some("is a success, and never ran to its end".to_owned());
    }
    // More than those that count are those that got lost.
    let counted = usize::try_from(history.call.attempts).expect("a small number")
        + usize::from(history.call.status == CallState::Success);
    let attempts = history.attempts.iter();
    let lost = attempts.filter(|attempt| {
        matches!(
            attempt.status,
            AttemptState::LeaseLost | AttemptState::Returned | AttemptState::Cancelled
        )
    });
    let failed = history.attempts.iter().filter(|a| is_failure(a)).count();
    let used = usize::try_from(history.call.attempts).expect("a small number");
    // Failures that used up no attempt were the platform's.
    let explained = counted + lost.count() + failed.saturating_sub(used);
    (runs.begun > explained)
        .then(|| format!("ran {} times, and {explained} are explained", runs.begun))
}

fn told(history: &History) -> String {
    let call = &history.call;
    let attempts: Vec<_> = history
        .attempts
        .iter()
        .map(|attempt| {
            let started = if attempt.started_at.is_unset() {
                ""
            } else {
                ", started"
            };
            let error = attempt.error.as_deref().unwrap_or_default();
            format!(
                "{} {}{started} on {} {error}",
                attempt.epoch,
                attempt.status.as_str(),
                attempt.runner_id
            )
        })
        .collect();
    format!(
        "{} {} epoch {} attempts {}/{} due {:?}: [{}]",
        call.status.as_str(),
        call.reason.map_or("", DeadReason::as_str),
        call.epoch,
        call.attempts,
        call.max_attempts,
        call.due_at,
        attempts.join("; ")
    )
}

#[cfg(test)]
mod tests;
