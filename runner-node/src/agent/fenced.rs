//! Calls that no client waits for: they stand behind those of clients, and ask whether they still
//! may run when their container is there.

use std::sync::Arc;

use domain::ApiError;
use domain::call::LeaseRef;
use nodekit::exchange::{CallRequest, CallResult};

use super::account::CallAccount;
use super::ending::Ending;
use super::{Agent, Prepared, Wish};
use crate::call_log::ContainerLog;
use crate::driver::Exit;

impl Agent {
    /// Runs a call as [`Agent::submit`] does, behind all calls of its function that clients wait for.
    /// `fence` is asked each time that a container was found, right before the function sees anything
    /// of the call. If it refuses, or the future is dropped before it has answered, the container is
    /// as it was, and ready for other calls.
    ///
    /// From the moment that the call is sent, `witness` tells of its container; or else of the one that
    /// was started for it and did not come up.
    ///
    /// # Errors
    /// Those of [`Agent::submit`], and those of `fence`.
    pub(crate) async fn submit_fenced<Passed>(
        &self,
        mut call: CallRequest,
        lease: &LeaseRef,
        mut fence: impl FnMut() -> Passed,
        witness: &mut Option<Witness>,
    ) -> CallResult
    where
        Passed: Future<Output = Result<(), ApiError>>,
    {
        let shared = &self.shared;
        let session = shared.calls.token();
        let mut account = CallAccount::new(&shared.metrics, session.clone());
        loop {
            let wish = Wish {
                lease: Some(lease),
                ..Wish::of(&call)
            };
            let (prepared, running) = match self.prepare(wish, account).await {
                Ok(found) => found,
                Err(refusal) => {
                    *witness = refusal.log.map(|log| Witness {
                        ending: None,
                        log: Some(log),
                    });
                    return Err(refusal.error);
                }
            };
            let log = prepared.slot.container.log.clone();
            let waiting = Waiting(Some(prepared));
            let settled = async {
                if let Some(log) = log {
                    log.settled().await;
                }
            };
            let (passed, ()) = tokio::join!(fence(), settled);
            if let Err(error) = passed {
                running.not_sent();
                return Err(error);
            }
            let Some(prepared) = waiting.go_on() else {
                return Err(ApiError::internal("the container is gone"));
            };
            let container = &prepared.slot.container;
            *witness = Some(Witness {
                ending: Some(container.ending.clone()),
                log: container.log.clone(),
            });
            let log = Some(lease.clone());
            if let Some(response) = self.execute(prepared, &mut call, log, running).await? {
                return Ok(response);
            }
            account = CallAccount::again(&shared.metrics, session.clone());
        }
    }
}

/// Tells of the container of a call, without keeping it.
#[derive(Debug)]
pub(crate) struct Witness {
    /// None of a container that has not come up.
    ending: Option<Ending>,
    log: Option<Arc<ContainerLog>>,
}

impl Witness {
    /// How the function ended by itself; nothing if it did not. To be asked when a call has lost its
    /// connection.
    pub(crate) async fn exit(&self) -> Option<Exit> {
        self.ending.as_ref()?.exit().await
    }

    /// Its log, if that is kept.
    pub(crate) fn log(&self) -> Option<&ContainerLog> {
        self.log.as_deref()
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
