//! How many calls are in hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nodekit::metrics::Gauge;
use tokio::sync::Notify;

/// The calls in hand; clones count the same ones.
#[derive(Debug, Clone)]
pub(super) struct HeldCalls(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    calls: AtomicU32,
    bytes: AtomicU64,
    left: Notify,
    gauge: Gauge,
}

impl HeldCalls {
    /// None yet.
    pub(super) fn new(gauge: Gauge) -> Self {
        Self(Arc::new(Counts {
            calls: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            left: Notify::new(),
            gauge,
        }))
    }

    /// One more, with an input of so many bytes.
    pub(super) fn enter(&self, bytes: usize) -> Seat {
        let bytes = bytes as u64;
        self.0.gauge.add(1);
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Seat {
            counts: Arc::clone(&self.0),
            bytes,
        }
    }

    /// How many there are, and the bytes of their inputs.
    pub(super) fn now(&self) -> (u32, u64) {
        (
            self.0.calls.load(Ordering::Relaxed),
            self.0.bytes.load(Ordering::Relaxed),
        )
    }

    /// Completes when one has left since this was last asked.
    pub(super) async fn left(&self) {
        self.0.left.notified().await;
    }
}

/// A call in hand, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    counts: Arc<Counts>,
    bytes: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.counts.calls.fetch_sub(1, Ordering::Relaxed);
        self.counts.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counts.gauge.add(-1);
        self.counts.left.notify_one();
    }
}
