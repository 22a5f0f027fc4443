//! The slots of one function: a stack of idle ones and a queue of waiting calls (spec/04 4.4).
//!
//! One short lock guards both. A slot that comes back goes straight to the oldest waiting call;
//! only when nobody waits is it parked. So waiting calls and idle slots never exist together, no
//! call polls, and nobody wakes in vain. The most recently used slot serves next, which lets the
//! others reach their idle time-out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Instant;

use domain::{ApiError, ErrorCode};
use tokio::sync::oneshot;

use super::mark::Mark;
use super::refusal::Refusal;

/// Names a waiting call within its queue. Lower numbers are served first: calls in the order in
/// which they came, and after all of them those of [`Class::Background`].
pub(super) type WaiterId = u64;

/// Added to the number of a background call.
const BEHIND: WaiterId = 1 << 63;

/// Who waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Its client.
    Foreground,
    /// Nobody: it must not keep a client waiting.
    Background,
}

/// What can be kept in a [`SlotQueue`].
pub(super) trait Slot: Send + 'static {
    /// Names the container within its queue.
    fn container(&self) -> u64;
    /// Whether its container may take another call. Called under the queue's lock.
    fn usable(&self) -> bool;
    /// When it was last used; parked slots are ordered by it.
    fn last_used(&self) -> Instant;
    /// The slot is idle from now on, and may be evicted. Called under the queue's lock.
    fn parked(&self);
    /// Takes the slot from the evictor; false when it was evicted already and must be thrown away.
    /// Called under the queue's lock.
    fn claim(&self) -> bool;
}

/// The queue. Clones share it.
#[derive(Debug)]
pub(super) struct SlotQueue<S: Slot> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    state: Mutex<State<S>>,
    /// Told after every change of what is idle and who waits.
    mark: Mark,
}

impl<S: Slot> Clone for SlotQueue<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

#[derive(Debug)]
struct State<S> {
    /// Ordered by last use; the top of the stack is at the end.
    idle: Vec<S>,
    waiters: BTreeMap<WaiterId, Waiter<S>>,
    next_waiter: WaiterId,
    closed: bool,
}

#[derive(Debug)]
struct Waiter<S> {
    hand_over: oneshot::Sender<Result<S, Refusal>>,
    /// Whether a container is being started on behalf of this call.
    starting: bool,
}

/// What a call gets at once.
#[derive(Debug)]
pub(super) enum Acquired<S: Slot> {
    /// An idle slot.
    Slot(S),
    /// A place in the queue.
    Wait(Ticket<S>),
    /// Nothing: the queue was closed.
    Closed,
}

/// What happened to a slot that was offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// A waiting call has it.
    HandedOver,
    /// It is idle now.
    Parked,
    /// The queue was closed, or the container is on its way out; the slot was dropped.
    Refused,
}

impl<S: Slot> Default for SlotQueue<S> {
    fn default() -> Self {
        Self::observed(Mark::default())
    }
}

impl<S: Slot> SlotQueue<S> {
    /// An empty queue whose changes are told to `mark`.
    pub(super) fn observed(mark: Mark) -> Self {
        let state = State {
            idle: Vec::new(),
            waiters: BTreeMap::new(),
            next_waiter: 0,
            closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                mark,
            }),
        }
    }

    /// What is told of changes.
    pub(super) fn mark(&self) -> &Mark {
        &self.shared.mark
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Nothing that can panic runs under this lock.
        self.shared
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes the most recently used idle slot, or joins the queue: a background call behind all
    /// others.
    pub(super) fn acquire(&self, class: Class) -> Acquired<S> {
        // Dropped after the lock.
        let mut evicted = Vec::new();
        let mut state = self.lock();
        if state.closed {
            return Acquired::Closed;
        }
        while let Some(slot) = state.idle.pop() {
            if slot.claim() {
                drop(state);
                self.mark().touch();
                return Acquired::Slot(slot);
            }
            evicted.push(slot);
        }
        let id = match class {
            Class::Foreground => state.next_waiter,
            Class::Background => state.next_waiter | BEHIND,
        };
        state.next_waiter += 1;
        let (hand_over, receiver) = oneshot::channel();
        state.waiters.insert(
            id,
            Waiter {
                hand_over,
                starting: false,
            },
        );
        drop(state);
        self.mark().touch();
        Acquired::Wait(Ticket {
            id,
            receiver,
            queue: self.clone(),
        })
    }

    /// Gives a slot to the oldest waiting call, or parks it.
    pub(super) fn offer(&self, slot: S) -> Offered {
        let mut state = self.lock();
        if state.closed || !slot.usable() {
            drop(state);
            return Offered::Refused;
        }
        let mut slot = slot;
        while let Some((_, waiter)) = state.waiters.pop_first() {
            match waiter.hand_over.send(Ok(slot)) {
                Ok(()) => {
                    drop(state);
                    self.mark().touch();
                    return Offered::HandedOver;
                }
                Err(Ok(returned)) => slot = returned,
                Err(Err(_)) => unreachable!("a slot was sent"),
            }
        }
        let at = state
            .idle
            .partition_point(|other| other.last_used() <= slot.last_used());
        slot.parked();
        state.idle.insert(at, slot);
        drop(state);
        self.mark().touch_idle();
        Offered::Parked
    }

    /// Takes the slot of `container` out, if it is idle and `wanted` agrees. A slot that was evicted
    /// is dropped.
    pub(super) fn take_back(&self, container: u64, wanted: impl FnOnce(&S) -> bool) -> Option<S> {
        let slot = self.take_aside(container, wanted)?;
        slot.claim().then_some(slot)
    }

    /// Takes the slot of `container` out, if it is idle and `wanted` agrees, and leaves it to the
    /// evictor: it must be claimed before it is offered again.
    pub(super) fn take_aside(&self, container: u64, wanted: impl FnOnce(&S) -> bool) -> Option<S> {
        let mut state = self.lock();
        let at = state
            .idle
            .iter()
            .position(|slot| slot.container() == container)?;
        let slot = wanted(&state.idle[at]).then(|| state.idle.remove(at))?;
        drop(state);
        self.mark().touch();
        Some(slot)
    }

    /// Since when the slot of `container` is idle; nothing while it is not.
    pub(super) fn idle_since(&self, container: u64) -> Option<Instant> {
        let state = self.lock();
        state
            .idle
            .iter()
            .find(|slot| slot.container() == container)
            .map(Slot::last_used)
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiters.len()
    }

    /// How many slots are idle, and how many calls wait.
    pub(super) fn idle_and_waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.idle.len(), state.waiters.len())
    }

    /// Chooses the oldest waiting call for which no container is being started, and marks it.
    pub(super) fn start_for_oldest(&self) -> Option<WaiterId> {
        let mut state = self.lock();
        let (id, waiter) = state
            .waiters
            .iter_mut()
            .find(|(_, waiter)| !waiter.starting)?;
        waiter.starting = true;
        Some(*id)
    }

    /// The container that was started for a waiting call is up. If another call has got it, one may
    /// be started for this call anew.
    pub(super) fn launch_over(&self, id: WaiterId) {
        if let Some(waiter) = self.lock().waiters.get_mut(&id) {
            waiter.starting = false;
        }
    }

    /// Tells a waiting call that the container which was started for it failed. Whoever was served
    /// in the meantime does not hear of it.
    pub(super) fn fail(&self, id: WaiterId, refusal: Refusal) {
        let waiter = self.lock().waiters.remove(&id);
        if let Some(waiter) = waiter {
            self.mark().touch();
            // The call may have gone away in this instant: then nobody wants to know.
            let _ = waiter.hand_over.send(Err(refusal));
        }
    }

    /// Tells all waiting calls that no container can be started for any of them.
    pub(super) fn fail_all(&self, error: &ApiError) {
        let waiters = std::mem::take(&mut self.lock().waiters);
        self.mark().touch();
        for waiter in waiters.into_values() {
            let _ = waiter.hand_over.send(Err(error.clone().into()));
        }
    }

    /// Drops all idle slots, refuses all waiting calls, and everything offered from now on.
    pub(super) fn close(&self) {
        let (idle, waiters) = {
            let mut state = self.lock();
            state.closed = true;
            (
                std::mem::take(&mut state.idle),
                std::mem::take(&mut state.waiters),
            )
        };
        drop(idle);
        self.mark().touch();
        for waiter in waiters.into_values() {
            let _ = waiter.hand_over.send(Err(ErrorCode::ServerBusy.into()));
        }
    }

    /// Closes the queue if no call waits and no slot is idle; answers whether it did.
    pub(super) fn close_if_unused(&self) -> bool {
        let mut state = self.lock();
        if state.waiters.is_empty() && state.idle.is_empty() {
            state.closed = true;
        }
        state.closed
    }
}

/// A place in the queue. As a future it yields the slot, or why there will be none. Dropping it
/// leaves the queue; a slot that was already handed over goes to the next in line.
#[derive(Debug)]
pub(super) struct Ticket<S: Slot> {
    id: WaiterId,
    receiver: oneshot::Receiver<Result<S, Refusal>>,
    queue: SlotQueue<S>,
}

impl<S: Slot> Future for Ticket<S> {
    type Output = Result<S, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(cx).map(|received| {
            // A sender is only dropped unused together with the whole queue.
            received.unwrap_or_else(|_| Err(ErrorCode::ServerBusy.into()))
        })
    }
}

impl<S: Slot> Drop for Ticket<S> {
    fn drop(&mut self) {
        let left = self.queue.lock().waiters.remove(&self.id);
        if left.is_some() {
            self.queue.mark().touch();
        }
        // Nobody can send any more: what is there now is all there will be.
        self.receiver.close();
        if let Ok(Ok(slot)) = self.receiver.try_recv() {
            self.queue.offer(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Waker;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct TestSlot {
        container: u64,
        last_used: Instant,
        ended: bool,
        evictable: Arc<AtomicBool>,
        alive: Arc<Mutex<BTreeSet<u64>>>,
    }

    impl Slot for TestSlot {
        fn container(&self) -> u64 {
            self.container
        }
        fn usable(&self) -> bool {
            !self.ended
        }
        fn last_used(&self) -> Instant {
            self.last_used
        }
        fn parked(&self) {
            assert!(!self.evictable.swap(true, Ordering::SeqCst), "parked twice");
        }
        fn claim(&self) -> bool {
            self.evictable.swap(false, Ordering::SeqCst)
        }
    }

    impl Drop for TestSlot {
        fn drop(&mut self) {
            self.alive.lock().unwrap().remove(&self.container);
        }
    }

    struct Slots {
        start: Instant,
        alive: Arc<Mutex<BTreeSet<u64>>>,
    }

    impl Slots {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                alive: Arc::default(),
            }
        }

        fn make(&self, container: u64, used: u64) -> TestSlot {
            assert!(
                self.alive.lock().unwrap().insert(container),
                "one slot per container"
            );
            let last_used = self.start + Duration::from_millis(used);
            TestSlot {
                container,
                last_used,
                ended: false,
                evictable: Arc::default(),
                alive: Arc::clone(&self.alive),
            }
        }
    }

    fn taken(acquired: Acquired<TestSlot>) -> TestSlot {
        match acquired {
            Acquired::Slot(slot) => slot,
            other => panic!("no slot: {other:?}"),
        }
    }

    fn ticket(acquired: Acquired<TestSlot>) -> Ticket<TestSlot> {
        match acquired {
            Acquired::Wait(ticket) => ticket,
            other => panic!("not waiting: {other:?}"),
        }
    }

    fn poll(ticket: &mut Ticket<TestSlot>) -> Option<Result<TestSlot, Refusal>> {
        match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// spec/11 SlotQueueBasic1: the last one in is the first one out, from any position.
    #[test]
    fn idle_slots_are_a_stack_that_can_be_taken_apart() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        for n in 0..10 {
            assert_eq!(queue.offer(slots.make(n, n)), Offered::Parked);
        }
        assert_eq!(taken(queue.acquire(Class::Foreground)).container, 9);
        for n in [0, 4] {
            assert_eq!(
                queue.take_back(n, |_| true).map(|slot| slot.container),
                Some(n)
            );
            assert!(queue.take_back(n, |_| true).is_none(), "taken twice");
        }
        assert!(queue.take_back(5, |_| false).is_none());
        let rest: Vec<_> = (0..7)
            .map(|_| taken(queue.acquire(Class::Foreground)).container)
            .collect();
        assert_eq!(rest, [8, 7, 6, 5, 3, 2, 1]);
    }

    #[test]
    fn a_slot_that_was_taken_out_goes_back_to_its_place() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        for n in 0..3 {
            queue.offer(slots.make(n, n));
        }
        let bottom = queue.take_back(0, |_| true).expect("idle");
        queue.offer(bottom);
        assert_eq!(taken(queue.acquire(Class::Foreground)).container, 2);
    }

    /// spec/11 SlotQueueBasic3: many wait, one slot comes, one gets it: the oldest.
    #[test]
    fn the_oldest_waiter_gets_the_slot() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        let mut tickets: Vec<_> = (0..5)
            .map(|_| ticket(queue.acquire(Class::Foreground)))
            .collect();
        assert_eq!(queue.offer(slots.make(7, 0)), Offered::HandedOver);
        assert_eq!(
            poll(&mut tickets[0])
                .expect("served")
                .expect("a slot")
                .container,
            7
        );
        assert!(tickets[1..].iter_mut().all(|ticket| poll(ticket).is_none()));
        assert_eq!(queue.waiting(), 4);
    }

    #[test]
    fn an_error_goes_to_the_call_that_it_belongs_to_and_does_not_stick() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        let mut first = ticket(queue.acquire(Class::Foreground));
        let mut second = ticket(queue.acquire(Class::Foreground));
        assert_eq!(queue.start_for_oldest(), Some(0));
        assert_eq!(queue.start_for_oldest(), Some(1));
        assert_eq!(queue.start_for_oldest(), None);
        queue.fail(1, ErrorCode::ContainerInitFailed.into());
        let error = poll(&mut second).expect("told").expect_err("an error");
        assert_eq!(error.error.code(), ErrorCode::ContainerInitFailed);
        queue.offer(slots.make(1, 0));
        poll(&mut first).expect("served").expect("a slot");
        queue.fail(0, ErrorCode::ContainerInitFailed.into());
        drop((first, second));
        let mut third = ticket(queue.acquire(Class::Foreground));
        assert!(poll(&mut third).is_none(), "an old error must not be seen");
    }

    /// Two calls wait, and each has caused a launch. The younger one's container comes up first and
    /// goes to the older one, whose own launch fails: the younger one must not be forgotten.
    #[test]
    fn a_call_whose_container_went_to_another_may_get_a_second_launch() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        let mut older = ticket(queue.acquire(Class::Foreground));
        let mut younger = ticket(queue.acquire(Class::Foreground));
        assert_eq!(
            (queue.start_for_oldest(), queue.start_for_oldest()),
            (Some(0), Some(1))
        );
        assert_eq!(queue.offer(slots.make(1, 0)), Offered::HandedOver);
        queue.launch_over(1);
        queue.fail(0, ErrorCode::ContainerInitFailed.into());
        poll(&mut older).expect("served").expect("a slot");
        assert!(poll(&mut younger).is_none(), "another call's error");
        assert_eq!(queue.start_for_oldest(), Some(1));
    }

    #[test]
    fn a_slot_whose_container_ended_during_its_call_is_not_kept() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        let mut slot = slots.make(1, 0);
        slot.ended = true;
        assert_eq!(queue.offer(slot), Offered::Refused);
        let mut waiting = ticket(queue.acquire(Class::Foreground));
        assert!(poll(&mut waiting).is_none());
        assert!(slots.alive.lock().unwrap().is_empty());
    }

    #[test]
    fn an_evicted_slot_is_thrown_away_and_the_next_one_taken() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        let top = slots.make(2, 2);
        let evictable = Arc::clone(&top.evictable);
        queue.offer(slots.make(1, 1));
        queue.offer(top);
        assert!(
            evictable.swap(false, Ordering::SeqCst),
            "an idle slot may be evicted"
        );
        assert_eq!(taken(queue.acquire(Class::Foreground)).container, 1);
        assert!(slots.alive.lock().unwrap().is_empty());
    }

    #[test]
    fn a_slot_that_is_aside_may_still_be_evicted() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        queue.offer(slots.make(1, 1));
        let aside = queue.take_aside(1, |_| true).expect("idle");
        assert!(
            queue.take_aside(1, |_| true).is_none(),
            "nobody else has it"
        );
        assert!(aside.evictable.load(Ordering::SeqCst));
        assert!(aside.claim());
        assert_eq!(queue.offer(aside), Offered::Parked);
    }

    #[test]
    fn closing_refuses_everybody_and_drops_every_slot() {
        let (slots, queue) = (Slots::new(), SlotQueue::default());
        queue.offer(slots.make(1, 0));
        queue.close();
        assert!(slots.alive.lock().unwrap().is_empty());
        assert!(matches!(queue.acquire(Class::Foreground), Acquired::Closed));
        assert_eq!(queue.offer(slots.make(2, 0)), Offered::Refused);
        assert!(slots.alive.lock().unwrap().is_empty());

        let queue = SlotQueue::<TestSlot>::default();
        let mut waiting = ticket(queue.acquire(Class::Foreground));
        assert!(!queue.close_if_unused());
        queue.close();
        let error = poll(&mut waiting).expect("told").expect_err("refused");
        assert_eq!(error.error.code(), ErrorCode::ServerBusy);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Acquire,
        /// Poll or drop the nth outstanding ticket.
        Poll(usize),
        Cancel(usize),
        /// Give back the nth slot that is in use, or break it.
        Return(usize),
        Break(usize),
        Launch,
        TakeBack(u64),
        StartFor,
        Fail(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Acquire),
            4 => (0usize..8).prop_map(Step::Poll),
            2 => (0usize..8).prop_map(Step::Cancel),
            4 => (0usize..8).prop_map(Step::Return),
            1 => (0usize..8).prop_map(Step::Break),
            2 => Just(Step::Launch),
            1 => (0u64..20).prop_map(Step::TakeBack),
            1 => Just(Step::StartFor),
            1 => (0u64..20).prop_map(Step::Fail),
        ]
    }

    proptest! {
        /// Under any interleaving, with a cancellation possible whenever a call waits: a container
        /// has one holder, waiting calls and idle slots do not exist together, the order of arrival
        /// is kept, and no slot is lost.
        #[test]
        fn no_double_hand_out_no_lost_wake_up_no_leak_order_kept(steps in prop::collection::vec(step(), 1..200)) {
            let (slots, queue) = (Slots::new(), SlotQueue::default());
            let mut tickets: Vec<Ticket<TestSlot>> = Vec::new();
            let mut in_use: Vec<TestSlot> = Vec::new();
            let mut expected = BTreeSet::new();
            let (mut launched, mut used) = (0, 0);
            for step in steps {
                match step {
                    Step::Acquire => match queue.acquire(Class::Foreground) {
                        Acquired::Slot(slot) => in_use.push(slot),
                        Acquired::Wait(ticket) => tickets.push(ticket),
                        Acquired::Closed => unreachable!("never closed here"),
                    },
                    Step::Poll(n) if n < tickets.len() => {
                        if let Some(result) = poll(&mut tickets[n]) {
                            let ticket = tickets.remove(n);
                            if let Ok(slot) = result {
                                in_use.push(slot);
                                // Whoever is older has been served as well, or has gone.
                                let waiting = &queue.lock().waiters;
                                prop_assert!(waiting.keys().all(|id| *id > ticket.id));
                            }
                        }
                    }
                    Step::Cancel(n) if n < tickets.len() => drop(tickets.remove(n)),
                    Step::Return(n) if n < in_use.len() => {
                        let mut slot = in_use.remove(n);
                        used += 1;
                        slot.last_used = slots.start + Duration::from_millis(used);
                        prop_assert_ne!(queue.offer(slot), Offered::Refused);
                    }
                    Step::Break(n) if n < in_use.len() => {
                        expected.remove(&in_use.remove(n).container);
                    }
                    Step::Launch => {
                        expected.insert(launched);
                        used += 1;
                        queue.offer(slots.make(launched, used));
                        launched += 1;
                    }
                    Step::TakeBack(container) => {
                        let taken = queue.take_back(container, |_| true);
                        taken.map(|slot| expected.remove(&slot.container));
                    }
                    Step::StartFor => {
                        queue.start_for_oldest();
                    }
                    Step::Fail(id) => queue.fail(id, ErrorCode::ContainerInitFailed.into()),
                    _ => {}
                }
                let state = queue.lock();
                prop_assert!(state.idle.is_empty() || state.waiters.is_empty());
                prop_assert!(state.idle.is_sorted_by_key(|slot| slot.last_used));
                drop(state);
                prop_assert_eq!(&*slots.alive.lock().unwrap(), &expected);
            }
            // All calls go away: every container that was not broken is idle.
            tickets.clear();
            for slot in in_use.drain(..) {
                queue.offer(slot);
            }
            let idle: BTreeSet<_> = queue.lock().idle.iter().map(|slot| slot.container).collect();
            prop_assert_eq!(idle, expected);
            prop_assert_eq!(queue.waiting(), 0);
        }
    }
}
