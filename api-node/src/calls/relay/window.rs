//! How many doorbells of each function are published and not answered yet. What exceeds the limit
//! stays in the store, so that the messages of others are never far behind in the queue.
//!
//! The numbers are estimates: other nodes publish and claim, too. Where one of them keeps doorbells
//! back, the store is asked for the truth.

use std::collections::{BTreeMap, HashMap};

use domain::FnId;

/// The windows of all functions.
#[derive(Debug)]
pub(super) struct Window {
    limit: u32,
    fns: HashMap<FnId, Rung>,
}

#[derive(Debug, Default)]
struct Rung {
    /// About how many are published and not answered.
    out: u32,
    /// Whether there are more in the store.
    more: bool,
}

impl Window {
    /// Nothing is published; at most `limit` may be, of each function.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            fns: HashMap::new(),
        }
    }

    /// Whether one more doorbell of the function may be published; it is counted then. If not, there
    /// is more in the store.
    pub(super) fn admit(&mut self, id: &FnId) -> Admission {
        let rung = self.fns.entry(id.clone()).or_default();
        if rung.out < self.limit {
            rung.out += 1;
            return Admission::Publish;
        }
        if std::mem::replace(&mut rung.more, true) {
            Admission::Wait
        } else {
            Admission::Full
        }
    }

    /// One was not published after all.
    pub(super) fn withdraw(&mut self, id: &FnId) {
        self.answered(id);
    }

    /// One was answered. Whether it is time to publish more: half of the window at once, so that this
    /// is seldom.
    pub(super) fn answered(&mut self, id: &FnId) -> bool {
        let Some(rung) = self.fns.get_mut(id) else {
            return false;
        };
        rung.out = rung.out.saturating_sub(1);
        if rung.more {
            return rung.out == self.limit / 2;
        }
        if rung.out == 0 {
            self.fns.remove(id);
        }
        false
    }

    /// The functions of which there is more in the store.
    pub(super) fn waiting(&self) -> Vec<FnId> {
        let waiting = self.fns.iter().filter(|(_, rung)| rung.more);
        waiting.map(|(id, _)| id.clone()).collect()
    }

    /// Those of them of which no more may be published now.
    pub(super) fn full(&self) -> Vec<FnId> {
        let full = self.fns.iter();
        let full = full.filter(|(_, rung)| rung.more && rung.out >= self.limit);
        full.map(|(id, _)| id.clone()).collect()
    }

    /// What the store says of `asked`: how many calls of each were rung for and wait for a
    /// runner; and how many are on their way to that, by our own count.
    pub(super) fn learn(
        &mut self,
        asked: &[FnId],
        rung: &BTreeMap<FnId, u64>,
        under_way: &HashMap<FnId, u32>,
    ) {
        for id in asked {
            if let Some(known) = self.fns.get_mut(id) {
                let rung = rung.get(id).copied().unwrap_or(0);
                let rung = u32::try_from(rung).unwrap_or(u32::MAX);
                known.out = rung.saturating_add(under_way.get(id).copied().unwrap_or(0));
            }
        }
    }

    /// Whether there is more of the function in the store than was found and published.
    pub(super) fn set_more(&mut self, id: &FnId, more: bool) {
        if more {
            self.fns.entry(id.clone()).or_default().more = true;
        } else if let Some(rung) = self.fns.get_mut(id) {
            rung.more = false;
            if rung.out == 0 {
                self.fns.remove(id);
            }
        }
    }

    /// Forgets estimates of functions that keep nothing back: they only grow wrong, since others
    /// claim what was published here.
    pub(super) fn forget(&mut self) {
        self.fns.retain(|_, rung| rung.more);
    }
}

/// What is to be done with a doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Publish it.
    Publish,
    /// Leave it in the store; its function has come to the limit just now.
    Full,
    /// Leave it in the store, like others before it.
    Wait,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (FnId, FnId) {
        (FnId::from("hog"), FnId::from("small"))
    }

    #[test]
    fn a_hog_is_kept_back_and_nobody_else() {
        let (hog, small) = ids();
        let mut window = Window::new(4);
        for _ in 0..4 {
            assert_eq!(window.admit(&hog), Admission::Publish);
        }
        assert_eq!(window.admit(&hog), Admission::Full);
        assert_eq!(window.admit(&hog), Admission::Wait);
        assert_eq!(window.admit(&small), Admission::Publish);
        assert_eq!(window.waiting(), [hog]);
    }

    #[test]
    fn more_is_published_once_half_was_answered() {
        let (hog, _) = ids();
        let mut window = Window::new(4);
        while window.admit(&hog) == Admission::Publish {}
        let due: Vec<_> = (0..4).map(|_| window.answered(&hog)).collect();
        assert_eq!(due, [false, true, false, false]);
    }

    #[test]
    fn the_store_knows_better() {
        let (hog, small) = ids();
        let mut window = Window::new(4);
        while window.admit(&hog) == Admission::Publish {}
        let rung = BTreeMap::from([(hog.clone(), 1)]);
        let under_way = HashMap::from([(hog.clone(), 2)]);
        window.learn(&[hog.clone(), small], &rung, &under_way);
        assert_eq!(window.admit(&hog), Admission::Publish);
        assert_eq!(window.admit(&hog), Admission::Wait);
    }

    #[test]
    fn what_keeps_nothing_back_is_forgotten() {
        let (hog, small) = ids();
        let mut window = Window::new(1);
        window.admit(&small);
        window.answered(&small);
        assert!(window.fns.is_empty());
        window.admit(&hog);
        window.admit(&hog);
        window.admit(&small);
        window.forget();
        assert_eq!(window.waiting(), std::slice::from_ref(&hog));
        assert_eq!(window.admit(&small), Admission::Publish);
        window.set_more(&hog, false);
        window.set_more(&small, true);
        assert_eq!(window.waiting(), [small]);
    }
}
