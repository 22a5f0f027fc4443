//! The timer of a connection, which keeps its calls' deadlines.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for all calls of a connection, of which there is one at a time.
///
/// A timer of its own for each call would be the runtime's next one each time, and make it write to
/// its own event descriptor in each call. One that is only ever moved to a later time costs nothing.
pub(crate) struct Timer(RefCell<Pin<Box<Sleep>>>);

impl Timer {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(Box::pin(sleep_until(Instant::now()))))
    }

    /// The future's output, or `None` when it is not ready at `deadline`. It is polled at least
    /// once.
    pub(crate) async fn limit<F: Future>(&self, deadline: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut is_set = false;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let mut sleep = self.0.borrow_mut();
            if !is_set {
                is_set = true;
                sleep.as_mut().reset(deadline);
            }
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_what_is_late_and_nothing_else() {
        let timer = Timer::new();
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        assert_eq!(timer.limit(begin, ready(1)).await, Some(1));
        assert_eq!(timer.limit(after(50), pending::<()>()).await, None);
        assert_eq!(begin.elapsed().as_millis(), 50);
        // Later, earlier and over.
        assert_eq!(
            timer.limit(after(5000), sleep_until(after(60))).await,
            Some(())
        );
        assert_eq!(timer.limit(after(100), pending::<()>()).await, None);
        assert_eq!(begin.elapsed().as_millis(), 100);
        assert_eq!(timer.limit(after(10), pending::<()>()).await, None);
        assert_eq!(begin.elapsed().as_millis(), 100);
    }
}
