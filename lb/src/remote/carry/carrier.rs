//! One stream of many calls: what is to be sent on it, and who waits for what comes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use domain::{ApiError, SlotKey};
use nodekit::exchange::Target;
use proto::call_json::CallJson;
use proto::carry::{MAX_CALLS, MAX_FUNCTIONS};
use proto::runner_extension::CarryOut;
use tokio::time::Instant;

use super::slot::{Loss, Slot};
use super::wire::{self, Begin};
use crate::remote::asked::Asked;
use crate::remote::connection::InFlight;

/// Calls on one stream; a runner that has not yet forgotten those that are over refuses none.
const MOST_CALLS: usize = MAX_CALLS / 8 * 7;

/// When so much is to be sent, input waits, and new calls go elsewhere.
const FULL_BYTES: usize = 256 << 10;

/// Room for what a few calls send.
const OUTBOX_BYTES: usize = 8 << 10;

/// The stream, as its calls know it.
#[derive(Debug, Default)]
pub(crate) struct Carrier(Mutex<State>);

/// Where a call may be begun.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) carrier: Arc<Carrier>,
    pub(super) in_flight: InFlight,
}

impl Place {
    pub(crate) fn new(carrier: Arc<Carrier>, in_flight: InFlight) -> Self {
        Self { carrier, in_flight }
    }
}

#[derive(Debug, Default)]
struct State {
    outbox: BytesMut,
    /// Where on the stream the outbox begins: what is before was handed to the connection.
    handed: u64,
    calls: HashMap<u64, Entry>,
    /// Number of the last call.
    last: u64,
    /// Those that the runner was told of.
    functions: HashSet<SlotKey>,
    /// Calls whose input waits for room in the outbox.
    blocked: Vec<Arc<Slot>>,
    /// Waits for something to send.
    keeper: Option<Waker>,
    phase: Phase,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Takes no more calls; over with its last one.
    Retiring,
    Over,
}

#[derive(Debug)]
struct Entry {
    slot: Arc<Slot>,
    /// Where on the stream it begins.
    at: u64,
    deadline: Instant,
}

impl State {
    fn queued(&self) -> u64 {
        self.handed + self.outbox.len() as u64
    }

    fn is_full(&self) -> bool {
        self.outbox.len() >= FULL_BYTES
    }

    /// Removes a call; the keeper is to look if it was what the end of the stream waited for.
    fn forget(&mut self, number: u64) -> Option<Entry> {
        let entry = self.calls.remove(&number);
        if self.phase == Phase::Retiring && self.calls.is_empty() {
            wake(self.keeper.take());
        }
        entry
    }
}

/// What there is to do for the end of the stream that sends.
pub(super) enum Sendable {
    Nothing,
    Bytes(usize),
    /// The last call is over, and there will be none.
    End,
}

impl Carrier {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call of `target` may be begun here.
    pub(crate) fn has_room(&self, target: &Target) -> bool {
        let mut state = self.lock();
        if state.functions.len() >= MAX_FUNCTIONS && !state.functions.contains(&target.slot_key) {
            // Another stream, on which nothing was named yet.
            state.phase = state.phase.max_retiring();
            if state.calls.is_empty() {
                wake(state.keeper.take());
            }
        }
        state.phase == Phase::Open && state.calls.len() < MOST_CALLS && !state.is_full()
    }

    /// Begins a call with the first piece of its input: its number, and where its answer comes.
    pub(super) fn begin(
        &self,
        asked: &Asked,
        data: &Bytes,
        eof: bool,
        deadline: Instant,
    ) -> Result<(u64, Arc<Slot>), ApiError> {
        let wait_nanos = asked.wait_deadline.map_or(0, |deadline| {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            u64::try_from(left.as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        let slot = Arc::new(Slot::new(data.len()));
        let key = asked.target.slot_key;
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        if state.phase == Phase::Over {
            slot.lose(Loss::NotBegun);
            return Ok((number, slot));
        }
        let function_json =
            match state.functions.contains(&key) {
                true => Vec::new(),
                false => serde_json::to_vec(&CallJson::of_function(&asked.target.spec)).map_err(
                    |error| ApiError::internal(format_args!("a function has no JSON: {error}")),
                )?,
            };
        state.functions.insert(key);
        let begin = Begin {
            function_json: &function_json,
            slot_key: key.as_bytes(),
            id: asked.id.as_str(),
            headers: &asked.headers,
            detached: asked.detached,
            wait_nanos,
            data,
            eof,
        };
        let entry = Entry {
            slot: Arc::clone(&slot),
            at: state.queued(),
            deadline,
        };
        state.calls.insert(number, entry);
        if state.outbox.capacity() == 0 {
            state.outbox.reserve(OUTBOX_BYTES);
        }
        begin.encode(number, &mut state.outbox);
        let keeper = state.keeper.take();
        drop(state);
        wake(keeper);
        Ok((number, slot))
    }

    /// Sends a piece of a call's input; `false` if there is no room, and the call is woken when
    /// there is.
    pub(super) fn send_piece(
        &self,
        number: u64,
        slot: &Arc<Slot>,
        data: &Bytes,
        eof: bool,
    ) -> bool {
        let mut state = self.lock();
        if state.is_full() {
            if !state
                .blocked
                .iter()
                .any(|blocked| Arc::ptr_eq(blocked, slot))
            {
                state.blocked.push(Arc::clone(slot));
            }
            return false;
        }
        // For a call that is over it would come too late.
        if state.calls.contains_key(&number) {
            wire::encode_piece(number, data.clone(), eof, &mut state.outbox);
        }
        let keeper = state.keeper.take();
        drop(state);
        wake(keeper);
        true
    }

    /// Whether input has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// Lets the runner send so much more of a call's output.
    pub(super) fn send_credit(&self, number: u64, bytes: u64) {
        let mut state = self.lock();
        if !state.calls.contains_key(&number) {
            return;
        }
        wire::encode_credit(number, bytes, &mut state.outbox);
        let keeper = state.keeper.take();
        drop(state);
        wake(keeper);
    }

    /// Nobody waits for a call any more.
    pub(super) fn cancel(&self, number: u64) {
        let mut state = self.lock();
        if state.forget(number).is_none() {
            return;
        }
        wire::encode_cancel(number, &mut state.outbox);
        let keeper = state.keeper.take();
        drop(state);
        wake(keeper);
    }

    /// Gives up the calls that should have been over.
    pub(super) fn expire(&self, now: Instant) {
        let mut state = self.lock();
        let late = state.calls.iter().filter(|(_, call)| call.deadline <= now);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            let Some(entry) = state.forget(number) else {
                continue;
            };
            wire::encode_cancel(number, &mut state.outbox);
            entry
                .slot
                .lose(Loss::Begun(Arc::from("it was not done in time")));
        }
        if !state.outbox.is_empty() {
            wake(state.keeper.take());
        }
    }

    /// Takes no more calls.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.phase = state.phase.max_retiring();
    }

    /// What is to be sent; when there is nothing, `waker` is woken for more.
    pub(super) fn sendable(&self, waker: &Waker) -> Sendable {
        let mut state = self.lock();
        if !state.outbox.is_empty() {
            return Sendable::Bytes(state.outbox.len());
        }
        match &mut state.keeper {
            Some(keeper) => keeper.clone_from(waker),
            None => state.keeper = Some(waker.clone()),
        }
        match state.phase {
            Phase::Retiring if state.calls.is_empty() => {
                state.phase = Phase::Over;
                Sendable::End
            }
            _ => Sendable::Nothing,
        }
    }

    /// Takes up to `most` of it. The calls that begin there now belong to the runner.
    pub(super) fn hand(&self, most: usize) -> Bytes {
        let mut state = self.lock();
        let most = most.min(state.outbox.len());
        let part = state.outbox.split_to(most);
        state.handed += most as u64;
        let freed = match state.is_full() {
            true => Vec::new(),
            false => std::mem::take(&mut state.blocked),
        };
        drop(state);
        freed.iter().for_each(|slot| slot.wake());
        part.freeze()
    }

    /// Hands what the runner says to the call that it is for.
    pub(super) fn deliver(&self, message: CarryOut) {
        let number = message.call;
        let slot = {
            let mut state = self.lock();
            match message.outcome {
                Some(_) => state.forget(number).map(|entry| entry.slot),
                None => state
                    .calls
                    .get(&number)
                    .map(|entry| Arc::clone(&entry.slot)),
            }
        };
        // It may be for a call that was cancelled, which the runner did not know yet.
        if let Some(slot) = slot
            && let Err(why) = slot.put(message)
        {
            tracing::warn!(why, "a runner breaks the rules of a call");
            self.cancel(number);
        }
    }

    /// Nothing comes any more. A call of which nothing was handed to the connection was not begun,
    /// nor, if the runner ended the stream `well`, was one of which it has said nothing.
    pub(super) fn end(&self, well: bool, why: &str) {
        let mut state = self.lock();
        state.phase = Phase::Over;
        let handed = state.handed;
        let calls = std::mem::take(&mut state.calls);
        state.outbox = BytesMut::new();
        state.blocked = Vec::new();
        state.keeper = None;
        drop(state);
        if calls.is_empty() {
            return;
        }
        let why: Arc<str> = Arc::from(why);
        for entry in calls.into_values() {
            let unheard = well && !entry.slot.is_started();
            entry.slot.lose(match entry.at >= handed || unheard {
                true => Loss::NotBegun,
                false => Loss::Begun(Arc::clone(&why)),
            });
        }
    }
}

impl Phase {
    fn max_retiring(self) -> Self {
        match self {
            Self::Open => Self::Retiring,
            other => other,
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
