//! Spreads containers over networks (spec/05 5.3).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The networks and the number of containers in each.
#[derive(Debug, Clone, Default)]
pub(super) struct Networks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    names: Vec<String>,
    counts: Mutex<Vec<usize>>,
}

impl Inner {
    fn counts(&self) -> MutexGuard<'_, Vec<usize>> {
        // Each change is one addition or subtraction.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container's place in a network; given back when it is dropped.
#[derive(Debug)]
pub(super) struct NetworkLease {
    inner: Arc<Inner>,
    at: usize,
}

impl Networks {
    pub(super) fn new(names: Vec<String>) -> Self {
        let counts = Mutex::new(vec![0; names.len()]);
        Self {
            inner: Arc::new(Inner { names, counts }),
        }
    }

    /// A place in the network with the fewest containers, the first of several. None when there
    /// are no networks to choose from.
    pub(super) fn lease(&self) -> Option<NetworkLease> {
        let mut counts = self.inner.counts();
        let at = (0..counts.len()).min_by_key(|at| counts[*at])?;
        counts[at] += 1;
        Some(NetworkLease {
            inner: self.inner.clone(),
            at,
        })
    }
}

impl NetworkLease {
    /// The network's name.
    pub(super) fn name(&self) -> &str {
        &self.inner.names[self.at]
    }
}

impl Drop for NetworkLease {
    fn drop(&mut self) {
        self.inner.counts()[self.at] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_spread_and_places_given_back() {
        let networks = Networks::new(["a", "b", "c"].map(str::to_owned).into());
        let mut leases: Vec<_> = (0..6).filter_map(|_| networks.lease()).collect();
        let names: Vec<_> = leases.iter().map(NetworkLease::name).collect();
        assert_eq!(names, ["a", "b", "c", "a", "b", "c"]);
        assert_eq!(*networks.inner.counts(), [2, 2, 2]);
        drop(leases.remove(4));
        assert_eq!(networks.lease().as_ref().map(NetworkLease::name), Some("b"));
        drop(leases);
        assert_eq!(*networks.inner.counts(), [0, 0, 0]);
    }

    #[test]
    fn no_networks_no_choice() {
        assert!(Networks::default().lease().is_none());
    }
}
