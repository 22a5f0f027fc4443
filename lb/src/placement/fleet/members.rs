//! The list of runners and their ring: read as a snapshot, changed aside and swapped in.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hashbrown::HashMap;

use crate::placement::ring::Ring;
use crate::placement::runner::{Runner, RunnerId};

/// The runners at one time.
#[derive(Debug)]
pub(crate) struct Members {
    /// In the order of their addresses, so that all load balancers agree on who is the nth.
    list: Vec<Arc<Runner>>,
    by_id: HashMap<RunnerId, Arc<Runner>>,
    ring: Ring,
}

impl Members {
    fn new(mut list: Vec<Arc<Runner>>) -> Self {
        list.sort_by(|a, b| a.address.cmp(&b.address).then(a.id.cmp(&b.id)));
        Self {
            by_id: list
                .iter()
                .map(|runner| (runner.id, Arc::clone(runner)))
                .collect(),
            ring: Ring::new(&list),
            list,
        }
    }

    pub(crate) fn get(&self, runner: RunnerId) -> Option<&Arc<Runner>> {
        self.by_id.get(&runner)
    }

    /// The nth in the order of addresses.
    pub(crate) fn nth(&self, n: usize) -> Option<&Arc<Runner>> {
        self.list.get(n)
    }

    /// The place of a runner in this order.
    pub(crate) fn place_of(&self, runner: RunnerId) -> Option<usize> {
        let address = &self.get(runner)?.address;
        let key = (address, runner);
        self.list
            .binary_search_by(|other| (&other.address, other.id).cmp(&key))
            .ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Runner>> {
        self.list.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }
}

/// The current members.
#[derive(Debug)]
pub(super) struct Membership {
    current: RwLock<Arc<Members>>,
    /// The next id. Held while the list is changed, so that one change sees the one before.
    changes: Mutex<u32>,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            current: RwLock::new(Arc::new(Members::new(Vec::new()))),
            changes: Mutex::new(0),
        }
    }
}

impl Membership {
    pub(super) fn read(&self) -> Arc<Members> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add<'a>(
        &self,
        runners: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Vec<RunnerId> {
        let mut next = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.read().list.clone();
        let mut ids = Vec::new();
        for (address, weight) in runners {
            let id = RunnerId(*next);
            *next = next.wrapping_add(1);
            list.push(Arc::new(Runner::new(id, address, weight)));
            ids.push(id);
        }
        self.swap(Members::new(list));
        ids
    }

    /// Those that were there.
    pub(super) fn remove(&self, runners: &[RunnerId]) -> Vec<Arc<Runner>> {
        let _one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let list = self.read().list.clone();
        let (gone, kept) = list
            .into_iter()
            .partition(|runner| runners.contains(&runner.id));
        self.swap(Members::new(kept));
        gone
    }

    fn swap(&self, members: Members) {
        let members = Arc::new(members);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, members);
        drop(current);
        // A large ring takes a while to free: not under the lock.
        drop(old);
    }
}
