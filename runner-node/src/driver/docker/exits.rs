//! How containers end, by one stream of the engine's events for all of them.
//!
//! An idle container costs no connection and no task. Events can be lost, as when the engine
//! restarts, so that the engine is also asked for all containers after each connection and now and
//! then.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{ContainerSummaryStateEnum, EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::engine::Engine;
use super::error::EngineError;
use super::instance::INSTANCE_LABEL;
use crate::driver::Exit;

/// The status of a container that ended while nobody could say how.
pub(super) const UNKNOWN_EXIT: i64 = -1;
/// What SIGKILL makes of a process.
const KILLED: i64 = 137;

/// How long the engine's word of an exhausted memory limit may come after that of the exit.
const OUT_OF_MEMORY_GRACE: Duration = Duration::from_millis(250);
const FIRST_CHECK: Duration = Duration::from_millis(100);
const CHECK_PERIOD: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What is known of a container's end.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    exit: Option<Exit>,
    out_of_memory: bool,
    /// Someone is finding out how it ended.
    ending: bool,
}

/// The end of one container.
#[derive(Debug, Default)]
pub(super) struct ExitCell(watch::Sender<State>);

impl ExitCell {
    /// Waits for the end.
    pub(super) async fn wait(&self) -> Exit {
        let mut state = self.0.subscribe();
        let ended = state.wait_for(|state| state.exit.is_some()).await;
        // The sender lives as long as `self`, so that the wait does not fail.
        ended.ok().and_then(|state| state.exit).unwrap_or(Exit {
            code: UNKNOWN_EXIT,
            out_of_memory: false,
        })
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.0.borrow().exit.is_some()
    }

    /// It was removed; that is its end, if it had none before. Returns whether it had none.
    pub(super) fn removed(&self) -> bool {
        self.end(Exit {
            code: KILLED,
            out_of_memory: false,
        })
    }

    fn end(&self, exit: Exit) -> bool {
        self.0.send_if_modified(|state| {
            let first = state.exit.is_none();
            state.exit.get_or_insert(exit);
            first
        })
    }
}

/// The containers that have not been removed, by id.
#[derive(Debug, Default)]
pub(super) struct Exits(Mutex<HashMap<String, Arc<ExitCell>>>);

impl Exits {
    /// Watches a container from now on.
    pub(super) fn watch(&self, id: &str) -> Arc<ExitCell> {
        let cell = Arc::<ExitCell>::default();
        self.lock().insert(id.to_owned(), cell.clone());
        cell
    }

    /// Watches it no longer.
    pub(super) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Whether all have been removed.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn get(&self, id: &str) -> Option<Arc<ExitCell>> {
        self.lock().get(id).cloned()
    }

    fn ids(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ExitCell>>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the engine's events.
#[derive(Clone)]
pub(super) struct ExitWatcher {
    pub(super) engine: Engine,
    pub(super) exits: Arc<Exits>,
    pub(super) instance: String,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl ExitWatcher {
    /// Follows until it is stopped, through restarts of the engine.
    pub(super) async fn run(self) {
        self.stop.run_until_cancelled(self.follow_for_ever()).await;
    }

    async fn follow_for_ever(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut since = now.unwrap_or_default();
        let mut pause = FIRST_PAUSE;
        loop {
            let begin = Instant::now();
            let error = self.follow(&mut since).await;
            tracing::warn!(%error, "the engine's events have stopped");
            if begin.elapsed() > CHECK_PERIOD {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one stream until it breaks. `since` is the time of the last event.
    async fn follow(&self, since: &mut Duration) -> EngineError {
        let label = format!("{INSTANCE_LABEL}={}", self.instance);
        let options = EventsOptions {
            since: Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos())),
            until: None,
            filters: Some(HashMap::from([
                ("type".to_owned(), vec!["container".to_owned()]),
                ("label".to_owned(), vec![label]),
            ])),
        };
        let mut events = Box::pin(self.engine.docker().events(Some(options)));
        let mut check = interval_at(Instant::now() + FIRST_CHECK, CHECK_PERIOD);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => match event.map(|event| event.map_err(EngineError::from)) {
                    Some(Ok(event)) => self.heard(&event, since),
                    // An event that this client does not know.
                    Some(Err(EngineError::Malformed(_))) => {}
                    Some(Err(error)) => return error,
                    None => return EngineError::Unreachable("end of stream".to_owned()),
                },
                _ = check.tick() => self.check().await,
            }
        }
    }

    fn heard(&self, event: &EventMessage, since: &mut Duration) {
        if let Some(nanos) = event.time_nano.and_then(|nanos| u64::try_from(nanos).ok()) {
            *since = (*since).max(Duration::from_nanos(nanos.saturating_add(1)));
        }
        // The action of an exec names its command after a colon.
        let action = event.action.as_deref().unwrap_or_default();
        let action = action.split(':').next().unwrap_or_default();
        let kind = event.typ.unwrap_or(EventMessageTypeEnum::EMPTY);
        self.engine
            .metrics()
            .event(action.to_owned(), kind.to_string());
        let Some(actor) = &event.actor else { return };
        let Some(id) = &actor.id else { return };
        match action {
            "oom" => {
                if let Some(cell) = self.exits.get(id) {
                    cell.0.send_modify(|state| state.out_of_memory = true);
                }
            }
            "die" => {
                let code = actor
                    .attributes
                    .as_ref()
                    .and_then(|all| all.get("exitCode"));
                self.resolve(id, code.and_then(|code| code.parse().ok()));
            }
            _ => {}
        }
    }

    /// Asks the engine which containers have ended.
    async fn check(&self) {
        // Before the question: a container that comes later is not missed in the answer.
        let watched = self.exits.ids();
        if watched.is_empty() {
            return;
        }
        let label = format!("{INSTANCE_LABEL}={}", self.instance);
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..ListContainersOptions::default()
        };
        let list = self.engine.docker().list_containers(Some(options));
        let all = match self.engine.call("docker_list_containers", list).await {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(%error, "the engine does not list our containers");
                return;
            }
        };
        let lives = all.into_iter().filter(|container| {
            use ContainerSummaryStateEnum::{DEAD, EXITED, REMOVING};
            !matches!(container.state, Some(EXITED | DEAD | REMOVING))
        });
        let alive: HashSet<_> = lives.filter_map(|container| container.id).collect();
        for id in watched.iter().filter(|id| !alive.contains(*id)) {
            self.resolve(id, None);
        }
    }

    /// Finds out how a container ended that has.
    fn resolve(&self, id: &str, code: Option<i64>) {
        let Some(cell) = self.exits.get(id) else {
            return;
        };
        let first = cell.0.send_if_modified(|state| {
            let first = !state.ending && state.exit.is_none();
            state.ending |= first;
            first
        });
        if !first {
            return;
        }
        let (watcher, id) = (self.clone(), id.to_owned());
        self.tasks.spawn(async move {
            let resolved = watcher
                .stop
                .run_until_cancelled(watcher.ask(&id, &cell, code));
            if let Some(Some(exit)) = resolved.await {
                if cell.end(exit) {
                    watcher.engine.metrics().exit(format!("exit_{}", exit.code));
                }
            } else {
                // The next check comes here again.
                cell.0.send_modify(|state| state.ending = false);
            }
        });
    }

    async fn ask(&self, id: &str, cell: &ExitCell, code: Option<i64>) -> Option<Exit> {
        let inspect = self.engine.docker().inspect_container(id, None);
        let answer = self.engine.call("docker_inspect_container", inspect).await;
        let (code, flag) = match (answer, code) {
            (Ok(container), told) => {
                let state = container.state.unwrap_or_default();
                let code = told.or(state.exit_code).unwrap_or(UNKNOWN_EXIT);
                (code, state.oom_killed.unwrap_or(false))
            }
            (Err(_), Some(code)) => (code, false),
            (Err(error), None) if error.is_not_found() => (UNKNOWN_EXIT, false),
            (Err(_), None) => return None,
        };
        let mut out_of_memory = flag || cell.0.borrow().out_of_memory;
        if !out_of_memory && code == KILLED {
            // The engine learns of both from different sources, and may tell them in any order.
            let mut state = cell.0.subscribe();
            let told = state.wait_for(|state| state.out_of_memory || state.exit.is_some());
            let told = timeout(OUT_OF_MEMORY_GRACE, told).await;
            out_of_memory = matches!(told, Ok(Ok(state)) if state.out_of_memory);
        }
        Some(Exit {
            code,
            out_of_memory,
        })
    }
}
