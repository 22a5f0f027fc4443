//! The window against a model of the broker: whatever the caller does, what is out stays within the
//! wish, nothing is lost or settled twice, and in the end the broker grants what is wished for.

use std::collections::{BTreeMap, VecDeque};

use domain::Timestamp;
use domain::call::LeaseRef;
use proptest::prelude::*;

use super::*;

/// A quorum queue with one channel, which tells what it would send.
#[derive(Default)]
struct Broker {
    ready: VecDeque<i64>,
    /// What is out, and by which subscription it went.
    out: BTreeMap<Tag, (i64, u64)>,
    acknowledged: Vec<i64>,
    next_tag: Tag,
    subscription: u64,
    prefetch: u32,
}

impl Broker {
    /// What it grants beyond what is out.
    fn credit(&self) -> usize {
        let out = self.out.values().filter(|(_, by)| *by == self.subscription);
        size(self.prefetch).saturating_sub(out.count())
    }

    fn deliver(&mut self) -> Option<(Tag, i64)> {
        if self.credit() == 0 {
            return None;
        }
        let message = self.ready.pop_front()?;
        self.next_tag += 1;
        self.out.insert(self.next_tag, (message, self.subscription));
        Some((self.next_tag, message))
    }

    fn settle(&mut self, settlement: Settlement) {
        if let Some(last) = settlement.ack_up_to {
            let rest = self.out.split_off(&(last + 1));
            let acknowledged = std::mem::replace(&mut self.out, rest);
            assert!(acknowledged.contains_key(&last), "settled twice");
            self.acknowledged
                .extend(acknowledged.into_values().map(|(message, _)| message));
        }
        for tag in settlement.acks {
            let (message, _) = self.out.remove(&tag).expect("settled twice");
            self.acknowledged.push(message);
        }
        for tag in settlement.requeues {
            let (message, _) = self.out.remove(&tag).expect("settled twice");
            self.ready.push_front(message);
        }
    }
}

#[derive(Debug, Clone)]
enum Move {
    Wish(u32),
    Publish(u8),
    Deliver,
    Take,
    Ack(prop::sample::Index),
    Release(prop::sample::Index),
    Step,
    Pass(u64),
    Lose,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => (0_u32..12).prop_map(Move::Wish),
        2 => (1_u8..6).prop_map(Move::Publish),
        6 => Just(Move::Deliver),
        6 => Just(Move::Take),
        5 => any::<prop::sample::Index>().prop_map(Move::Ack),
        1 => any::<prop::sample::Index>().prop_map(Move::Release),
        8 => Just(Move::Step),
        2 => (1_u64..8000).prop_map(Move::Pass),
        1 => Just(Move::Lose),
    ]
}

/// The window, the broker and the caller.
struct World {
    window: Window,
    broker: Broker,
    taken: Vec<(u64, Tag, i64)>,
    published: i64,
    now: Instant,
    resubscriptions: usize,
}

impl World {
    fn new() -> Self {
        Self {
            window: Window::default(),
            broker: Broker::default(),
            taken: Vec::new(),
            published: 0,
            now: Instant::now(),
            resubscriptions: 0,
        }
    }

    fn publish(&mut self, count: u8) {
        for _ in 0..count {
            self.broker.ready.push_back(self.published);
            self.published += 1;
        }
    }

    fn deliver(&mut self) -> bool {
        let Some((tag, message)) = self.broker.deliver() else {
            return false;
        };
        self.window.delivered(tag, doorbell(message));
        true
    }

    fn take(&mut self) -> bool {
        let Some((session, tag, doorbell)) = self.window.take() else {
            return false;
        };
        self.taken.push((session, tag, doorbell.lease.epoch));
        assert!(self.window.out.len() <= size(self.window.wish));
        true
    }

    /// Does one step; false if there is nothing to do but wait.
    fn step(&mut self) -> bool {
        match self.window.step(self.now) {
            Step::Settle(settlement) => self.broker.settle(settlement),
            Step::Unsubscribe => {
                self.broker.prefetch = 0;
                self.broker.subscription += 1;
                self.window.unsubscribed();
            }
            Step::Subscribe(prefetch) => {
                assert!(prefetch > 0);
                assert_eq!(self.broker.prefetch, 0, "the one before has ended");
                self.broker.prefetch = prefetch;
                self.window.subscribed(prefetch);
                self.resubscriptions += 1;
            }
            Step::Wait(until) => {
                assert!(until.is_none_or(|until| until > self.now));
                return false;
            }
        }
        true
    }

    /// Lets the connection do all it wants to do, however long it waits for that.
    fn settle_down(&mut self) {
        for _ in 0..10 {
            let mut steps = 0;
            while self.step() || self.deliver() {
                steps += 1;
                assert!(steps < 1000, "never comes to rest");
            }
            self.now += HOLD_LIMIT;
        }
    }

    fn act(&mut self, step: Move) {
        match step {
            Move::Wish(wish) => self.window.set_wish(wish),
            Move::Publish(count) => self.publish(count),
            Move::Deliver => drop(self.deliver()),
            Move::Take => drop(self.take()),
            Move::Ack(_) | Move::Release(_) if self.taken.is_empty() => {}
            Move::Ack(which) => {
                let (session, tag, _) = self.taken.swap_remove(which.index(self.taken.len()));
                self.window.ack(session, tag, self.now);
            }
            Move::Release(which) => {
                let (session, tag, _) = self.taken.swap_remove(which.index(self.taken.len()));
                self.window.release(session, tag);
            }
            Move::Step => drop(self.step()),
            Move::Pass(millis) => self.now += Duration::from_millis(millis),
            Move::Lose => {
                let out = std::mem::take(&mut self.broker.out);
                for (message, _) in out.into_values().rev() {
                    self.broker.ready.push_front(message);
                }
                self.broker.prefetch = 0;
                self.broker.next_tag = 0;
                self.broker.subscription = 0;
                self.window.lost();
            }
        }
    }
}

fn doorbell(number: i64) -> Doorbell {
    Doorbell {
        lease: LeaseRef {
            call_id: "call".into(),
            epoch: number,
        },
        fn_id: "fn".into(),
        priority: 0,
        due_at: Timestamp::from_unix_millis(0),
    }
}

proptest! {
    #[test]
    fn the_wish_is_kept_and_nothing_is_lost(moves in prop::collection::vec(moves(), 0..120), wish in 0_u32..12) {
        let mut world = World::new();
        for step in moves {
            world.act(step);
        }
        world.window.set_wish(wish);
        world.settle_down();
        // At rest, what the broker may send and what the caller has are what was wished for.
        let with_caller = world.window.out.len() + world.window.waiting.len();
        if with_caller <= size(wish) {
            prop_assert!(with_caller + world.broker.credit() <= size(wish));
            // A grant may lag behind a little, but never so that nothing could come.
            prop_assert!(wish == 0 || with_caller == size(wish) || world.broker.credit() > 0);
        } else {
            prop_assert_eq!(world.broker.credit(), 0);
            prop_assert!(world.window.waiting.is_empty());
        }
        // All comes in the end, and each message is acknowledged exactly once.
        world.window.set_wish(3);
        for _ in 0..2000 {
            world.settle_down();
            while world.take() {}
            match world.taken.pop() {
                Some((session, tag, _)) => world.window.ack(session, tag, world.now),
                None => break,
            }
        }
        world.settle_down();
        world.broker.acknowledged.sort_unstable();
        prop_assert_eq!(world.broker.acknowledged, (0..world.published).collect::<Vec<_>>());
    }
}

/// As when slots become free and are taken again: the wish moves with every call, and the
/// subscription stays.
#[test]
fn calls_that_come_and_go_need_no_new_subscription() {
    let mut world = World::new();
    world.window.set_wish(16);
    world.settle_down();
    let before = world.resubscriptions;
    world.publish(200);
    let mut running = 0;
    for round in 0..200_u32 {
        while world.step() || world.deliver() {}
        while world.take() {}
        // All slots but a few are taken; each claim is acknowledged as its slot is gone.
        while let Some((session, tag, _)) = world.taken.pop() {
            running += 1;
            world.window.set_wish(16 - running);
            world.window.ack(session, tag, world.now);
        }
        // Some calls end.
        running -= running.min(round % 4);
        world.window.set_wish(16 - running);
        world.now += Duration::from_millis(5);
    }
    assert!(world.broker.ready.is_empty());
    assert_eq!(world.resubscriptions, before);
}

#[test]
fn an_idle_consumer_that_wants_nothing_is_unsubscribed_soon() {
    let mut world = World::new();
    world.window.set_wish(4);
    world.settle_down();
    assert_eq!(world.broker.credit(), 4);
    world.window.set_wish(0);
    let now = world.now;
    assert_eq!(world.window.step(now), Step::Wait(Some(now + EXCESS_LIMIT)));
    assert_eq!(world.window.step(now + EXCESS_LIMIT), Step::Unsubscribe);
}

#[test]
fn acknowledgements_are_not_held_for_long() {
    let mut world = World::new();
    world.window.set_wish(2);
    world.publish(2);
    world.settle_down();
    while world.take() {}
    world.window.set_wish(0);
    for (session, tag, _) in std::mem::take(&mut world.taken) {
        world.window.ack(session, tag, world.now);
    }
    let now = world.now;
    assert_eq!(world.window.step(now), Step::Wait(Some(now + HOLD_LIMIT)));
    assert!(world.broker.acknowledged.is_empty());
    world.settle_down();
    assert_eq!(world.broker.acknowledged, [0, 1]);
    assert_eq!(world.broker.prefetch, 0);
}

#[test]
fn what_is_released_by_who_wants_nothing_goes_out_after_the_subscription() {
    let mut world = World::new();
    world.window.set_wish(1);
    world.publish(1);
    world.settle_down();
    assert!(world.take());
    world.window.set_wish(0);
    let (session, tag, _) = world.taken.remove(0);
    world.window.release(session, tag);
    assert_eq!(world.window.step(world.now), Step::Unsubscribe);
}

#[test]
fn many_acknowledgements_are_one() {
    let mut world = World::new();
    world.window.set_wish(5);
    world.publish(5);
    world.settle_down();
    while world.take() {}
    for (session, tag, _) in std::mem::take(&mut world.taken) {
        if tag != 4 {
            world.window.ack(session, tag, world.now);
        }
    }
    let settlement = Settlement {
        ack_up_to: Some(3),
        acks: vec![5],
        requeues: Vec::new(),
    };
    assert_eq!(world.window.step(world.now), Step::Settle(settlement));
}
