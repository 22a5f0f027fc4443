//! Which runners there should be: what all sources say, and how it differs from what there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::HostPort;

use super::sources::{Found, Source};

/// What the sources said last.
#[derive(Debug, Default)]
pub(super) struct Roster(BTreeMap<Source, Found>);

impl Roster {
    /// Takes in what a source says now.
    pub(super) fn put(&mut self, source: Source, found: Found) {
        self.0.insert(source, found);
    }

    /// All runners. A registered process is itself wherever else its address was found.
    pub(super) fn wanted(&self) -> Found {
        let mut wanted = Found::new();
        for (address, id) in self.0.values().flatten() {
            let known = wanted.entry(address.clone()).or_default();
            if id.is_some() {
                *known = id.clone();
            }
        }
        wanted
    }
}

/// What is to be done so that there are the runners that are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) remove: Vec<HostPort>,
    pub(super) add: Vec<(HostPort, Option<Arc<str>>)>,
}

/// What makes `present` into `wanted`. Another process at the same address is another runner.
pub(super) fn difference(present: &Found, wanted: Found) -> Difference {
    let is_other = |(address, id): &(&HostPort, &Option<Arc<str>>)| match wanted.get(*address) {
        None => true,
        Some(new) => matches!((id, new), (Some(old), Some(new)) if old != new),
    };
    let remove: Vec<_> = present
        .iter()
        .filter(is_other)
        .map(|(address, _)| address.clone())
        .collect();
    let add = wanted
        .into_iter()
        .filter(|(address, _)| !present.contains_key(address) || remove.contains(address))
        .collect();
    Difference { remove, add }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(runners: &[(&str, Option<&str>)]) -> Found {
        let one = |(address, id): &(&str, Option<&str>)| {
            let address = HostPort::parse(address).expect("an address");
            (address, id.map(Arc::from))
        };
        runners.iter().map(one).collect()
    }

    #[test]
    fn a_runner_is_there_once_and_goes_when_no_source_has_it() {
        let mut roster = Roster::default();
        roster.put(Source::List, found(&[("a:1", None), ("b:1", None)]));
        roster.put(
            Source::Directory,
            found(&[("a:1", Some("x")), ("c:1", Some("z"))]),
        );
        let wanted = roster.wanted();
        let expected = found(&[("a:1", Some("x")), ("b:1", None), ("c:1", Some("z"))]);
        assert_eq!(wanted, expected);
        roster.put(Source::Directory, found(&[]));
        let left = difference(&wanted, roster.wanted());
        let gone = HostPort::parse("c:1").expect("an address");
        assert_eq!((left.remove, left.add), (vec![gone], Vec::new()));
    }

    #[test]
    fn another_process_at_the_address_is_another_runner() {
        let old = found(&[("a:1", Some("x")), ("b:1", None)]);
        let new = found(&[("a:1", Some("y")), ("b:1", Some("z"))]);
        let address = HostPort::parse("a:1").expect("an address");
        let expected = Difference {
            remove: vec![address.clone()],
            add: vec![(address, Some("y".into()))],
        };
        assert_eq!(difference(&old, new.clone()), expected);
        assert_eq!(difference(&new, new.clone()), Difference::default());
    }
}
