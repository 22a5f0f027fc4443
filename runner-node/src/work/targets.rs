//! What durable calls run: the same snapshot is the same function, whose key is computed once, and
//! which shares its containers with the calls of front doors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::call::lease::Snapshot;
use domain::{FnId, FnSpec};
use nodekit::exchange::Target;

/// Versions of one function that are remembered: calls that were accepted before a change run beside
/// those that were accepted afterwards.
const VERSIONS: usize = 4;
/// Functions in one generation; what was not used in one is forgotten after the next.
const GENERATION: usize = 1024;

/// The functions of recent calls.
#[derive(Debug, Default)]
pub(super) struct Targets(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<FnId, Versions>,
    old: HashMap<FnId, Versions>,
}

/// The most recently used one is the last.
type Versions = Vec<(Arc<Snapshot>, Arc<Target>)>;

impl Targets {
    /// What calls with this snapshot run.
    pub(super) fn of(&self, snapshot: &Arc<Snapshot>) -> Arc<Target> {
        // A change is either made or not.
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let generations = &mut *generations;
        let id = &snapshot.func.id;
        if !generations.young.contains_key(id) {
            if generations.young.len() >= GENERATION {
                generations.old = std::mem::take(&mut generations.young);
            }
            let versions = generations.old.remove(id).unwrap_or_default();
            generations.young.insert(id.clone(), versions);
        }
        let versions = generations.young.entry(id.clone()).or_default();
        let known = versions
            .iter()
            .rposition(|(known, _)| Arc::ptr_eq(known, snapshot) || known == snapshot);
        let version = match known {
            Some(at) => versions.remove(at),
            None => {
                if versions.len() >= VERSIONS {
                    versions.remove(0);
                }
                let spec = FnSpec::new(&snapshot.app, &snapshot.func);
                (Arc::clone(snapshot), Target::new(spec))
            }
        };
        let target = Arc::clone(&version.1);
        versions.push(version);
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::tests::snapshot;

    #[test]
    fn one_snapshot_is_one_function_with_the_key_of_front_doors() {
        let targets = Targets::default();
        let first = targets.of(&snapshot("f", 1));
        // Another copy with the same content.
        let again = targets.of(&snapshot("f", 1));
        assert!(Arc::ptr_eq(&first, &again));
        let changed = targets.of(&snapshot("f", 2));
        assert_ne!(first.slot_key, changed.slot_key);
        assert!(Arc::ptr_eq(&first, &targets.of(&snapshot("f", 1))));

        let snapshot = snapshot("f", 1);
        let front_door = Target::new(FnSpec::new(&snapshot.app, &snapshot.func));
        assert_eq!(first.slot_key, front_door.slot_key);
    }

    #[test]
    fn little_is_remembered_and_what_is_used_stays() {
        let targets = Targets::default();
        let used = targets.of(&snapshot("used", 1));
        for n in 0..3 * GENERATION {
            targets.of(&snapshot(&n.to_string(), 1));
            assert!(Arc::ptr_eq(&used, &targets.of(&snapshot("used", 1))));
        }
        for timeout in 1..20 {
            targets.of(&snapshot("f", timeout));
        }
        let generations = targets.0.lock().expect("no panic");
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
        assert_eq!(generations.young[&FnId::from("f")].len(), VERSIONS);
    }
}
