//! A runner's state feed: `WatchState`, by which it tells what it has.

use std::time::Duration;

use bytes::BytesMut;
use prost::Message as _;
use proto::runner_extension::{StateUpdate, WatchStateRequest};

use super::connection::Rpc;
use super::link::Link;
use super::message;
use super::stream::{self, Received};

/// Heartbeats that may be missed.
const MISSED: u32 = 3;

/// What is taken for the heartbeat of a runner that tells none, and the shortest and longest that
/// are believed.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(1);
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(60);

/// Why a feed is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FeedEnd {
    /// The runner has none.
    Unknown,
    /// It broke, or fell silent.
    Lost(String),
}

/// Hands each update to `take`, until the feed ends.
pub(crate) async fn watch_state(
    link: &Link,
    min_interval: Duration,
    mut take: impl FnMut(StateUpdate),
) -> FeedEnd {
    let mut opened = match link.open(Rpc::WatchState).await {
        Ok(opened) => opened,
        Err(error) => return FeedEnd::Lost(error.to_string()),
    };
    let mut request = BytesMut::new();
    let min_interval_ms = u32::try_from(min_interval.as_millis()).unwrap_or(u32::MAX);
    message::encode(&WatchStateRequest { min_interval_ms }, &mut request);
    if let Err(error) = opened.send.send_data(request.freeze(), true) {
        return FeedEnd::Lost(error.to_string());
    }
    let mut heartbeat = DEFAULT_HEARTBEAT;
    loop {
        let next = tokio::time::timeout(heartbeat * MISSED, opened.receive.next());
        let received = match next.await {
            Ok(Ok(received)) => received,
            Ok(Err(error)) => return FeedEnd::Lost(error.to_string()),
            Err(_) => return FeedEnd::Lost("no heartbeat".to_owned()),
        };
        match received {
            Received::Message(update) => match StateUpdate::decode(update) {
                Ok(update) => {
                    heartbeat = heartbeat_of(&update);
                    take(update);
                }
                Err(error) => return FeedEnd::Lost(error.to_string()),
            },
            Received::End(status) if status.code == stream::UNIMPLEMENTED => {
                return FeedEnd::Unknown;
            }
            Received::End(status) => {
                return FeedEnd::Lost(format!("status {} {}", status.code, status.message));
            }
        }
    }
}

fn heartbeat_of(update: &StateUpdate) -> Duration {
    match update.heartbeat_ms {
        0 => DEFAULT_HEARTBEAT,
        millis => Duration::from_millis(millis.into()).clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT),
    }
}
