//! Looks at the leases of runners while somebody watches, and only then.

use std::sync::Arc;
use std::time::Duration;

use domain::{ApiError, RegisteredRunner};
use futures_util::{Stream, StreamExt as _, stream};
use proto::hybrid::RunnerList;
use proto::hybrid_messages::message_of;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::listed_runners::Patience;
use super::{HybridSettings, refused};
use crate::store::Store;

/// The runners that are there. An error only before they were read for the first time; nothing
/// while nobody has asked.
type State = Option<Result<Arc<[RegisteredRunner]>, ApiError>>;

/// The one look-out that all watchers share; it ends when it is dropped.
pub(super) struct RunnerWatch {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    state: watch::Sender<State>,
    /// Somebody watches, perhaps after a time in which nobody did.
    wanted: Notify,
}

impl RunnerWatch {
    pub(super) fn start(store: Arc<dyn Store>, settings: &HybridSettings) -> Self {
        let shared = Arc::new(Shared {
            state: watch::Sender::new(None),
            wanted: Notify::new(),
        });
        let (lease, poll) = (settings.lease, settings.runner_poll);
        let task = tokio::spawn(run(store, Arc::clone(&shared), lease, poll));
        Self {
            shared,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The whole list, at first and after each change, until `stop`.
    pub(super) fn lists(
        &self,
        stop: CancellationToken,
    ) -> impl Stream<Item = Result<RunnerList, Status>> + Send + use<> {
        let receiver = self.shared.state.subscribe();
        self.shared.wanted.notify_one();
        let lists = stream::unfold(Some((receiver, true)), async |watch| {
            let (mut receiver, first) = watch?;
            // The list may be there already; what comes later is a change.
            if !first {
                receiver.changed().await.ok()?;
            }
            let state = receiver.wait_for(Option::is_some).await.ok()?.clone();
            match state? {
                Ok(runners) => Some((Ok(list_of(&runners)), Some((receiver, false)))),
                Err(error) => Some((Err(refused(error)), None)),
            }
        });
        lists.take_until(stop.cancelled_owned())
    }
}

fn list_of(runners: &[RegisteredRunner]) -> RunnerList {
    RunnerList {
        runners: runners.iter().map(message_of).collect(),
    }
}

async fn run(store: Arc<dyn Store>, shared: Arc<Shared>, lease: Duration, poll: Duration) {
    let mut changes = store.runner_changes();
    loop {
        shared.wanted.notified().await;
        let mut patience = Patience::new(lease, poll);
        while shared.state.receiver_count() > 0 {
            changes.mark_unchanged();
            let found = store.runners().await;
            if let Err(error) = &found {
                tracing::debug!(?error, "the runners cannot be read");
                patience.failed();
            }
            let listed = found.map(|found| patience.listed(&found, Instant::now()));
            publish(&shared.state, listed);
            // Ends of leases are not told: they are looked for. So it matters not what woke us.
            let _ = timeout(poll, changes.changed()).await;
        }
        // The next one who watches waits for a list of then.
        shared.state.send_replace(None);
    }
}

/// An outage of the database changes nothing about what runners are there.
fn publish(state: &watch::Sender<State>, listed: Result<Arc<[RegisteredRunner]>, ApiError>) {
    state.send_if_modified(|known| {
        let news = match (&*known, &listed) {
            (Some(Ok(known)), Ok(listed)) => known != listed,
            (Some(Ok(_)), Err(_)) => false,
            _ => true,
        };
        if news {
            *known = Some(listed);
        }
        news
    });
}
