//! The node's memory and CPU as tokens: handed out in the order of asking, given back on drop
//! (spec/04 4.7).

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::Resources;

/// The pool could not serve a request at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not enough free memory or CPU")]
pub struct Shortage {
    /// What must be given back before the request can be served, behind all who asked before.
    pub missing: Resources,
}

/// The request is larger than the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more memory or CPU than this node has")]
pub struct Impossible;

/// How much is held and how much is free; the metrics `util_*` (spec/10 10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utilisation {
    /// Held by tokens.
    pub used: Resources,
    /// The rest.
    pub available: Resources,
}

/// The pool; clones share it.
///
/// Requests are served strictly in the order in which they were made: one that would fit still
/// waits behind one that does not, so that small requests cannot starve a big one.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    total: Resources,
    line: Mutex<Line>,
    moved: Notify,
}

#[derive(Debug)]
struct Line {
    free: Resources,
    /// Nobody in the line can be served: the first does not fit, and the others are behind it.
    waiting: VecDeque<Place>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Place {
    ticket: u64,
    need: Resources,
    grant: oneshot::Sender<Token>,
}

impl Pool {
    /// A pool of `total`, all of it free.
    pub fn new(total: Resources) -> Self {
        let line = Line {
            free: total,
            waiting: VecDeque::new(),
            next_ticket: 0,
        };
        Self {
            shared: Arc::new(Shared {
                total,
                line: Mutex::new(line),
                moved: Notify::new(),
            }),
        }
    }

    /// Everything that the node has.
    pub fn total(&self) -> Resources {
        self.shared.total
    }

    /// Whether `need` could be served by an idle node.
    pub fn possible(&self, need: Resources) -> bool {
        need.fits_in(self.shared.total)
    }

    /// Takes `need` if it is free and nobody waits. A need of zero is always served.
    ///
    /// # Errors
    /// [`Shortage`] with what is missing.
    pub fn try_acquire(&self, need: Resources) -> Result<Token, Shortage> {
        let mut line = self.shared.line();
        if line.take(need) {
            return Ok(self.shared.token(need));
        }
        let missing = line.missing_at(line.waiting.len(), need);
        Err(Shortage { missing })
    }

    /// Joins the line for `need`. A need of zero is always served at once.
    ///
    /// # Errors
    /// [`Impossible`] when the node is too small: waiting would never end, and block the line.
    pub fn acquire(&self, need: Resources) -> Result<Waiter, Impossible> {
        if !self.possible(need) {
            return Err(Impossible);
        }
        let (grant, granted) = oneshot::channel();
        let mut line = self.shared.line();
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        if line.take(need) {
            // Cannot fail: the receiver is right here.
            let _ = grant.send(self.shared.token(need));
        } else {
            line.waiting.push_back(Place {
                ticket,
                need,
                grant,
            });
        }
        drop(line);
        Ok(Waiter {
            shared: self.shared.clone(),
            ticket,
            granted,
        })
    }

    /// How much is held and how much is free.
    pub fn utilisation(&self) -> Utilisation {
        let available = self.shared.line().free;
        Utilisation {
            used: self.shared.total.saturating_sub(available),
            available,
        }
    }

    /// Whether somebody waits in the line.
    pub fn has_line(&self) -> bool {
        !self.shared.line().waiting.is_empty()
    }

    /// Completes when, after this call, something was given back or somebody left the line: when
    /// [`Waiter::missing`] may have changed.
    pub(super) fn moved(&self) -> Notified<'_> {
        self.shared.moved.notified()
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(self: &Arc<Self>, need: Resources) -> Token {
        Token {
            shared: self.clone(),
            need,
        }
    }

    /// Changes the line, and then serves all who can be served.
    fn advance(self: &Arc<Self>, change: impl FnOnce(&mut Line)) {
        let mut line = self.line();
        change(&mut line);
        let admitted = line.admit();
        drop(line);
        for place in admitted {
            // If the waiter has just left, the token comes back here and its drop serves the next:
            // that takes the lock, which is why it was let go.
            drop(place.grant.send(self.token(place.need)));
        }
        self.moved.notify_waiters();
    }
}

impl Line {
    fn take(&mut self, need: Resources) -> bool {
        let served = need.is_zero() || (self.waiting.is_empty() && need.fits_in(self.free));
        if served {
            self.free = self.free.saturating_sub(need);
        }
        served
    }

    /// Takes from the front of the line all who fit.
    fn admit(&mut self) -> Vec<Place> {
        let mut admitted = Vec::new();
        while let Some(place) = self
            .waiting
            .pop_front_if(|place| place.need.fits_in(self.free))
        {
            self.free = self.free.saturating_sub(place.need);
            admitted.push(place);
        }
        admitted
    }

    /// What is missing for `need` behind the first `ahead` places.
    fn missing_at(&self, ahead: usize, need: Resources) -> Resources {
        self.waiting
            .iter()
            .take(ahead)
            .fold(need, |sum, place| sum.saturating_add(place.need))
            .saturating_sub(self.free)
    }

    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&ticket, |place| place.ticket)
            .ok()
    }
}

/// A place in the line; a future of the token. Dropping it leaves the line, and gives back the token
/// if it was already granted.
#[derive(Debug)]
pub struct Waiter {
    shared: Arc<Shared>,
    ticket: u64,
    granted: oneshot::Receiver<Token>,
}

impl Waiter {
    /// What must be given back before this request is served: its own need and the needs of all
    /// before it, less what is free. Nothing once it is served. At the front of the line this is
    /// what the front alone lacks. It never grows.
    pub fn missing(&self) -> Option<Resources> {
        let line = self.shared.line();
        let place = line.position(self.ticket)?;
        Some(line.missing_at(place, line.waiting.get(place)?.need))
    }

    /// Whether all who asked before were served or have left.
    pub(super) fn is_first(&self) -> bool {
        let line = self.shared.line();
        line.waiting
            .front()
            .is_none_or(|place| place.ticket >= self.ticket)
    }
}

impl Future for Waiter {
    type Output = Token;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Token> {
        let granted = ready!(Pin::new(&mut self.granted).poll(context));
        Poll::Ready(granted.expect("only this waiter's drop discards its sender unused"))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let waiting = self.shared.line().position(self.ticket).is_some();
        if waiting {
            self.shared.advance(|line| {
                if let Some(place) = line.position(self.ticket) {
                    line.waiting.remove(place);
                }
            });
        }
    }
}

/// An amount of memory and CPU that is held until this is dropped.
pub struct Token {
    shared: Arc<Shared>,
    need: Resources,
}

impl Token {
    /// What is held.
    pub fn resources(&self) -> Resources {
        self.need
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.need.is_zero() {
            self.shared
                .advance(|line| line.free = line.free.saturating_add(self.need));
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.need).finish()
    }
}

#[cfg(test)]
mod tests;
