//! One runner of the table: asked how it is, and listened to, as long as it is there.

use std::sync::Arc;
use std::time::Duration;

use domain::{HostPort, SlotKey};
use proto::runner_extension::StateUpdate;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::back_off::BackOff;
use super::table::Shared;
use crate::placement::{FunctionState, NodeLoad, RunnerId, RunnerState};
use crate::remote::{FeedEnd, Link, check, watch_state};

/// When a runner without a state feed is asked for one again: it may be another build by then.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// A runner.
pub(super) struct Member {
    id: RunnerId,
    address: Arc<str>,
    link: Arc<Link>,
    stop: CancellationToken,
}

impl Member {
    pub(super) fn new(
        id: RunnerId,
        address: &HostPort,
        link: Arc<Link>,
        stop: CancellationToken,
    ) -> Self {
        let address = Arc::from(address.as_str());
        Self {
            id,
            address,
            link,
            stop,
        }
    }

    pub(super) fn address(&self) -> Arc<str> {
        Arc::clone(&self.address)
    }

    pub(super) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Stops to look after it. The calls that it has go on.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// Looks after `member` until it is stopped.
pub(super) async fn look_after(shared: Arc<Shared>, member: Arc<Member>) {
    let both = async {
        tokio::join!(
            keep_checking(&shared, &member),
            keep_listening(&shared, &member)
        )
    };
    member.stop.run_until_cancelled(both).await;
}

/// Asks the runner how it is, again and again, and at once when a connection is opened or lost.
async fn keep_checking(shared: &Shared, member: &Member) {
    let settings = &shared.settings;
    let mut links = member.link.changes();
    loop {
        links.mark_unchanged();
        let began = Instant::now();
        let checked = timeout(settings.check_timeout, check(&member.link)).await;
        let ok = checked.unwrap_or(false);
        let now = shared.now();
        shared.fleet.probed(member.id, ok, began.elapsed(), now);
        if ok {
            shared.waiters.wake_any(1);
        }
        let was_connected = member.link.is_connected();
        let turned = async {
            // Only what makes a difference: not each of several connections.
            while member.link.is_connected() == was_connected {
                if links.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        let _ = timeout(settings.check_every, turned).await;
    }
}

/// Listens to the runner's state feed, if it has one.
async fn keep_listening(shared: &Shared, member: &Member) {
    let mut back_off = BackOff::new(shared.random());
    loop {
        let mut heard = false;
        let take = |update: StateUpdate| {
            heard = true;
            take_in(shared, member, &update);
        };
        let end = watch_state(&member.link, shared.settings.feed_interval, take).await;
        if heard {
            shared.fleet.feed_lost(member.id, shared.now());
            back_off.reset();
        }
        let pause = match end {
            FeedEnd::Unknown => ASK_AGAIN,
            FeedEnd::Lost(why) => {
                tracing::debug!(runner = %member.address, why, "no state feed");
                back_off.next()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn take_in(shared: &Shared, member: &Member, update: &StateUpdate) {
    let state = state_of(update);
    shared.fleet.state(member.id, &state, shared.now());
    if state.draining {
        return;
    }
    for function in &state.functions {
        let free = function.idle as usize;
        if free > 0 {
            shared.waiters.wake(&function.slot_key, free);
        }
    }
    // It may have room for a container.
    shared.waiters.wake_any(1);
}

/// The update as the fleet takes it. A key that is none is nobody's.
fn state_of(update: &StateUpdate) -> RunnerState {
    let functions = update.functions.iter().filter_map(|function| {
        let key: [u8; 32] = function.slot_key.as_ref().try_into().ok()?;
        Some(FunctionState {
            slot_key: SlotKey::from(key),
            idle: function.idle,
            busy: function.busy,
            waiting: function.waiting,
            wait: Duration::from_nanos(function.wait_nanos),
        })
    });
    RunnerState {
        complete: update.complete,
        functions: functions.collect(),
        load: update.load.as_ref().map(|load| NodeLoad {
            memory_total_bytes: load.memory_total_bytes,
            memory_free_bytes: load.memory_free_bytes,
            cpu_total_millis: load.cpu_total_millis,
            cpu_free_millis: load.cpu_free_millis,
            running: load.running,
            waiting: load.waiting,
        }),
        draining: update.draining,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::runner_extension as wire;

    #[test]
    fn an_update_is_taken_over_field_by_field() {
        let function = |key: Vec<u8>| wire::FunctionState {
            slot_key: key.into(),
            idle: 1,
            busy: 2,
            waiting: 3,
            wait_nanos: 4,
        };
        let state = state_of(&StateUpdate {
            complete: true,
            functions: vec![function(vec![7; 32]), function(vec![7; 31])],
            load: Some(wire::NodeLoad {
                memory_total_bytes: 1,
                memory_free_bytes: 2,
                cpu_total_millis: 3,
                cpu_free_millis: 4,
                running: 5,
                waiting: 6,
            }),
            draining: true,
            heartbeat_ms: 0,
        });
        assert!(state.complete && state.draining);
        let expected = FunctionState {
            slot_key: SlotKey::from([7; 32]),
            idle: 1,
            busy: 2,
            waiting: 3,
            wait: Duration::from_nanos(4),
        };
        assert_eq!(state.functions, [expected]);
        let load = state.load.expect("a load");
        assert_eq!((load.memory_free_bytes, load.cpu_free_millis), (2, 4));
        assert_eq!((load.running, load.waiting), (5, 6));
    }
}
