//! Getting the resources for a new container: a place in the pool's line, and the eviction of
//! idle containers of other functions for what is missing (spec/04 4.4).

use std::pin::pin;

use domain::{ApiError, ErrorCode, SlotKey};
use futures_util::future::OptionFuture;

use super::Resources;
use super::pool::{Impossible, Pool, Token};
use crate::evictor::{Eviction, Evictor, Search};

/// What to do when nothing is free and nothing can be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait: the default.
    Wait,
    /// Fail at once: `FN_ENABLE_NB_RESOURCE_TRACKER`.
    Refuse,
}

/// Why there are no resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is too small for the request.
    #[error(transparent)]
    Impossible(#[from] Impossible),
    /// The node is full, and must not be waited for.
    #[error("the node is full")]
    Full,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Impossible(_) => ErrorCode::ResourcesImpossible.into(),
            Refusal::Full => ErrorCode::ServerBusy.into(),
        }
    }
}

/// Acquires `need` for a container of `own_key`. For what is missing, idle containers of other
/// functions are evicted: at once, and by the first in the line also later, when more of them become
/// idle; once `patience` is over, busy ones, too, at the end of their calls. Their capacity goes to the line in its
/// order. Dropping the future leaves the line.
///
/// # Errors
/// [`Refusal`]; of a full node only with [`WhenFull::Refuse`].
pub async fn reserve(
    pool: &Pool,
    evictor: &Evictor,
    own_key: &SlotKey,
    need: Resources,
    when_full: WhenFull,
    patience: impl Future<Output = ()>,
) -> Result<Token, Refusal> {
    let mut waiter = pool.acquire(need)?;
    let mut patience = pin!(patience);
    let mut patient = true;
    loop {
        // Taken before looking, so that no change after the look is missed.
        let moved = pool.moved();
        // Only the first in the line looks at every container that becomes idle: it is served
        // before the others, who would all be woken for nothing most of the time.
        let search = waiter.is_first().then(|| evictor.search());
        let idled = search.as_ref().map(Search::idled);
        let Some(missing) = waiter.missing() else {
            return Ok(waiter.await);
        };
        let eviction = evictor.evict(own_key, missing);
        if eviction.is_none() && when_full == WhenFull::Refuse {
            return Err(Refusal::Full);
        }
        if let Some(count) = eviction
            .as_ref()
            .map(Eviction::count)
            .filter(|count| *count > 0)
        {
            tracing::debug!(count, ?missing, "evicting idle containers");
        }
        let released = eviction.as_ref().map(Eviction::next_release);
        let hungry = !patient && eviction.is_none();
        let _hungry = hungry.then(|| evictor.hunger(own_key, missing));
        tokio::select! {
            biased;
            token = &mut waiter => return Ok(token),
            Some(()) = OptionFuture::from(released) => {}
            Some(()) = OptionFuture::from(idled) => {}
            () = &mut patience, if patient => patient = false,
            () = moved => {}
        }
    }
}

#[cfg(test)]
mod tests;
