//! A driver without an engine: containers are tasks of this process that follow a script. For
//! tests of the agent and for benchmarks of everything but the engine.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::{ApiError, ErrorCode, FnSpec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::samples::SampleBuffer;
use super::{Container, ContainerSpec, Driver, Exit, StatSample};

/// The end of a container that was removed.
const KILLED: Exit = Exit {
    code: 137,
    out_of_memory: false,
};

/// What a step of the script does.
#[derive(Debug, Clone)]
pub enum Step {
    /// It succeeds after a while.
    Succeed(Duration),
    /// It fails after a while.
    Fail(Duration, ApiError),
    /// It never ends.
    Hang,
}

impl Step {
    /// Success at once.
    pub const OK: Self = Self::Succeed(Duration::ZERO);

    async fn run(self) -> Result<(), ApiError> {
        let (delay, outcome) = match self {
            Self::Succeed(delay) => (delay, Ok(())),
            Self::Fail(delay, error) => (delay, Err(error)),
            Self::Hang => return std::future::pending().await,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        outcome
    }
}

/// What runs in a container until it exits by itself.
pub type Process = Pin<Box<dyn Future<Output = Exit> + Send>>;

type OnImage = Arc<dyn Fn(&FnSpec) -> Step + Send + Sync>;
type OnContainer = Arc<dyn Fn(&ContainerSpec) -> Step + Send + Sync>;
type Run = Arc<dyn Fn(FakeProcess) -> Process + Send + Sync>;

/// What a process in a fake container is given.
pub struct FakeProcess {
    /// The container's specification, with the socket directory.
    pub spec: ContainerSpec,
    /// Where it may put resource samples.
    pub samples: Arc<SampleBuffer>,
}

/// How a fake driver behaves. The default succeeds at once, and its containers run for ever.
#[derive(Clone)]
pub struct Script {
    /// Pulling an image.
    pub prepare_image: OnImage,
    /// Creating a container.
    pub create: OnContainer,
    /// Starting one.
    pub start: OnContainer,
    /// Freezing one.
    pub freeze: OnContainer,
    /// Thawing one.
    pub thaw: OnContainer,
    /// What runs in it once it is started. It stands still while the container is frozen, and is
    /// dropped when the container is removed.
    pub run: Run,
}

impl Default for Script {
    fn default() -> Self {
        let ok: OnContainer = Arc::new(|_| Step::OK);
        Self {
            prepare_image: Arc::new(|_| Step::OK),
            create: ok.clone(),
            start: ok.clone(),
            freeze: ok.clone(),
            thaw: ok,
            run: Arc::new(|_| Box::pin(std::future::pending())),
        }
    }
}

/// What a fake driver has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeState {
    /// Images prepared.
    pub prepared: usize,
    /// Containers created.
    pub created: usize,
    /// Containers started.
    pub started: usize,
    /// Freezes.
    pub frozen: usize,
    /// Thaws.
    pub thawed: usize,
    /// Containers removed.
    pub removed: usize,
    /// The containers that exist, by name.
    pub containers: BTreeMap<String, FakeContainerState>,
}

/// Where a fake container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeContainerState {
    /// Not started.
    Created,
    /// Started.
    Running,
    /// Its process stands still.
    Frozen,
    /// It has ended, and was not removed.
    Exited(Exit),
}

struct Shared {
    script: Mutex<Script>,
    state: watch::Sender<FakeState>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        // A script is replaced whole, so that a poisoned one is good.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts, and notes where a container stands, unless it is gone.
    fn enter(&self, name: &str, to: FakeContainerState, count: impl FnOnce(&mut FakeState)) {
        self.state.send_modify(|state| {
            count(state);
            if let Some(at) = state.containers.get_mut(name) {
                *at = to;
            }
        });
    }
}

/// The fake driver. Clones are one driver.
#[derive(Clone)]
pub struct FakeDriver {
    shared: Arc<Shared>,
}

impl FakeDriver {
    /// A driver that follows `script`.
    pub fn new(script: Script) -> Self {
        Self {
            shared: Arc::new(Shared {
                script: Mutex::new(script),
                state: watch::Sender::new(FakeState::default()),
                tasks: TaskTracker::new(),
                closed: CancellationToken::new(),
            }),
        }
    }

    /// Follows another script from the next step on.
    pub fn set_script(&self, script: Script) {
        *self.shared.script() = script;
    }

    /// What it has done so far.
    pub fn state(&self) -> FakeState {
        self.shared.state.borrow().clone()
    }

    /// Waits until its state fulfils a condition, and returns that state.
    pub async fn until(&self, condition: impl Fn(&FakeState) -> bool) -> FakeState {
        let mut changes = self.shared.state.subscribe();
        match changes.wait_for(|state| condition(state)).await {
            Ok(state) => state.clone(),
            // The sender lives as long as `self`.
            Err(_) => self.state(),
        }
    }
}

impl Default for FakeDriver {
    fn default() -> Self {
        Self::new(Script::default())
    }
}

#[async_trait]
impl Driver for FakeDriver {
    async fn prepare_image(&self, function: &FnSpec, deadline: Instant) -> Result<(), ApiError> {
        let step = (self.shared.script().prepare_image)(function);
        tokio::time::timeout_at(deadline.into(), step.run())
            .await
            .unwrap_or_else(|_| Err(ErrorCode::ImagePullTimeout.into()))?;
        self.shared.state.send_modify(|state| state.prepared += 1);
        Ok(())
    }

    async fn create(&self, spec: ContainerSpec) -> Result<Box<dyn Container>, ApiError> {
        let step = (self.shared.script().create)(&spec);
        step.run().await?;
        self.shared.state.send_modify(|state| {
            state.created += 1;
            let created = FakeContainerState::Created;
            state.containers.insert(spec.name.clone(), created);
        });
        Ok(Box::new(FakeContainer {
            shared: self.shared.clone(),
            id: format!("fake-{}", spec.name),
            spec,
            samples: Arc::default(),
            frozen: watch::Sender::new(false),
            exit: watch::Sender::new(None),
            killed: CancellationToken::new(),
        }))
    }

    async fn ping(&self) -> Result<(), ApiError> {
        Ok(())
    }

    async fn close(&self) {
        self.shared.closed.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

struct FakeContainer {
    shared: Arc<Shared>,
    id: String,
    spec: ContainerSpec,
    samples: Arc<SampleBuffer>,
    frozen: watch::Sender<bool>,
    exit: watch::Sender<Option<Exit>>,
    killed: CancellationToken,
}

impl FakeContainer {
    fn ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    fn kill(&self) {
        if self.killed.is_cancelled() {
            return;
        }
        self.killed.cancel();
        self.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert(KILLED);
            first
        });
        self.shared.state.send_modify(|state| {
            state.removed += 1;
            state.containers.remove(&self.spec.name);
        });
    }
}

/// Runs `process`, but not while `frozen` says so.
async fn run_unless_frozen(mut process: Process, mut frozen: watch::Receiver<bool>) -> Exit {
    loop {
        if *frozen.borrow_and_update() {
            if frozen.changed().await.is_err() {
                return process.await;
            }
            continue;
        }
        tokio::select! {
            biased;
            change = frozen.changed() => if change.is_err() {
                return process.await;
            },
            exit = &mut process => return exit,
        }
    }
}

#[async_trait]
impl Container for FakeContainer {
    fn id(&self) -> &str {
        &self.id
    }

    async fn start(&self) -> Result<(), ApiError> {
        let (step, run) = {
            let script = self.shared.script();
            ((script.start)(&self.spec), script.run.clone())
        };
        step.run().await?;
        let process = run(FakeProcess {
            spec: self.spec.clone(),
            samples: self.samples.clone(),
        });
        let state = FakeContainerState::Running;
        self.shared
            .enter(&self.spec.name, state, |all| all.started += 1);
        let running = run_unless_frozen(process, self.frozen.subscribe());
        let (killed, exit) = (self.killed.clone(), self.exit.clone());
        let (shared, name) = (self.shared.clone(), self.spec.name.clone());
        self.shared.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = running => ended,
                () = killed.cancelled() => return,
                () = shared.closed.cancelled() => return,
            };
            exit.send_replace(Some(ended));
            shared.enter(&name, FakeContainerState::Exited(ended), |_| ());
        });
        Ok(())
    }

    async fn freeze(&self) -> Result<(), ApiError> {
        let step = (self.shared.script().freeze)(&self.spec);
        step.run().await?;
        if self.ended() {
            return Err(ApiError::internal("the container has ended"));
        }
        self.frozen.send_replace(true);
        let state = FakeContainerState::Frozen;
        self.shared
            .enter(&self.spec.name, state, |all| all.frozen += 1);
        Ok(())
    }

    async fn thaw(&self) -> Result<(), ApiError> {
        let step = (self.shared.script().thaw)(&self.spec);
        step.run().await?;
        if self.frozen.send_replace(false) {
            let state = FakeContainerState::Running;
            self.shared
                .enter(&self.spec.name, state, |all| all.thawed += 1);
        }
        Ok(())
    }

    async fn wait(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        let ended = exit.wait_for(Option::is_some).await;
        // The sender lives as long as `self`, so that the wait does not fail.
        ended.ok().and_then(|exit| *exit).unwrap_or(KILLED)
    }

    fn take_stats(&self) -> Vec<StatSample> {
        self.samples.take()
    }

    async fn remove(&self) {
        self.kill();
    }
}

impl Drop for FakeContainer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::contract::{
        Behaviour, Bench, PRINTED, container_spec, contract_tests, directory, eventually,
        function_spec,
    };

    struct FakeBench {
        driver: FakeDriver,
        sockets: tempfile::TempDir,
    }

    impl FakeBench {
        fn new() -> Self {
            let script = Script {
                run: Arc::new(|process| Box::pin(behave(process.spec))),
                ..Script::default()
            };
            Self {
                driver: FakeDriver::new(script),
                sockets: tempfile::tempdir().expect("a directory"),
            }
        }
    }

    async fn behave(spec: ContainerSpec) -> Exit {
        let directory = directory(&spec);
        match spec.env["BEHAVIOUR"].as_str() {
            "beat" => {
                for beat in 1.. {
                    std::fs::write(directory.join("beat"), beat.to_string()).expect("written");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                unreachable!("it beats for ever")
            }
            "print" => {
                let output = spec.output.expect("somebody reads");
                for line in PRINTED {
                    output.printed(line.into(), Instant::now());
                }
                Exit {
                    code: 0,
                    out_of_memory: false,
                }
            }
            "memory" => Exit {
                code: 137,
                out_of_memory: true,
            },
            code => Exit {
                code: code.parse().expect("a status"),
                out_of_memory: false,
            },
        }
    }

    impl Bench for FakeBench {
        fn driver(&self) -> &dyn Driver {
            &self.driver
        }

        fn spec(&self, behaviour: Behaviour) -> ContainerSpec {
            let name = format!("{:032x}", rand::random::<u128>());
            let directory = self.sockets.path().join(&name);
            std::fs::create_dir(&directory).expect("made");
            let mut spec = container_spec(&function_spec("image"), &name, directory);
            let behaviour = match behaviour {
                Behaviour::Beat => "beat".to_owned(),
                Behaviour::Exit(code) => code.to_string(),
                Behaviour::ExhaustMemory => "memory".to_owned(),
                Behaviour::Print => "print".to_owned(),
            };
            spec.env.insert("BEHAVIOUR".to_owned(), behaviour);
            spec
        }

        async fn exists(&self, name: &str) -> bool {
            self.driver.state().containers.contains_key(name)
        }

        async fn end(self) {
            self.driver.close().await;
            assert_eq!(self.driver.state().containers, BTreeMap::new());
        }
    }

    contract_tests!(FakeBench::new());

    #[tokio::test(start_paused = true)]
    async fn steps_follow_the_script() {
        let busy = || ApiError::from(ErrorCode::ServerBusy);
        let driver = FakeDriver::new(Script {
            prepare_image: Arc::new(|_| Step::Hang),
            create: Arc::new(move |_| Step::Fail(Duration::from_secs(1), busy())),
            ..Script::default()
        });
        let function = function_spec("image");
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(5);
        let late = driver.prepare_image(&function, deadline).await;
        assert_eq!(late.expect_err("late").code(), ErrorCode::ImagePullTimeout);
        let spec = || container_spec(&function, "name", "/nowhere".into());
        let refused = driver.create(spec()).await.map(|_| ());
        assert_eq!(refused.expect_err("scripted").code(), ErrorCode::ServerBusy);

        driver.set_script(Script::default());
        let container = driver.create(spec()).await.expect("created");
        let state = driver.until(|state| state.created == 1).await;
        assert_eq!(state.containers["name"], FakeContainerState::Created);
        drop(container);
        eventually("removal", async || driver.state().removed == 1).await;
    }
}
