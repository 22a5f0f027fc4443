//! Indexes along which a list of calls can be read, newest first: each leads to all that the filter
//! finds, and most of them to nothing else.

use domain::{CallKind, CallState};

use super::super::call_store::CallFilter;
use super::query::Values;

/// As much of a path as its index holds.
pub(super) const PATH_PREFIX: usize = 256;

/// An index, and which parts of it are read; they have no call in common.
pub(super) struct Walk {
    table: &'static str,
    id: &'static str,
    parts: Vec<String>,
}

impl Walk {
    fn of_calls(parts: Vec<String>) -> Self {
        Self {
            table: "calls",
            id: "c.id",
            parts,
        }
    }

    /// The ids of the first calls, `limit` of them but for the first `offset`; `ids` are the conditions
    /// on the id, with `{id}` where the column stands, and `others` those on a call's row.
    pub(super) fn sql(&self, ids: &str, others: &str, limit: &str, offset: usize) -> String {
        let ids = ids.replace("{id}", self.id);
        let part = |conditions: &str, end: &str| {
            format!(
                "SELECT {} AS id FROM {} c WHERE {conditions}{ids}{others} ORDER BY {} DESC LIMIT {end}",
                self.id, self.table, self.id
            )
        };
        let (enough, end) = match offset {
            0 => (limit.to_owned(), limit.to_owned()),
            _ => (
                format!("{limit} + {offset}"),
                format!("{limit} OFFSET {offset}"),
            ),
        };
        if let [conditions] = self.parts.as_slice() {
            return part(conditions, &end);
        }
        // Each part is in order: what is merged of them is read as far as it is needed.
        let parts = self.parts.iter().enumerate();
        let parts: Vec<String> = parts
            .map(|(at, conditions)| {
                format!("SELECT * FROM ({}) AS part_{at}", part(conditions, &enough))
            })
            .collect();
        format!(
            "SELECT id FROM ({}) AS parts ORDER BY id DESC LIMIT {end}",
            parts.join(" UNION ALL ")
        )
    }
}

/// The indexes that can be walked for this filter; none if nothing can be found. If there is one, it
/// leads to nothing but what the filter finds, except for times and paths: see [`is_exact`].
pub(super) fn walks(filter: &CallFilter, values: &mut Values) -> Vec<Walk> {
    let groups = groups(filter);
    if groups.is_empty() {
        return Vec::new();
    }
    let of_groups = |owner: &str| {
        let groups = groups.iter().map(|(kind, state)| {
            let (kind, state) = (kind.as_str(), state.as_str());
            format!("{owner}c.kind = '{kind}' AND c.state = '{state}'")
        });
        Walk::of_calls(groups.collect())
    };
    let mut walks = Vec::new();
    if let Some((name, value)) = &filter.tag {
        let (name, value) = (values.text(name), values.text(value));
        walks.push(Walk {
            table: "call_tags",
            id: "c.call_id",
            parts: vec![format!("c.name = {name} AND c.value = {value}")],
        });
    }
    if let Some(path) = &filter.path {
        let prefix: String = path.chars().take(PATH_PREFIX).collect();
        let prefix = values.text(&prefix);
        let condition = format!("substr(c.path, 1, {PATH_PREFIX}) = {prefix}");
        walks.push(Walk::of_calls(vec![condition]));
    }
    if let Some(reason) = filter.reason {
        let reason = reason.as_str();
        let condition = format!("c.state = 'dead' AND c.reason = '{reason}'");
        walks.push(Walk::of_calls(vec![condition]));
    }
    if let Some(func) = &filter.fn_id {
        let owner = format!("c.fn_id = {} AND ", values.text(func.as_str()));
        walks.push(of_groups(&owner));
    } else if let Some(app) = &filter.app_id {
        let owner = format!("c.app_id = {} AND ", values.text(app.as_str()));
        walks.push(of_groups(&owner));
    } else if filter.reason.is_none() && (filter.kind.is_some() || !filter.states.is_empty()) {
        walks.push(of_groups(""));
    }
    if walks.is_empty() {
        walks.push(Walk::of_calls(vec!["TRUE".to_owned()]));
    }
    walks
}

/// Whether the only index that can be walked leads to nothing but what the filter finds, if it is asked
/// for the times, too.
pub(super) fn is_exact(filter: &CallFilter, walks: &[Walk]) -> bool {
    let is_timed = filter.from.is_some() || filter.to.is_some();
    let path_fits = |path: &String| path.chars().count() < PATH_PREFIX;
    // Tags know no times.
    walks.len() == 1
        && !(is_timed && filter.tag.is_some())
        && filter.path.as_ref().is_none_or(path_fits)
}

/// The pairs of kind and state that the list shows.
fn groups(filter: &CallFilter) -> Vec<(CallKind, CallState)> {
    let mut groups = Vec::new();
    for kind in CallKind::ALL {
        for state in CallState::ALL {
            let shown = filter.kind.is_none_or(|wanted| wanted == *kind)
                && (filter.states.is_empty() || filter.states.contains(state))
                && (filter.reason.is_none() || (*kind, *state) == (CallKind::Async, CallState::Dead))
                // A call whose client waits is recorded when it is over.
                && (*kind == CallKind::Async || state.is_final());
            if shown {
                groups.push((*kind, *state));
            }
        }
    }
    groups
}
