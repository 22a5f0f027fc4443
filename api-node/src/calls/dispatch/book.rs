//! Which waiting call goes to which runner next. Pure: it is told what happens and what time it is.
//!
//! - Of the functions that wait, the one with the fewest calls in flight is next; among equals the
//!   one with the highest priority, and then the one whose turn was longest ago.
//! - Of the calls of a function, the one with the highest priority is next, and priority grows with
//!   the time that a call is due: so none starves.
//! - A function gets another slot of a runner only while it has fewer than [`GREED`] times as many
//!   there as are free: so a hog leaves room, which others find at once.
//! - A runner that could not run a call of a function gets the next one only if no other has room.
//! - What cannot be placed for a while is given back, since another node may have room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use domain::call::LeaseRef;
use domain::{CallId, FnId};

use super::in_flight::InFlight;
use crate::store::Doorbell;

/// How many slots of a runner a function may have for each that is free.
pub(super) const GREED: u64 = 3;
/// Most credits of one stream that are not used up: far more than any runner has room for. One that
/// grants more gets no more by it.
pub(crate) const MAX_CREDITS: u32 = 16_384;
/// A stream gets no more while so many bytes of inputs wait for its runner to read them.
const MAX_UNREAD: usize = 64 << 20;
const LANES: usize = 10;
/// What is remembered of functions and calls that are gone is forgotten when it is so much.
const MAX_MEMORY: usize = 10_000;

/// A stream on which a runner gets calls.
pub(super) type LinkId = u64;

/// How the book judges time, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// A call that is due gains one step of priority in this time.
    pub(super) ageing: u64,
    /// What could not be placed for so long is given back; longer when it comes back to us.
    pub(super) hold: u64,
}

/// A doorbell that waits here, with what came with it.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) doorbell: Doorbell,
    pub(super) token: T,
    /// Since when the call is due, as far as we know.
    due: u64,
    /// Since when the doorbell is here.
    here: u64,
}

/// A doorbell for which there is a slot. It has its credit, until it is leased or not.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub(super) link: LinkId,
    pub(super) runner: Arc<str>,
    pub(super) waiting: Waiting<T>,
}

#[derive(Debug)]
struct Link {
    runner: Arc<str>,
    capacity: u32,
    credits: u32,
    /// Bytes of inputs that the runner has not read.
    unread: usize,
}

/// Doorbells of one function, by priority.
#[derive(Debug)]
struct Lanes<T>([VecDeque<Waiting<T>>; LANES]);

/// What is remembered of a function that may have nothing waiting.
#[derive(Debug, Default)]
struct Memory {
    /// When it was served last.
    turn: u64,
    /// Where: containers of it may be warm there.
    home: Option<Arc<str>>,
    /// The last runner that could not run a call of it, until it can.
    shunned: Option<Arc<str>>,
}

/// The book of one node.
#[derive(Debug)]
pub(super) struct Book<T> {
    rules: Rules,
    fns: HashMap<FnId, Lanes<T>>,
    memory: HashMap<FnId, Memory>,
    turns: u64,
    /// Calls that wait or are being claimed.
    known: HashSet<CallId>,
    waiting: usize,
    links: BTreeMap<LinkId, Link>,
    in_flight: InFlight,
    /// How often calls were given back.
    given_back: HashMap<CallId, u32>,
}

/// A function's place among those that wait: the least one is next.
type Rank = (u32, Reverse<u64>, u64, FnId);

impl<T> Book<T> {
    /// Nobody waits, and there is no runner.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            fns: HashMap::new(),
            memory: HashMap::new(),
            turns: 0,
            known: HashSet::new(),
            waiting: 0,
            links: BTreeMap::new(),
            in_flight: InFlight::default(),
            given_back: HashMap::new(),
        }
    }

    /// A doorbell came, at `now`.
    ///
    /// # Errors
    /// The call is here already: the token of the one that is not needed.
    pub(super) fn add(&mut self, doorbell: Doorbell, token: T, now: u64) -> Result<(), T> {
        if !self.known.insert(doorbell.lease.call_id.clone()) {
            return Err(token);
        }
        let due = u64::try_from(doorbell.due_at.unix_millis()).unwrap_or(0);
        let waiting = Waiting {
            due: due.min(now),
            here: now,
            doorbell,
            token,
        };
        self.queue(waiting, false);
        Ok(())
    }

    /// A runner opened a stream.
    pub(super) fn join(&mut self, link: LinkId, runner: Arc<str>, capacity: u32) {
        let link_of = Link {
            runner,
            capacity,
            credits: 0,
            unread: 0,
        };
        self.links.insert(link, link_of);
    }

    /// The stream is closed, and its credits are gone. What the runner has in flight stays with it.
    pub(super) fn leave(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// The runner has so many more free slots.
    pub(super) fn grant(&mut self, link: LinkId, credits: u32) {
        let Some(of) = self.links.get_mut(&link) else {
            return;
        };
        of.credits = of.credits.saturating_add(credits).min(MAX_CREDITS);
        // Slots that are free cannot be in use: we were not told of some ends.
        let busy = of.capacity.saturating_sub(of.credits);
        self.in_flight.at_most(&of.runner, busy);
    }

    /// So many more bytes of inputs wait for the runner to read them.
    pub(super) fn queued(&mut self, link: LinkId, bytes: usize) {
        if let Some(of) = self.links.get_mut(&link) {
            of.unread += bytes;
        }
    }

    /// It has read so many of them; whether it may get more because of that.
    pub(super) fn read(&mut self, link: LinkId, bytes: usize) -> bool {
        let Some(of) = self.links.get_mut(&link) else {
            return false;
        };
        let was_open = of.is_open();
        of.unread = of.unread.saturating_sub(bytes);
        !was_open && of.is_open()
    }

    /// Chooses at most `most` calls and their slots, at `now`.
    pub(super) fn place(&mut self, most: usize, now: u64) -> Vec<Placed<T>> {
        let mut placed = vec![];
        if self.credits() == 0 || self.waiting == 0 {
            return placed;
        }
        let ids: Vec<FnId> = self.fns.keys().cloned().collect();
        let ranks = ids.into_iter().filter_map(|id| self.rank(id, now));
        let mut order: BinaryHeap<Reverse<Rank>> = ranks.map(Reverse).collect();
        while placed.len() < most
            && let Some(Reverse((.., id))) = order.pop()
        {
            // While we place, slots only get fewer: who finds none now finds none later.
            let Some(link) = self.slot_for(&id) else {
                continue;
            };
            let Some(next) = self.take(&id, link, now) else {
                continue;
            };
            placed.push(next);
            order.extend(self.rank(id, now).map(Reverse));
        }
        placed
    }

    /// The call that was placed is leased under `lease`.
    pub(super) fn leased(&mut self, placed: &Placed<T>, lease: LeaseRef, now: u64) {
        let doorbell = &placed.waiting.doorbell;
        self.known.remove(&doorbell.lease.call_id);
        self.given_back.remove(&doorbell.lease.call_id);
        self.in_flight.lease(
            lease,
            Arc::clone(&placed.runner),
            doorbell.fn_id.clone(),
            (placed.waiting.due, now),
        );
    }

    /// The call that was placed is not to be run: its slot is free again.
    pub(super) fn refused(&mut self, placed: &Placed<T>) {
        let doorbell = &placed.waiting.doorbell;
        self.known.remove(&doorbell.lease.call_id);
        self.given_back.remove(&doorbell.lease.call_id);
        self.free(placed);
    }

    /// It is not known whether the call could be claimed: it waits again, at the head.
    pub(super) fn put_back(&mut self, placed: Placed<T>) {
        self.free(&placed);
        self.queue(placed.waiting, true);
    }

    /// A call is over, if it was leased here.
    pub(super) fn over(&mut self, lease: &LeaseRef) {
        self.in_flight.over(lease);
    }

    /// A call is over, and its runner could not run it: it must not get it again, and again, while
    /// others have room.
    pub(super) fn failed(&mut self, lease: &LeaseRef) {
        let Some((runner, id)) = self.in_flight.over(lease) else {
            return;
        };
        if let Some(memory) = self.memory.get_mut(&id) {
            memory.home.take_if(|home| *home == runner);
            memory.shunned = Some(runner);
        }
    }

    /// The function of a leased call began to run: since when the call was due, in milliseconds, if it
    /// was leased here.
    pub(super) fn started(&mut self, lease: &LeaseRef) -> Option<u64> {
        let (runner, id, due) = self.in_flight.of_lease(lease)?;
        if let Some(memory) = self.memory.get_mut(id) {
            memory.shunned.take_if(|shunned| shunned == runner);
        }
        Some(due)
    }

    /// The runner still has these calls.
    pub(super) fn renewed(&mut self, leases: &[LeaseRef], now: u64) {
        self.in_flight.seen(leases, now);
    }

    /// Forgets calls of which nothing was heard since `since`: they ended elsewhere.
    pub(super) fn forget_silent(&mut self, since: u64) {
        self.in_flight.forget_silent(since);
    }

    /// Takes out what could not be placed for too long, to be given to others.
    pub(super) fn overdue(&mut self, now: u64) -> Vec<T> {
        if self.given_back.len() > MAX_MEMORY {
            self.given_back.clear();
        }
        let (rules, given_back) = (self.rules, &mut self.given_back);
        let mut tokens = vec![];
        for lanes in self.fns.values_mut() {
            for lane in &mut lanes.0 {
                // The time that each may wait differs, so that all of them are looked at.
                let (gone, kept) = std::mem::take(lane).into_iter().partition(|waiting| {
                    let call = &waiting.doorbell.lease.call_id;
                    let times = given_back.get(call).copied().unwrap_or(0);
                    now.saturating_sub(waiting.here) >= rules.hold << times.min(7)
                });
                *lane = kept;
                let gone: VecDeque<Waiting<T>> = gone;
                for waiting in gone {
                    let call = waiting.doorbell.lease.call_id;
                    self.known.remove(&call);
                    *given_back.entry(call).or_default() += 1;
                    tokens.push(waiting.token);
                }
            }
        }
        self.fns.retain(|_, lanes| !lanes.is_empty());
        self.waiting -= tokens.len();
        tokens
    }

    /// Takes out everything that waits.
    pub(super) fn clear(&mut self) -> Vec<T> {
        let mut tokens = vec![];
        for (_, lanes) in self.fns.drain() {
            for waiting in lanes.0.into_iter().flatten() {
                self.known.remove(&waiting.doorbell.lease.call_id);
                tokens.push(waiting.token);
            }
        }
        self.waiting = 0;
        tokens
    }

    /// How many doorbells wait for a slot.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many calls are between their placing and their lease.
    pub(super) fn claiming(&self) -> usize {
        self.known.len() - self.waiting
    }

    /// How many slots are free at all runners that read what they get.
    pub(super) fn credits(&self) -> u64 {
        self.links
            .values()
            .filter(|link| link.is_open())
            .map(|link| u64::from(link.credits))
            .sum()
    }

    /// Whether a call of the function, were it here, could be placed now, with all that wait.
    pub(super) fn has_room_for(&self, id: &FnId) -> bool {
        let waiting = u64::try_from(self.waiting).unwrap_or(u64::MAX);
        waiting < self.credits() && self.slot_for(id).is_some()
    }

    /// How many streams there are.
    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    /// The streams of a runner.
    pub(super) fn links_of(&self, runner: &str) -> Vec<LinkId> {
        let own = self
            .links
            .iter()
            .filter(|(_, link)| &*link.runner == runner);
        own.map(|(id, _)| *id).collect()
    }

    fn queue(&mut self, waiting: Waiting<T>, first: bool) {
        let id = waiting.doorbell.fn_id.clone();
        let lane = usize::try_from(waiting.doorbell.priority.max(0)).unwrap_or(0);
        let lanes = self.fns.entry(id).or_insert_with(Lanes::empty);
        let lane = &mut lanes.0[lane.min(LANES - 1)];
        if first {
            lane.push_front(waiting);
        } else {
            lane.push_back(waiting);
        }
        self.waiting += 1;
    }

    fn rank(&self, id: FnId, now: u64) -> Option<Rank> {
        let (_, urgency) = self.fns.get(&id)?.next(self.rules.ageing, now)?;
        let steps = urgency / self.rules.ageing.max(1);
        let turn = self.memory.get(&id).map_or(0, |memory| memory.turn);
        Some((self.in_flight.of_fn(&id), Reverse(steps), turn, id))
    }

    /// The slot that the function gets next: at home if it may, else where most are free; at the runner
    /// that it shuns only if there is no other.
    fn slot_for(&self, id: &FnId) -> Option<LinkId> {
        let memory = self.memory.get(id);
        let home = memory.and_then(|memory| memory.home.as_ref());
        let shunned = memory.and_then(|memory| memory.shunned.as_ref());
        let open = self.links.iter().filter(|(_, link)| {
            let own = u64::from(self.in_flight.at(&link.runner, id));
            link.credits > 0 && link.is_open() && own < GREED * self.free_slots(link)
        });
        let best = open.max_by_key(|(number, link)| {
            let runner = Some(&link.runner);
            (
                shunned != runner,
                home == runner,
                link.credits,
                Reverse(**number),
            )
        });
        best.map(|(number, _)| *number)
    }

    /// How many slots of the runner are free: it may not have granted a credit for each.
    fn free_slots(&self, link: &Link) -> u64 {
        let busy = self.in_flight.of_runner(&link.runner);
        u64::from(link.capacity.saturating_sub(busy).max(link.credits))
    }

    fn take(&mut self, id: &FnId, link: LinkId, now: u64) -> Option<Placed<T>> {
        let lanes = self.fns.get_mut(id)?;
        let (lane, _) = lanes.next(self.rules.ageing, now)?;
        let waiting = lanes.0[lane].pop_front()?;
        if lanes.is_empty() {
            self.fns.remove(id);
        }
        self.waiting -= 1;
        let of = self.links.get_mut(&link)?;
        of.credits -= 1;
        let runner = Arc::clone(&of.runner);
        self.in_flight.begin(&runner, id);
        self.turns += 1;
        if self.memory.len() >= MAX_MEMORY && !self.memory.contains_key(id) {
            self.memory.clear();
        }
        let memory = self.memory.entry(id.clone()).or_default();
        memory.turn = self.turns;
        if memory.shunned.as_ref() != Some(&runner) {
            memory.home = Some(Arc::clone(&runner));
        }
        Some(Placed {
            link,
            runner,
            waiting,
        })
    }

    fn free(&mut self, placed: &Placed<T>) {
        self.in_flight
            .end(&placed.runner, &placed.waiting.doorbell.fn_id);
        if let Some(link) = self.links.get_mut(&placed.link) {
            link.credits = (link.credits + 1).min(MAX_CREDITS);
        }
    }
}

impl Link {
    fn is_open(&self) -> bool {
        self.unread < MAX_UNREAD
    }
}

impl<T> Lanes<T> {
    fn empty() -> Self {
        Self(std::array::from_fn(|_| VecDeque::new()))
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }

    /// The lane whose first call is next, and how urgent that is: its priority and its age, in
    /// milliseconds.
    fn next(&self, ageing: u64, now: u64) -> Option<(usize, u64)> {
        let firsts = self.0.iter().zip(0u64..).enumerate();
        let urgencies = firsts.filter_map(|(lane, (waiting, priority))| {
            let first = waiting.front()?;
            let age = now.saturating_sub(first.due);
            Some((lane, priority.saturating_mul(ageing).saturating_add(age)))
        });
        urgencies.max_by_key(|(_, urgency)| *urgency)
    }
}

#[cfg(test)]
mod tests;
