//! Removing a container until it is gone, whatever the engine is doing meanwhile (spec/05 5.8).

use std::time::Duration;

use bollard::query_parameters::RemoveContainerOptions;
use tokio::time::{Instant, sleep};

use super::engine::Engine;
use super::error::EngineError;

/// How long the engine may take for one try. It goes on by itself when we stop listening.
const TRY_LIMIT: Duration = Duration::from_secs(30);
/// How long the engine may be away. After that, the next start of the runner cleans up.
const GIVE_UP: Duration = Duration::from_secs(600);
/// How long after a request that broke a container may still be created by it.
const LATE_CREATION: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Removes a container with its volumes. `thaw` is called before each try: a frozen process does
/// not die. Returns whether it is gone.
pub(super) async fn remove<F>(engine: &Engine, id: &str, thaw: impl Fn() -> F) -> bool
where
    F: Future<Output = ()> + Send,
{
    let deadline = Instant::now() + GIVE_UP;
    let mut pause = FIRST_PAUSE;
    loop {
        thaw().await;
        let error = match try_remove(engine, id).await {
            Ok(_) => return true,
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            tracing::error!(container_id = id, %error, "container is left behind");
            return false;
        }
        // One that is being removed already is refused (409) until it is not found.
        tracing::debug!(container_id = id, %error, "container is not removed yet");
        engine
            .metrics()
            .retry("docker_remove_container", error.status_label());
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Removes the container `name` that a request may have created before it failed with `error`, or
/// may yet create.
pub(super) async fn remove_if_created(engine: &Engine, name: &str, error: &EngineError) {
    let begin = Instant::now();
    let late = match error.may_come_late() {
        true => LATE_CREATION,
        false => Duration::ZERO,
    };
    loop {
        let limit = match try_remove(engine, name).await {
            Ok(Found::Removed) => return,
            Ok(Found::Nothing) => late,
            Err(_) => GIVE_UP,
        };
        if begin.elapsed() >= limit {
            return;
        }
        sleep(LONGEST_PAUSE).await;
    }
}

enum Found {
    Removed,
    Nothing,
}

async fn try_remove(engine: &Engine, id: &str) -> Result<Found, EngineError> {
    let options = RemoveContainerOptions {
        v: true,
        force: true,
        link: false,
    };
    let request = engine.docker().remove_container(id, Some(options));
    match engine
        .call_within(TRY_LIMIT, "docker_remove_container", request)
        .await
    {
        Ok(()) => Ok(Found::Removed),
        Err(error) if error.is_not_found() => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}
