//! Whether this node can start containers at all: a node whose engine is away would fail each call in
//! an instant, and ask for more and more of those that others could run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::call::Fault;
use domain::{ApiError, ErrorCode};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::pause::Pauses;
use crate::agent::Agent;

/// So many calls in a row that the engine has failed are no accident.
const PATIENCE: u32 = 3;
/// How long nothing is asked for then; twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest that the engine may take to say that it is there.
const PING_LIMIT: Duration = Duration::from_secs(2);

/// What is known of the engine.
pub(super) struct Engine(Mutex<State>);

struct State {
    /// Calls in a row that it has failed.
    failures: u32,
    pauses: Pauses,
    /// It is in trouble: it is not asked before this time.
    ask_at: Option<Instant>,
}

impl Engine {
    /// It works.
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            failures: 0,
            pauses: Pauses::new(FIRST_PAUSE, LONGEST_PAUSE),
            ask_at: None,
        }))
    }

    /// A call reached its function.
    pub(super) fn works(&self) {
        let mut state = self.lock();
        if state.failures >= PATIENCE {
            info!("containers can be started again");
        }
        state.failures = 0;
        state.pauses.reset();
        state.ask_at = None;
    }

    /// A call failed; whether that says something of the engine is found out.
    pub(super) fn failed(&self, error: &ApiError) {
        match Fault::of(error) {
            Fault::Function | Fault::Timeout => self.works(),
            // What a registry does is not the engine's trouble: other functions can run.
            Fault::Platform
                if matches!(error.code(), ErrorCode::ServerBusy | ErrorCode::Internal) =>
            {
                let mut state = self.lock();
                state.failures = state.failures.saturating_add(1);
                if state.failures == PATIENCE {
                    warn!(
                        ?error,
                        "containers cannot be started: no calls are asked for"
                    );
                }
                // Calls that were in hand together fail together.
                if state.failures >= PATIENCE && state.ask_at.is_none() {
                    state.ask_at = Some(Instant::now() + state.pauses.next());
                }
            }
            Fault::Platform | Fault::Permanent => {}
        }
    }

    /// Completes when calls may be asked for: at once, or when the pause is over and the engine answers.
    pub(super) async fn ready(&self, agent: &Agent) {
        loop {
            let Some(at) = self.lock().ask_at else {
                return;
            };
            sleep_until(at).await;
            let answers = matches!(timeout(PING_LIMIT, agent.ready()).await, Ok(Ok(())));
            let mut state = self.lock();
            // The next failure is the beginning of another pause.
            state.ask_at = match answers {
                true => None,
                false => Some(Instant::now() + state.pauses.next()),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
