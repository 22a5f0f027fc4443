//! What every driver must do, as tests that each of them runs.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Annotations, ErrorCode, FnSpec, MilliCpus};

use super::{Container, ContainerSpec, Driver, Output, SocketMount};

/// The longest that a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// A function with default limits.
pub(crate) fn function_spec(image: &str) -> FnSpec {
    FnSpec {
        app_id: "app".into(),
        app_name: "app".to_owned(),
        fn_id: "fn".into(),
        fn_name: "fn".to_owned(),
        image: image.to_owned(),
        memory_mb: 64,
        cpus: MilliCpus::default(),
        tmpfs_mb: 0,
        timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(30),
        env: Default::default(),
        annotations: Annotations::default(),
        syslog_url: None,
    }
}

/// A container of it, with its socket directory.
pub(crate) fn container_spec(function: &FnSpec, name: &str, directory: PathBuf) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        call_id: "call".into(),
        function: Arc::new(function.clone()),
        env: function.env.clone(),
        socket_mount: SocketMount::Directory {
            source: directory,
            target: "/tmp/iofs".into(),
        },
        network_disabled: true,
        output: None,
    }
}

/// What a container of the suite does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// Writes a growing number into the file `beat` of its directory, for ever.
    Beat,
    /// Exits with this status.
    Exit(u8),
    /// Uses more memory than it may.
    ExhaustMemory,
    /// Prints [`PRINTED`] on its standard output and its standard error in turns, a line at a time,
    /// and exits.
    Print,
}

/// What a container prints that does.
pub(crate) const PRINTED: [&str; 4] = ["one\n", "two\n", "three\n", "four\n"];

/// Keeps what is printed.
#[derive(Debug, Default)]
pub(crate) struct Printed(Mutex<Vec<u8>>);

impl Printed {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Output for Printed {
    fn printed(&self, data: Bytes, _at: Instant) {
        self.0.lock().expect("no panic").extend_from_slice(&data);
    }
}

/// A driver under test.
pub(crate) trait Bench {
    /// The driver.
    fn driver(&self) -> &dyn Driver;

    /// A new container that does as told.
    fn spec(&self, behaviour: Behaviour) -> ContainerSpec;

    /// Whether the container exists, running or not.
    fn exists(&self, name: &str) -> impl Future<Output = bool>;

    /// Ends the driver and removes what the test made.
    fn end(self) -> impl Future<Output = ()>;
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn beat(directory: &Path) -> u64 {
    let text = std::fs::read_to_string(directory.join("beat"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Waits until a container's heart beats, from now on.
pub(crate) async fn beats(directory: &Path) {
    let before = beat(directory);
    eventually("a beat", async || beat(directory) > before).await;
}

/// The directory of a container of the suite.
pub(crate) fn directory(spec: &ContainerSpec) -> PathBuf {
    match &spec.socket_mount {
        SocketMount::Directory { source, .. } => source.clone(),
        SocketMount::Volume { .. } => panic!("the suite uses directories"),
    }
}

async fn running(bench: &impl Bench) -> (Box<dyn Container>, String, PathBuf) {
    let spec = bench.spec(Behaviour::Beat);
    let (name, directory) = (spec.name.clone(), directory(&spec));
    prepare(bench, &spec).await;
    let container = bench.driver().create(spec).await.expect("created");
    container.start().await.expect("started");
    beats(&directory).await;
    (container, name, directory)
}

async fn prepare(bench: &impl Bench, spec: &ContainerSpec) {
    let deadline = Instant::now() + PATIENCE;
    let prepared = bench.driver().prepare_image(&spec.function, deadline);
    prepared.await.expect("prepared");
}

pub(crate) async fn a_created_container_stands_still_until_it_is_started(bench: &impl Bench) {
    let spec = bench.spec(Behaviour::Beat);
    let (name, directory) = (spec.name.clone(), directory(&spec));
    prepare(bench, &spec).await;
    let container = bench.driver().create(spec).await.expect("created");
    assert!(bench.exists(&name).await);
    assert_eq!(beat(&directory), 0);
    container.start().await.expect("started");
    beats(&directory).await;
    container.remove().await;
    assert!(!bench.exists(&name).await);
}

pub(crate) async fn the_exit_status_is_told_to_all_and_again(bench: &impl Bench) {
    for code in [0, 3] {
        let spec = bench.spec(Behaviour::Exit(code));
        prepare(bench, &spec).await;
        let container = bench.driver().create(spec).await.expect("created");
        let early = container.wait();
        let (early, started) = tokio::join!(early, container.start());
        started.expect("started");
        let exit = container.wait().await;
        assert_eq!((exit.code, exit.out_of_memory), (i64::from(code), false));
        assert_eq!(early, exit);
        container.remove().await;
        assert_eq!(container.wait().await, exit);
    }
}

pub(crate) async fn what_was_printed_has_been_told_when_the_container_is_gone(bench: &impl Bench) {
    let mut spec = bench.spec(Behaviour::Print);
    let printed = Arc::<Printed>::default();
    spec.output = Some(printed.clone());
    prepare(bench, &spec).await;
    let container = bench.driver().create(spec).await.expect("created");
    container.start().await.expect("started");
    container.wait().await;
    container.remove().await;
    assert_eq!(printed.text().len(), PRINTED.concat().len());
}

pub(crate) async fn all_that_is_printed_is_told(bench: &impl Bench) {
    let mut spec = bench.spec(Behaviour::Print);
    let printed = Arc::<Printed>::default();
    spec.output = Some(printed.clone());
    prepare(bench, &spec).await;
    let container = bench.driver().create(spec).await.expect("created");
    container.start().await.expect("started");
    container.wait().await;
    // The two streams are told apart by the engine, and may overtake each other.
    let mut expected = PRINTED.concat().into_bytes();
    expected.sort_unstable();
    eventually("all of it", async || {
        let mut text = printed.text().into_bytes();
        text.sort_unstable();
        text == expected
    })
    .await;
    container.remove().await;
}

pub(crate) async fn an_exhausted_memory_limit_is_told(bench: &impl Bench) {
    let spec = bench.spec(Behaviour::ExhaustMemory);
    prepare(bench, &spec).await;
    let container = bench.driver().create(spec).await.expect("created");
    container.start().await.expect("started");
    assert!(container.wait().await.out_of_memory);
    container.remove().await;
}

pub(crate) async fn a_frozen_container_stands_still_and_goes_on(bench: &impl Bench) {
    let (container, _, directory) = running(bench).await;
    container.thaw().await.expect("nothing to thaw");
    for _ in 0..3 {
        container.freeze().await.expect("frozen");
        let before = beat(&directory);
        // It beats every few milliseconds.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(beat(&directory), before);
        container.thaw().await.expect("thawed");
        beats(&directory).await;
    }
    container.remove().await;
}

pub(crate) async fn removal_works_frozen_or_not_and_twice(bench: &impl Bench) {
    for frozen in [false, true] {
        let (container, name, _) = running(bench).await;
        if frozen {
            container.freeze().await.expect("frozen");
        }
        let (exit, (), ()) = tokio::join!(container.wait(), container.remove(), container.remove());
        assert_eq!((exit.code, exit.out_of_memory), (137, false));
        assert!(!bench.exists(&name).await);
        container.remove().await;
    }
}

pub(crate) async fn a_container_that_has_ended_cannot_be_frozen(bench: &impl Bench) {
    let spec = bench.spec(Behaviour::Exit(0));
    prepare(bench, &spec).await;
    let container = bench.driver().create(spec).await.expect("created");
    container.start().await.expect("started");
    container.wait().await;
    assert_eq!(
        container.freeze().await.expect_err("ended").code(),
        ErrorCode::Internal
    );
    container.remove().await;
}

pub(crate) async fn a_dropped_container_is_removed(bench: &impl Bench) {
    let (container, name, _) = running(bench).await;
    container.freeze().await.expect("frozen");
    drop(container);
    eventually("removal", async || !bench.exists(&name).await).await;
}

pub(crate) async fn a_dropped_removal_goes_on(bench: &impl Bench) {
    let (container, name, _) = running(bench).await;
    tokio::select! {
        biased;
        () = container.remove() => {}
        () = std::future::ready(()) => {}
    }
    eventually("removal", async || !bench.exists(&name).await).await;
    container.remove().await;
}

pub(crate) async fn a_dropped_creation_leaves_nothing(bench: &impl Bench) {
    let spec = bench.spec(Behaviour::Beat);
    let name = spec.name.clone();
    prepare(bench, &spec).await;
    tokio::select! {
        biased;
        _ = bench.driver().create(spec) => {}
        () = std::future::ready(()) => {}
    }
    bench.driver().close().await;
    assert!(!bench.exists(&name).await);
}

pub(crate) async fn closing_waits_for_removals(bench: &impl Bench) {
    let (container, name, _) = running(bench).await;
    drop(container);
    bench.driver().close().await;
    assert!(!bench.exists(&name).await);
}

pub(crate) async fn the_engine_answers(bench: &impl Bench) {
    bench.driver().ping().await.expect("an answer");
}

/// Makes a test of each rule for the driver that `$bench` (an async expression) makes.
macro_rules! contract_tests {
    ($bench:expr) => {
        $crate::driver::contract::contract_tests!(
            $bench;
            a_created_container_stands_still_until_it_is_started
            the_exit_status_is_told_to_all_and_again
            all_that_is_printed_is_told
            what_was_printed_has_been_told_when_the_container_is_gone
            an_exhausted_memory_limit_is_told
            a_frozen_container_stands_still_and_goes_on
            removal_works_frozen_or_not_and_twice
            a_container_that_has_ended_cannot_be_frozen
            a_dropped_container_is_removed
            a_dropped_removal_goes_on
            a_dropped_creation_leaves_nothing
            closing_waits_for_removals
            the_engine_answers
        );
    };
    ($bench:expr; $($rule:ident)+) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let bench = $bench;
                $crate::driver::contract::$rule(&bench).await;
                $crate::driver::contract::Bench::end(bench).await;
            }
        )+
    };
}
pub(crate) use contract_tests;
