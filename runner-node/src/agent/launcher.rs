//! Launches containers for the calls that wait (spec/04 4.4): when a call joins a queue, and again
//! while calls wait, because a call that runs for long is a reason of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::{ApiError, ErrorCode};

use super::Shared;
use super::container;
use super::function::Function;
use crate::resources::Resources;
use crate::resources::pool::Token;
use crate::resources::reserve::{WhenFull, reserve};

/// How long a container waits for room that idle ones of other functions make, before busy ones have
/// to. Longer than a container takes to start, so that functions which take turns on a full node spend
/// most of the time running.
const PATIENCE: Duration = Duration::from_secs(1);

/// A call has joined the queue of `function`: launches what is needed now, and sees to it that
/// somebody looks again while calls wait.
pub(super) fn call_waits(shared: &Arc<Shared>, function: &Arc<Function>) {
    launch(shared, function);
    if !function.watched.swap(true, Ordering::AcqRel) {
        shared
            .tasks
            .spawn(watch(Arc::clone(shared), Arc::clone(function)));
    }
}

/// Launches what is needed now.
pub(super) fn launch(shared: &Arc<Shared>, function: &Arc<Function>) {
    if shared.stopping.is_cancelled() {
        return;
    }
    for _ in 0..function.claim_launches() {
        match function.queue.start_for_oldest() {
            Some(waiter) => {
                let run = container::run(Arc::clone(shared), Arc::clone(function), waiter);
                shared.tasks.spawn(run);
            }
            // The calls that waited have been served, or have gone away, in the meantime.
            None => function.launch_failed(),
        }
    }
}

async fn watch(shared: Arc<Shared>, function: Arc<Function>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.settings.hot_poll) => {}
            () = shared.stopping.cancelled() => return,
        }
        launch(&shared, &function);
        if function.queue.waiting() == 0 {
            function.watched.store(false, Ordering::Release);
            // A call that came between the look and the store has seen a watcher: look once more.
            if function.queue.waiting() == 0 || function.watched.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

/// Why a launch did not get its resources.
pub(super) enum NoResources {
    /// There are none.
    Refused(ApiError),
    /// Another function has waited for long: this one lets it go first, and goes on with the
    /// containers that it has.
    LeftToOthers,
}

/// The resources for one container of `function`. Gives up when no call waits any more.
pub(super) async fn acquire_resources(
    shared: &Shared,
    function: &Function,
) -> Result<Token, NoResources> {
    let when_full = if shared.settings.non_blocking_resources {
        WhenFull::Refuse
    } else {
        WhenFull::Wait
    };
    let need = Resources::of(&function.target.spec);
    let reserved = reserve(
        &shared.pool,
        &shared.evictor,
        &function.target.slot_key,
        need,
        when_full,
        tokio::time::sleep(PATIENCE),
    );
    let others_first = async {
        shared
            .evictor
            .others_hungry(&function.target.slot_key)
            .await;
        if !function.has_containers() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        reserved = reserved => reserved.map_err(|refusal| NoResources::Refused(refusal.into())),
        () = others_first => Err(NoResources::LeftToOthers),
        () = nobody_waits(shared, function) => Err(NoResources::Refused(ErrorCode::ServerBusy.into())),
        () = shared.stopping.cancelled() => Err(NoResources::Refused(ErrorCode::ServerBusy.into())),
    }
}

async fn nobody_waits(shared: &Shared, function: &Function) {
    loop {
        tokio::time::sleep(shared.settings.hot_poll).await;
        if function.queue.waiting() == 0 {
            return;
        }
    }
}
