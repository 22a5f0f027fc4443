//! A slot: the right to run the next call in one hot container.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::{ApiError, ContainerState};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::ending::Ending;
use super::slot_queue::Slot;
use super::state::StateTracker;
use crate::call_log::ContainerLog;
use crate::driver::Container;
use crate::evictor::Registration;
use crate::stream::Link;

/// The longest freeze or thaw (spec/04 4.6).
pub(super) const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// A container that has come up.
pub(super) struct HotContainer {
    /// Names it within its function.
    pub number: u64,
    /// The engine's side of it.
    pub engine: Box<dyn Container>,
    /// Cancelled when the container must not be used again.
    pub broken: CancellationToken,
    /// Whether the function closed the connection of a call: its process has probably ended.
    pub hung_up: AtomicBool,
    /// The container's entry in the evictor.
    pub registration: Registration,
    /// Told when the container was thawed for a call, so that it is frozen again afterwards.
    pub thawed: Notify,
    /// Tells the call that ran in it how it ended.
    pub ending: Ending,
    /// What it prints, by call; none if that is not kept.
    pub log: Option<Arc<ContainerLog>>,
}

/// What it took to start a container; reported by the first call that uses it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ColdStart {
    /// Making what the container needs on this machine.
    pub prepare: Duration,
    /// Waiting for the image.
    pub image_pull: Duration,
    /// Creating and starting the container.
    pub create: Duration,
    /// From its start to its open socket.
    pub init: Duration,
}

/// The right to run one call in a container. There is one for each container; dropping it, rather
/// than giving it back, ends the container.
pub(super) struct HotSlot {
    pub(super) container: Arc<HotContainer>,
    pub(super) cold_start: Option<ColdStart>,
    pub(super) state: StateTracker,
    /// The way to the function, while no call has it.
    link: Option<Link>,
    last_used: Instant,
}

impl HotSlot {
    /// The slot of a container that has just come up.
    pub(super) fn new(
        container: Arc<HotContainer>,
        link: Link,
        cold_start: ColdStart,
        state: StateTracker,
    ) -> Self {
        Self {
            container,
            cold_start: Some(cold_start),
            state,
            link: Some(link),
            last_used: Instant::now(),
        }
    }

    /// Makes the container busy, thawing it if it is frozen, and hands out the way to the function.
    ///
    /// # Errors
    /// The container did not thaw: drop the slot.
    pub(super) async fn wake(&mut self) -> Result<Link, ApiError> {
        if self.state.state() == ContainerState::Paused {
            tokio::time::timeout(FREEZE_LIMIT, self.container.engine.thaw())
                .await
                .unwrap_or_else(|_| {
                    Err(ApiError::internal("the container did not thaw in time"))
                })?;
            self.container.thawed.notify_one();
        }
        self.state.enter(ContainerState::Busy);
        self.link
            .take()
            .ok_or_else(|| ApiError::internal("the container is in use"))
    }

    /// Freezes the container of an idle slot.
    ///
    /// # Errors
    /// The engine could not do it: drop the slot.
    pub(super) async fn freeze(&mut self) -> Result<(), ApiError> {
        tokio::time::timeout(FREEZE_LIMIT, self.container.engine.freeze())
            .await
            .unwrap_or_else(|_| Err(ApiError::internal("the container did not freeze in time")))?;
        self.state.enter(ContainerState::Paused);
        Ok(())
    }

    /// The call is over because the function has closed the connection.
    pub(super) fn hung_up(&self) {
        self.container.hung_up.store(true, Ordering::Release);
    }

    /// The call is over and the container is fine.
    pub(super) fn rest(&mut self, link: Link) {
        self.link = Some(link);
        self.last_used = Instant::now();
        self.state.enter(ContainerState::Idle);
    }
}

impl Slot for HotSlot {
    fn container(&self) -> u64 {
        self.container.number
    }

    fn usable(&self) -> bool {
        !self.container.broken.is_cancelled()
    }

    fn last_used(&self) -> Instant {
        self.last_used
    }

    fn parked(&self) {
        self.container.registration.offer(self.last_used);
    }

    fn claim(&self) -> bool {
        self.container.registration.try_claim()
    }
}

impl Drop for HotSlot {
    fn drop(&mut self) {
        if self.container.registration.is_evicted() {
            self.state.evicted();
        }
        self.container.broken.cancel();
    }
}
