//! A bug for the tests of the tests: doorbells that are acknowledged before their calls are claimed.

use std::time::Duration;

use nodekit::fail_point::{Bug, is_planted};

use super::claims::Placed;
use crate::queue::Receipt;

/// A receipt that was used already.
struct Used;

impl Receipt for Used {
    fn ack(self: Box<Self>) {}
    fn release(self: Box<Self>) {}
}

/// Acknowledges the doorbells, if that is the bug.
pub(super) async fn acknowledge_too_early(batch: &mut [Placed]) {
    if !is_planted(Bug::AckBeforeCommit) {
        return;
    }
    for placed in batch {
        std::mem::replace(&mut placed.waiting.token, Box::new(Used)).ack();
    }
    // Time for the broker to hear of it.
    tokio::time::sleep(Duration::from_millis(50)).await;
}
