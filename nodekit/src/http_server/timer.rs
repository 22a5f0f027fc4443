//! A timer that costs almost nothing while it is pushed ahead of itself.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Fires when a deadline that moves with each event stands still for long enough. It is armed on
/// its first use, and when the deadline moves later it is left to wake early and look again, so
/// that an event costs no timer operation.
#[derive(Debug, Default)]
pub(super) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready when `deadline` has passed; otherwise the task is woken no later than then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Has the task woken within `after`, to look again; needs no look at the clock.
    pub(super) fn remind(&mut self, cx: &mut Context<'_>, after: Duration) {
        let reminder = self.0.get_or_insert_with(|| Box::pin(sleep(after)));
        while reminder.as_mut().poll(cx).is_ready() {
            reminder.as_mut().reset(Instant::now() + after);
        }
    }
}
