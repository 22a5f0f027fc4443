//! Which calls each runner has in flight, as far as this node knows: a runner may end a call through
//! another node. So these numbers decide about fairness and about nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use domain::FnId;
use domain::call::LeaseRef;

/// Calls in flight by runner and function.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    runners: HashMap<Arc<str>, HashMap<FnId, u32>>,
    fns: HashMap<FnId, u32>,
    leases: HashMap<LeaseRef, Leased>,
}

#[derive(Debug)]
struct Leased {
    runner: Arc<str>,
    fn_id: FnId,
    due: u64,
    seen: u64,
}

impl InFlight {
    /// A call of the function has a slot of the runner.
    pub(super) fn begin(&mut self, runner: &Arc<str>, id: &FnId) {
        let fns = self.runners.entry(Arc::clone(runner)).or_default();
        *fns.entry(id.clone()).or_default() += 1;
        *self.fns.entry(id.clone()).or_default() += 1;
    }

    /// It has it no longer.
    pub(super) fn end(&mut self, runner: &Arc<str>, id: &FnId) {
        if let Some(fns) = self.runners.get_mut(runner) {
            decrement(fns, id);
            if fns.is_empty() {
                self.runners.remove(runner);
            }
        }
        decrement(&mut self.fns, id);
    }

    /// The call that has a slot is leased; `times` are since when it is due, and now.
    pub(super) fn lease(&mut self, lease: LeaseRef, runner: Arc<str>, id: FnId, times: (u64, u64)) {
        let leased = Leased {
            runner,
            fn_id: id,
            due: times.0,
            seen: times.1,
        };
        self.leases.insert(lease, leased);
    }

    /// The call is over, if it is known: who had it, and whose it was.
    pub(super) fn over(&mut self, lease: &LeaseRef) -> Option<(Arc<str>, FnId)> {
        let leased = self.leases.remove(lease)?;
        self.end(&leased.runner, &leased.fn_id);
        Some((leased.runner, leased.fn_id))
    }

    /// Who has the call, whose it is, and since when it was due.
    pub(super) fn of_lease(&self, lease: &LeaseRef) -> Option<(&Arc<str>, &FnId, u64)> {
        let leased = self.leases.get(lease)?;
        Some((&leased.runner, &leased.fn_id, leased.due))
    }

    /// There was a sign of life of these calls.
    pub(super) fn seen(&mut self, leases: &[LeaseRef], now: u64) {
        for lease in leases {
            if let Some(leased) = self.leases.get_mut(lease) {
                leased.seen = now;
            }
        }
    }

    /// Forgets calls without a sign of life since `since`.
    pub(super) fn forget_silent(&mut self, since: u64) {
        let silent = self.leases.iter().filter(|(_, leased)| leased.seen < since);
        let silent: Vec<LeaseRef> = silent.map(|(lease, _)| lease.clone()).collect();
        for lease in silent {
            self.over(&lease);
        }
    }

    /// The runner can have no more than `busy` calls: forgets those of which nothing was heard for
    /// the longest time.
    pub(super) fn at_most(&mut self, runner: &Arc<str>, busy: u32) {
        let surplus = self.of_runner(runner).saturating_sub(busy);
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        if surplus == 0 {
            return;
        }
        let own = self
            .leases
            .iter()
            .filter(|(_, leased)| leased.runner == *runner);
        let mut own: Vec<_> = own
            .map(|(lease, leased)| (leased.seen, lease.clone()))
            .collect();
        own.sort_by_key(|(seen, _)| *seen);
        for (_, lease) in own.into_iter().take(surplus) {
            self.over(&lease);
        }
    }

    /// How many the function has at the runner.
    pub(super) fn at(&self, runner: &Arc<str>, id: &FnId) -> u32 {
        let fns = self.runners.get(runner);
        fns.and_then(|fns| fns.get(id)).copied().unwrap_or(0)
    }

    /// How many the runner has.
    pub(super) fn of_runner(&self, runner: &Arc<str>) -> u32 {
        let fns = self.runners.get(runner);
        fns.map_or(0, |fns| fns.values().sum())
    }

    /// How many the function has at all runners.
    pub(super) fn of_fn(&self, id: &FnId) -> u32 {
        self.fns.get(id).copied().unwrap_or(0)
    }
}

fn decrement(counts: &mut HashMap<FnId, u32>, id: &FnId) {
    if let Some(count) = counts.get_mut(id) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(id);
        }
    }
}
