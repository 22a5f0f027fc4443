//! The short way: from acceptance straight to a runner that is connected to this node, without the
//! queue. The doorbell stays in the store, unrung, until the claim deletes it: so a crash on the way is
//! one before publishing.

use super::Relay;
use crate::queue::Receipt;
use crate::store::Doorbell;

/// Where calls are handed to the runners of this node.
pub(in crate::calls) trait Counter: Send + Sync {
    /// Whether a runner could get this call at once.
    fn has_room(&self, doorbell: &Doorbell) -> bool;

    /// Takes it, or drops the receipt.
    fn offer(&self, doorbell: Doorbell, receipt: Box<dyn Receipt>);
}

/// What stands for the message that was not published. Dropped without a word, or released, it
/// becomes one.
pub(super) struct Direct {
    relay: Relay,
    doorbell: Option<Doorbell>,
}

impl Direct {
    /// Of a doorbell that is under way.
    pub(super) fn new(relay: Relay, doorbell: Doorbell) -> Self {
        Self {
            relay,
            doorbell: Some(doorbell),
        }
    }
}

impl Receipt for Direct {
    fn ack(mut self: Box<Self>) {
        if let Some(doorbell) = self.doorbell.take() {
            self.relay.ledger.settled(&[doorbell.lease]);
        }
    }

    fn release(self: Box<Self>) {}
}

impl Drop for Direct {
    fn drop(&mut self) {
        if let Some(doorbell) = self.doorbell.take() {
            self.relay.publish(doorbell);
        }
    }
}
