//! What happened, as a table for people.

use std::collections::BTreeMap;

use domain::CallState;
use domain::call::AttemptState;

use super::clients::Told;
use super::judge::Evidence;
use super::troubles::Count;

/// The final states, in the order of the columns.
const STATES: [CallState; 5] = [
    CallState::Success,
    CallState::Error,
    CallState::Timeout,
    CallState::Cancelled,
    CallState::Dead,
];

/// The whole table, in Markdown.
pub(super) fn table(evidence: &Evidence, troubles: &Count) -> String {
    let mut lines = vec![
        "| function | calls | success | error | timeout | cancelled | dead | in flight |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut rows: BTreeMap<&str, Vec<CallState>> = BTreeMap::new();
    for history in evidence.second.values() {
        let nature = evidence.natures.get(history.call.fn_id.as_str());
        let name = nature.map_or("?", |nature| nature.name());
        rows.entry(name).or_default().push(history.call.status);
        rows.entry("~ all").or_default().push(history.call.status);
    }
    for (name, states) in rows {
        let count = |state| states.iter().filter(|other| **other == state).count();
        let ends: Vec<_> = STATES
            .iter()
            .map(|state| count(*state).to_string())
            .collect();
        let flying = states.iter().filter(|state| !state.is_final()).count();
        let name = name.trim_start_matches("~ ");
        lines.push(format!(
            "| {name} | {} | {} | {flying} |",
            states.len(),
            ends.join(" | ")
        ));
    }
    let attempts = |wanted: AttemptState| {
        let attempts = evidence.second.values().flat_map(|call| &call.attempts);
        attempts.filter(|attempt| attempt.status == wanted).count()
    };
    let told = |wanted: fn(&Told) -> bool| {
        let accounts = evidence.accounts.iter();
        accounts.filter(|account| wanted(&account.told)).count()
    };
    let begun: usize = evidence.executions.values().map(|runs| runs.begun).sum();
    let again: usize = evidence
        .executions
        .values()
        .map(|runs| runs.begun.saturating_sub(1))
        .sum();
    let facts = [
        ("handed in", evidence.accounts.len()),
        (
            "told: accepted",
            told(|told| matches!(told, Told::Accepted(_))),
        ),
        (
            "told: refused",
            told(|told| matches!(told, Told::Refused(_))),
        ),
        (
            "told: nothing sure",
            told(|told| matches!(told, Told::Nothing(_))),
        ),
        ("executions", begun),
        ("executions after the first", again),
        (
            "attempts that lost their lease",
            attempts(AttemptState::LeaseLost),
        ),
        ("attempts given back", attempts(AttemptState::Returned)),
        ("attempts that failed", attempts(AttemptState::Error)),
        ("attempts out of time", attempts(AttemptState::Timeout)),
    ];
    lines.push(String::new());
    lines.push("| what | how many |".to_owned());
    lines.push("|---|---|".to_owned());
    lines.extend(facts.map(|(what, count)| format!("| {what} | {count} |")));
    lines.extend(
        troubles
            .iter()
            .map(|(what, count)| format!("| {what} | {count} |")),
    );
    lines.join("\n")
}
