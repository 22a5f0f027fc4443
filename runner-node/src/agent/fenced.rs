//! Calls that no client waits for: they stand behind those of clients, and ask whether they still
//! may run when their container is there.

use domain::ApiError;
use nodekit::exchange::{CallRequest, CallResult};

use super::account::CallAccount;
use super::slot_queue::Class;
use super::{Agent, Ending, Prepared, Wish};

impl Agent {
    /// Runs a call as [`Agent::submit`] does, behind all calls of its function that clients wait for.
    /// `fence` is asked each time that a container was found, right before the function sees anything
    /// of the call. If it refuses, or the future is dropped before it has answered, the container is
    /// as it was, and ready for other calls.
    ///
    /// From the moment that the call is sent, `ending` tells how its container ends.
    ///
    /// # Errors
    /// Those of [`Agent::submit`], and those of `fence`.
    pub(crate) async fn submit_fenced<Passed>(
        &self,
        mut call: CallRequest,
        mut fence: impl FnMut() -> Passed,
        ending: &mut Option<Ending>,
    ) -> CallResult
    where
        Passed: Future<Output = Result<(), ApiError>>,
    {
        let shared = &self.shared;
        let session = shared.calls.token();
        let mut account = CallAccount::new(&shared.metrics, session.clone());
        loop {
            let wish = Wish {
                class: Class::Background,
                ..Wish::of(&call)
            };
            let (prepared, running) = self.prepare(wish, account).await?;
            let waiting = Waiting(Some(prepared));
            if let Err(error) = fence().await {
                running.not_sent();
                return Err(error);
            }
            let Some(prepared) = waiting.go_on() else {
                return Err(ApiError::internal("the container is gone"));
            };
            *ending = Some(prepared.slot.container.ending.clone());
            if let Some(response) = self.execute(prepared, &mut call, running).await? {
                return Ok(response);
            }
            account = CallAccount::again(&shared.metrics, session.clone());
        }
    }
}

/// A container that waits for the word whether its call may run. Without it, its slot goes to the
/// next call.
struct Waiting(Option<Prepared>);

impl Waiting {
    fn go_on(mut self) -> Option<Prepared> {
        self.0.take()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(prepared) = self.0.take() {
            let Prepared {
                function,
                mut slot,
                link,
                cold_start,
                ..
            } = prepared;
            slot.cold_start = cold_start;
            slot.rest(link);
            function.queue.offer(slot);
        }
    }
}
