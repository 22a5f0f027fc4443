//! How many messages a consumer may have, as a state machine without a connection.
//!
//! RabbitMQ fixes the prefetch of a consumer of a quorum queue when it subscribes; to change it one
//! has to subscribe anew, which takes two round trips and a write of the broker's log, while the
//! wish changes with every call that begins or ends. So a smaller wish is first met by *holding*
//! acknowledgements back: to the broker what was held is still out, and it sends nothing in its
//! place. A greater wish is met by letting them go. Only what lasts leads to a new subscription: a
//! wish that is greater than what was subscribed, an excess that no acknowledgement will use up
//! soon, and acknowledgements that were held for long.
//!
//! A message is in one of these places: `waiting` (delivered, and nobody asked for it yet), `out` (with
//! the caller), `held`; what is in `acks` and `requeues` is told to the broker with the next step.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::Doorbell;

/// How long more may be granted, or here, than is wished for, in the hope of acknowledgements that use it up.
const EXCESS_LIMIT: Duration = Duration::from_millis(100);
/// How long an acknowledgement may be held. The broker ends consumers that take half an hour.
const HOLD_LIMIT: Duration = Duration::from_secs(5);

/// The number that the broker gave a message.
pub(super) type Tag = u64;
/// Counts subscriptions within a connection.
type Subscription = u64;

/// The messages of one consumer.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// How many the caller wants to have without having acknowledged them.
    wish: u32,
    /// Counts connections: a receipt of an earlier one means nothing.
    session: u64,
    subscription: Subscription,
    /// The prefetch of the subscription; zero if there is none.
    granted: u32,
    waiting: VecDeque<(Tag, Subscription, Doorbell)>,
    out: BTreeMap<Tag, Subscription>,
    /// Acknowledged messages of this subscription, the oldest first.
    held: VecDeque<(Tag, Instant)>,
    acks: Vec<Tag>,
    requeues: Vec<Tag>,
    /// Since when more is granted, or here, than is wished for.
    excess_since: Option<Instant>,
    closed: bool,
}

/// What the connection has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Tell the broker.
    Settle(Settlement),
    /// End the subscription, then [`Window::unsubscribed`].
    Unsubscribe,
    /// Subscribe with this prefetch.
    Subscribe(u32),
    /// Nothing; look again at this time, if not before.
    Wait(Option<Instant>),
}

/// What the broker is told about messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settlement {
    /// Everything up to this one is acknowledged.
    pub(super) ack_up_to: Option<Tag>,
    /// These are acknowledged, too.
    pub(super) acks: Vec<Tag>,
    /// Others may have these.
    pub(super) requeues: Vec<Tag>,
}

impl Window {
    /// The caller wants to have this many.
    pub(super) fn set_wish(&mut self, wish: u32) {
        // The protocol has no room for more.
        self.wish = wish.min(u32::from(u16::MAX));
    }

    /// The broker has delivered a message.
    pub(super) fn delivered(&mut self, tag: Tag, doorbell: Doorbell) {
        self.waiting.push_back((tag, self.subscription, doorbell));
    }

    /// The next message for the caller, and what its receipt has to say.
    pub(super) fn take(&mut self) -> Option<(u64, Tag, Doorbell)> {
        if self.out.len() >= size(self.wish) {
            return None;
        }
        let (tag, subscription, doorbell) = self.waiting.pop_front()?;
        self.out.insert(tag, subscription);
        Some((self.session, tag, doorbell))
    }

    /// The caller is done with a message.
    pub(super) fn ack(&mut self, session: u64, tag: Tag, now: Instant) {
        let Some(subscription) = self.give_back(session, tag) else {
            return;
        };
        if subscription == self.subscription && self.room() > self.allowance() {
            self.held.push_back((tag, now));
        } else {
            self.acks.push(tag);
        }
    }

    /// The caller leaves a message to others.
    pub(super) fn release(&mut self, session: u64, tag: Tag) {
        if self.give_back(session, tag).is_some() {
            self.requeues.push(tag);
        }
    }

    fn give_back(&mut self, session: u64, tag: Tag) -> Option<Subscription> {
        if session != self.session {
            return None;
        }
        self.out.remove(&tag)
    }

    /// The connection is gone, with all that was not told to the broker.
    pub(super) fn lost(&mut self) {
        *self = Self {
            wish: self.wish,
            session: self.session + 1,
            closed: self.closed,
            ..Self::default()
        };
    }

    /// The subscription has ended, and all that came of it was delivered.
    pub(super) fn unsubscribed(&mut self) {
        self.granted = 0;
        self.subscription += 1;
        self.excess_since = None;
        self.acks.extend(self.held.drain(..).map(|(tag, _)| tag));
        // What nobody is going to ask for must not keep others waiting.
        while self.keeps_others_waiting()
            && let Some((tag, ..)) = self.waiting.pop_back()
        {
            self.requeues.push(tag);
        }
    }

    /// The subscription was made.
    pub(super) fn subscribed(&mut self, prefetch: u32) {
        self.granted = prefetch;
    }

    /// Nothing more will come.
    pub(super) fn close(&mut self) {
        self.lost();
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Decides what to do next.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let allowance = self.allowance();
        if self.room() < allowance {
            let more = (allowance - self.room()).min(self.held.len());
            self.acks
                .extend(self.held.drain(..more).map(|(tag, _)| tag));
        }
        let room = self.room();
        let excess = room > allowance || self.keeps_others_waiting();
        if !excess {
            self.excess_since = None;
        }
        if excess {
            let since = *self.excess_since.get_or_insert(now);
            // What is released now would come back at once.
            if !self.requeues.is_empty() || now >= since + EXCESS_LIMIT {
                return Step::Unsubscribe;
            }
        } else if self.is_short(room, allowance) {
            return match self.granted {
                0 if self.acks.is_empty() && self.requeues.is_empty() => {
                    Step::Subscribe(u32::try_from(allowance).unwrap_or(u32::MAX))
                }
                0 => Step::Settle(self.settle()),
                _ => Step::Unsubscribe,
            };
        }
        if !self.acks.is_empty() || !self.requeues.is_empty() {
            return Step::Settle(self.settle());
        }
        let held_for_long = self.held.front().map(|(_, since)| *since + HOLD_LIMIT);
        if held_for_long.is_some_and(|limit| now >= limit) {
            return Step::Unsubscribe;
        }
        let excess_for_long = self.excess_since.map(|since| since + EXCESS_LIMIT);
        Step::Wait([held_for_long, excess_for_long].into_iter().flatten().min())
    }

    /// What has to be told before the connection is ended: all that the caller has settled.
    pub(super) fn settle_all(&mut self) -> Settlement {
        self.acks.extend(self.held.drain(..).map(|(tag, _)| tag));
        self.settle()
    }

    fn settle(&mut self) -> Settlement {
        let mut acks = std::mem::take(&mut self.acks);
        acks.sort_unstable();
        let requeues = std::mem::take(&mut self.requeues);
        let kept = [
            self.out.keys().next().copied(),
            self.waiting.iter().map(|(tag, ..)| *tag).min(),
            self.held.iter().map(|(tag, _)| *tag).min(),
            requeues.iter().copied().min(),
        ];
        let first_kept = kept.into_iter().flatten().min().unwrap_or(Tag::MAX);
        let rest = acks.split_off(acks.partition_point(|tag| *tag < first_kept));
        Settlement {
            ack_up_to: acks.pop(),
            acks: rest,
            requeues,
        }
    }

    /// Whether the subscription is so much smaller than what is wanted that a new one pays.
    fn is_short(&self, room: usize, allowance: usize) -> bool {
        let of_this = |subscription: &Subscription| *subscription == self.subscription;
        let out = self.out.values().filter(|of| of_this(of)).count();
        let waiting = self.waiting.iter().filter(|(_, of, _)| of_this(of)).count();
        room < allowance && (room * 2 <= allowance || out + waiting >= room)
    }

    /// Whether messages are here that the caller does not ask for.
    fn keeps_others_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.out.len() + self.waiting.len() > size(self.wish)
    }

    /// The most that this subscription can bring to the caller at one time.
    fn room(&self) -> usize {
        size(self.granted).saturating_sub(self.held.len())
    }

    /// The most that this subscription may bring: earlier ones have brought the rest.
    fn allowance(&self) -> usize {
        let earlier = |of: &Subscription| *of != self.subscription;
        let out = self.out.values().filter(|of| earlier(of)).count();
        let waiting = self.waiting.iter().filter(|(_, of, _)| earlier(of)).count();
        size(self.wish).saturating_sub(out + waiting)
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
