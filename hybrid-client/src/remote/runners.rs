//! The runners that hold a lease, as the API nodes list them.

use std::sync::Arc;

use domain::RegisteredRunner;
use proto::hybrid::{RunnerList, WatchRunnersRequest};
use proto::hybrid_messages::runner_of;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::api_nodes::ApiNodes;
use super::follow::follow;

/// A list of runners, by address.
pub type Runners = Arc<[RegisteredRunner]>;

/// The list, kept up to date until this is dropped. While no API node can be reached it stays as it
/// was.
#[derive(Debug)]
pub struct RegisteredRunners {
    list: watch::Receiver<Option<Runners>>,
    _watch: AbortOnDropHandle<()>,
}

impl RegisteredRunners {
    /// Begins to watch; must be called within a runtime.
    pub fn watch(nodes: ApiNodes) -> Self {
        let (sender, list) = watch::channel(None);
        let watch = follow(
            "runners",
            nodes,
            |mut client| async move { client.watch_runners(WatchRunnersRequest {}).await },
            move |list| {
                let list = read(list);
                sender.send_if_modified(|known: &mut Option<Runners>| {
                    let news = known.as_ref() != Some(&list);
                    *known = Some(list);
                    news
                });
            },
        );
        Self {
            list,
            _watch: AbortOnDropHandle::new(tokio::spawn(watch)),
        }
    }

    /// The list, and each later one; none until an API node has answered for the first time.
    pub fn list(&self) -> watch::Receiver<Option<Runners>> {
        self.list.clone()
    }
}

/// Entries that cannot be read, as a newer API node may send them, are left out.
fn read(list: RunnerList) -> Runners {
    let runners = list.runners.into_iter().filter_map(|message| {
        let id = message.runner_id.clone();
        runner_of(message)
            .inspect_err(|error| tracing::warn!(id, %error, "a runner is left out"))
            .ok()
    });
    runners.collect()
}
