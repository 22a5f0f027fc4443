//! Removing what a dead predecessor of this runner left in the engine (spec/05 5.7, DESIGN 4).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::ListContainersOptions;
use futures_util::StreamExt as _;

use super::config::OnRemoved;
use super::engine::Engine;
use super::freezer::Freezer;
use super::instance::{CLASSIFIER_LABEL, Instance, Ownership};
use super::removal;

const LIST_LIMIT: Duration = Duration::from_secs(60);
const LIST_PAUSE: Duration = Duration::from_millis(500);
/// Removals at one time: more do not make an engine faster.
const AT_ONCE: usize = 8;
/// From this age on, a stopped container whose runner cannot be seen is nobody's.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Lists until the engine answers, and removes the containers of dead instances.
pub(super) async fn remove_predecessors(
    engine: &Engine,
    freezer: Option<&Freezer>,
    instance: &Instance,
    on_removed: Option<&OnRemoved>,
) {
    let mut kept = 0_usize;
    let mut dead = Vec::new();
    for container in list(engine, instance.classifier()).await {
        let labels = container.labels.clone().unwrap_or_default();
        match instance.ownership(&labels) {
            Ownership::Dead => dead.push(container),
            Ownership::Unknown if is_forgotten(&container) => dead.push(container),
            Ownership::Unknown => kept += 1,
            Ownership::Leave => {}
        }
    }
    if kept > 0 {
        tracing::warn!(
            kept,
            "containers with our tag belong to a runner that cannot be seen"
        );
    }
    let removed = dead.len();
    let removals = dead.into_iter().map(|container| async move {
        let gone = remove(engine, freezer, &container).await;
        if let (true, Some(on_removed)) = (gone, on_removed) {
            on_removed(name(&container));
        }
    });
    futures_util::stream::iter(removals)
        .for_each_concurrent(AT_ONCE, |removal| removal)
        .await;
    if removed > 0 {
        tracing::info!(removed, "containers of a dead predecessor");
    }
    instance.forget_dead();
}

async fn list(engine: &Engine, classifier: &str) -> Vec<ContainerSummary> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([(
            "label".to_owned(),
            vec![format!("{CLASSIFIER_LABEL}={classifier}")],
        )])),
        ..ListContainersOptions::default()
    };
    loop {
        let request = engine.docker().list_containers(Some(options.clone()));
        match engine
            .call_within(LIST_LIMIT, "docker_list_containers", request)
            .await
        {
            Ok(containers) => return containers,
            Err(error) => {
                tracing::warn!(%error, "the predecessor's containers cannot be listed");
                engine
                    .metrics()
                    .retry("docker_list_containers", error.status_label());
                tokio::time::sleep(LIST_PAUSE).await;
            }
        }
    }
}

/// Removes one, which may be frozen either way.
async fn remove(engine: &Engine, freezer: Option<&Freezer>, container: &ContainerSummary) -> bool {
    let Some(id) = &container.id else { return true };
    let paused = container.state == Some(ContainerSummaryStateEnum::PAUSED);
    removal::remove(engine, id, || async {
        if let Some(freezer) = freezer {
            let found = freezer.knows(id) || freezer.learn_from_engine(engine, id).await;
            if let (true, Err(error)) = (found, freezer.thaw(id)) {
                tracing::warn!(container_id = id, %error, "container cannot be thawed");
            }
        }
        if paused {
            let request = engine.docker().unpause_container(id);
            // A second try finds it unpaused; the removal tells what is wrong.
            let _ = engine.call("docker_unpause_container", request).await;
        }
    })
    .await
}

fn name(container: &ContainerSummary) -> &str {
    let names = container.names.as_deref().unwrap_or_default();
    let name = names.first().map_or("", String::as_str);
    name.trim_start_matches('/')
}

fn is_forgotten(container: &ContainerSummary) -> bool {
    use ContainerSummaryStateEnum::{CREATED, DEAD, EXITED};
    let stopped = matches!(container.state, Some(CREATED | DEAD | EXITED));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let age = now.unwrap_or_default().saturating_sub(Duration::from_secs(
        container
            .created
            .and_then(|at| u64::try_from(at).ok())
            .unwrap_or(u64::MAX),
    ));
    stopped && age > FORGOTTEN
}

/// What [`remove_predecessors`] needs, to be run as a task.
pub(super) struct Cleanup {
    pub(super) engine: Engine,
    pub(super) freezer: Option<Arc<Freezer>>,
    pub(super) instance: Arc<Instance>,
    pub(super) on_removed: Option<OnRemoved>,
}

impl Cleanup {
    /// Runs it.
    pub(super) async fn run(self) {
        remove_predecessors(
            &self.engine,
            self.freezer.as_deref(),
            &self.instance,
            self.on_removed.as_ref(),
        )
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_and_stopped_containers_are_forgotten() {
        let container = |state, created| ContainerSummary {
            state: Some(state),
            created,
            ..ContainerSummary::default()
        };
        use ContainerSummaryStateEnum::{EXITED, PAUSED, RUNNING};
        assert!(is_forgotten(&container(EXITED, Some(1))));
        assert!(!is_forgotten(&container(RUNNING, Some(1))));
        assert!(!is_forgotten(&container(PAUSED, Some(1))));
        assert!(!is_forgotten(&container(EXITED, Some(i64::MAX))));
        assert!(!is_forgotten(&container(EXITED, None)));
    }
}
