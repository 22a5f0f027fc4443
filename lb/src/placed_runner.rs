//! The runner that is many: chooses one, sends it the call, and on its refusal chooses again; when
//! none has room it waits for a change, up to the call's deadline (spec/07 7.5).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, ErrorCode};
use http::HeaderMap;
use nodekit::body;
use nodekit::exchange::{CallRequest, CallResponse, CallResult, CallTimings};
use tokio::time::Instant;

use crate::placement::{Ask, Placer, RunnerId};
use crate::remote::{Asked, Attempt, Engagement, Input, NotPlaced, engage};
use crate::runner::Runner;
use crate::runners::{BackOff, Runners, Shared};

/// Stands for a time without limit.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What placing goes by.
#[derive(Debug, Clone)]
pub struct PlacingSettings {
    /// How many bytes of an input are kept, so that it can be sent to another runner. A call with a
    /// longer input is tried once.
    pub replay_bytes: usize,
    /// How long a call may take beyond waiting and its function's time-out, before its runner is
    /// given up.
    pub headroom: Duration,
}

/// Runs calls on the runners of a table.
pub struct PlacedRunner {
    runners: Arc<Runners>,
    placer: Box<dyn Placer>,
    settings: PlacingSettings,
}

impl PlacedRunner {
    /// Places calls by the rules of `placer`.
    pub fn new(runners: Arc<Runners>, placer: Box<dyn Placer>, settings: PlacingSettings) -> Self {
        Self {
            runners,
            placer,
            settings,
        }
    }
}

impl std::fmt::Debug for PlacedRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlacedRunner")
            .field("placer", &self.placer)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Runner for PlacedRunner {
    async fn run(&self, call: CallRequest) -> CallResult {
        let arrived = Instant::from_std(call.arrived);
        let (asked, body) = Asked::new(call);
        let mut search = Search {
            shared: self.runners.shared(),
            placer: &*self.placer,
            settings: &self.settings,
            deadline: asked.wait_deadline.map(Instant::from_std),
            arrived,
            asked: &asked,
            attempts: 0,
            over: false,
        };
        search
            .run(Input::new(body, self.settings.replay_bytes))
            .await
    }

    fn tells_wait(&self) -> bool {
        true
    }
}

/// The search for a runner that takes one call.
struct Search<'a> {
    shared: &'a Arc<Shared>,
    placer: &'a dyn Placer,
    settings: &'a PlacingSettings,
    arrived: Instant,
    asked: &'a Asked,
    deadline: Option<Instant>,
    attempts: u32,
    /// The search has an outcome, or a runner has the call: a client that goes away is counted
    /// there.
    over: bool,
}

/// What a pass over the runners came to.
enum Pass {
    Over(CallResult),
    /// None that was asked has room.
    NoRoom(Input),
}

impl Search<'_> {
    async fn run(&mut self, mut input: Input) -> CallResult {
        match self.pass(input).await {
            Pass::Over(result) => return result,
            Pass::NoRoom(back) => input = back,
        }
        let Some(waiting) = self.shared.waiters().admit() else {
            self.over = true;
            self.shared.metrics().shed();
            return Err(self.busy());
        };
        let mut back_off = BackOff::new(self.shared.random());
        let mut woken = waiting.queue(&self.asked.target.slot_key);
        loop {
            if !self.wait(woken, back_off.next()).await {
                return Err(self.timed_out());
            }
            // Queued again before the runners are asked: no change is missed meanwhile.
            woken = waiting.queue(&self.asked.target.slot_key);
            match self.pass(input).await {
                Pass::Over(result) => {
                    // Where one found room another may.
                    self.shared.waiters().wake(&self.asked.target.slot_key, 1);
                    return result;
                }
                Pass::NoRoom(back) => input = back,
            }
        }
    }

    /// Asks runners until one takes the call or the placer knows no more.
    async fn pass(&mut self, mut input: Input) -> Pass {
        let target = &self.asked.target;
        let mut tried: Vec<RunnerId> = Vec::new();
        loop {
            let ask = Ask {
                slot_key: target.slot_key,
                fn_id: target.spec.fn_id.as_str(),
                memory_mb: target.spec.memory_mb,
                tried: &tried,
            };
            let now = self.shared.now();
            let Some(runner) = self.placer.choose(self.shared.fleet(), &ask, now) else {
                if tried.is_empty() && self.shared.fleet().is_empty() {
                    self.shared.metrics().found_none();
                }
                return Pass::NoRoom(input);
            };
            tried.push(runner);
            let Some((link, running)) = self.shared.begin(runner, target) else {
                continue;
            };
            self.attempts += 1;
            let waited = self.arrived.elapsed();
            let engagement = Engagement {
                asked: self.asked,
                waited,
                deadline: self.last_moment(),
            };
            self.over = true;
            let attempt = engage(&link, engagement, input, running).await;
            let (back, why) = match attempt {
                Attempt::NotPlaced { input, why } => (input, why),
                Attempt::Answered(answer) => {
                    self.placed(waited, true);
                    return Pass::Over(Ok(answer));
                }
                Attempt::Detached(conversation) => {
                    self.placed(waited, true);
                    self.shared.spawn(conversation.listen());
                    return Pass::Over(Ok(started(waited)));
                }
                Attempt::Failed(error) => {
                    self.placed(waited, false);
                    return Pass::Over(Err(error));
                }
            };
            self.over = false;
            match why {
                NotPlaced::Refused => self.shared.metrics().refused(),
                NotPlaced::Unreachable => self.shared.metrics().unreachable(),
            }
            if !back.can_rewind() {
                self.over = true;
                return Pass::Over(Err(self.busy()));
            }
            if self.is_late() {
                return Pass::Over(Err(self.timed_out()));
            }
            input = back;
        }
    }

    /// Waits until a change may have made room, or `pause` is over; `false` when it is too late.
    async fn wait(&self, woken: tokio::sync::oneshot::Receiver<()>, pause: Duration) -> bool {
        let now = self.shared.now();
        let pause = pause.max(self.shared.fleet().wake_at(now).saturating_sub(now));
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = late => false,
            Ok(()) = woken => true,
            () = tokio::time::sleep(pause) => true,
        }
    }

    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// When a runner must be done with the call if it is sent now.
    fn last_moment(&self) -> Instant {
        let now = Instant::now();
        let waiting = match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(now),
            None => FOR_EVER,
        };
        let longest = self
            .asked
            .target
            .spec
            .timeout
            .saturating_add(self.settings.headroom);
        now + waiting.saturating_add(longest).min(FOR_EVER)
    }

    fn placed(&self, waited: Duration, ok: bool) {
        self.shared.metrics().placed(self.attempts, waited, ok);
    }

    fn timed_out(&mut self) -> ApiError {
        self.over = true;
        self.shared.metrics().timed_out(self.attempts);
        self.busy()
    }

    /// No room, and when there may be some.
    fn busy(&self) -> ApiError {
        let error = ApiError::from(ErrorCode::ServerBusy);
        match self.shared.seconds_to_room() {
            Some(seconds) => error.retry_after(seconds),
            None => error,
        }
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.shared.metrics().client_cancelled();
        }
    }
}

/// The answer to a detached call.
fn started(waited: Duration) -> CallResponse {
    CallResponse {
        headers: HeaderMap::new(),
        body: body::empty(),
        timings: CallTimings {
            scheduling: waited,
            ..CallTimings::default()
        },
    }
}
