//! Parts of logs that wait to be sent. It has a bound: what does not fit is dropped, which leaves a gap
//! that the reader of the log is told of.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hybrid_client::LogChunk;
use tokio::sync::{Notify, watch};

use super::metrics::LogMetrics;

/// The most that waits, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// What a part weighs beside its bytes.
const PART: usize = 128;
/// The most of one batch.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_PARTS: usize = 500;

/// A place in the stream of parts: how many there were up to it.
pub(crate) type Mark = u64;

/// The parts that wait.
#[derive(Debug)]
pub(super) struct Buffer {
    queue: Mutex<Queue>,
    /// There is something.
    pub(super) some: Notify,
    /// Somebody waits for it to be sent.
    pub(super) urgent: Notify,
    sent: watch::Sender<Mark>,
    pub(super) metrics: LogMetrics,
}

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<LogChunk>,
    weight: usize,
    /// Parts so far.
    written: Mark,
}

fn weight(part: &LogChunk) -> usize {
    part.data.len() + PART
}

impl Buffer {
    /// An empty one.
    pub(super) fn new(metrics: LogMetrics) -> Self {
        Self {
            queue: Mutex::default(),
            some: Notify::new(),
            urgent: Notify::new(),
            sent: watch::Sender::new(0),
            metrics,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each change leaves the queue whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part; returns the mark behind it, or nothing if it was dropped.
    pub(super) fn write(&self, part: LogChunk) -> Option<Mark> {
        let mut queue = self.queue();
        let more = weight(&part);
        if queue.weight + more > MAX_BYTES {
            drop(queue);
            self.metrics.dropped.add(part.data.len() as u64);
            return None;
        }
        queue.weight += more;
        queue.written += 1;
        queue.parts.push_back(part);
        let mark = queue.written;
        let first = queue.parts.len() == 1;
        let full = queue.weight >= BATCH_BYTES;
        drop(queue);
        if first {
            self.some.notify_one();
        }
        if full {
            self.urgent.notify_one();
        }
        Some(mark)
    }

    /// Takes the oldest parts, and the mark behind them.
    pub(super) fn take(&self) -> (Vec<LogChunk>, Mark) {
        let mut queue = self.queue();
        let (mut parts, mut taken) = (Vec::new(), 0);
        while parts.len() < BATCH_PARTS
            && let Some(part) = queue
                .parts
                .pop_front_if(|part| parts.is_empty() || taken + part.data.len() <= BATCH_BYTES)
        {
            taken += part.data.len();
            queue.weight -= weight(&part);
            parts.push(part);
        }
        let mark = queue.written - queue.parts.len() as u64;
        if !queue.parts.is_empty() {
            self.some.notify_one();
        }
        (parts, mark)
    }

    /// Everything up to `mark` is gone.
    pub(super) fn gone(&self, mark: Mark) {
        self.sent.send_replace(mark);
    }

    /// Waits until everything up to `mark` is gone.
    pub(super) async fn sent(&self, mark: Mark) {
        let mut sent = self.sent.subscribe();
        if *sent.borrow() < mark {
            self.urgent.notify_one();
        }
        // The sender lives as long as `self`.
        let _ = sent.wait_for(|sent| *sent >= mark).await;
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue().parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use domain::call::LeaseRef;
    use futures_util::FutureExt as _;
    use nodekit::metrics::Metrics;

    use super::*;

    fn part(bytes: usize) -> LogChunk {
        LogChunk {
            lease: LeaseRef {
                call_id: "1".into(),
                epoch: 1,
            },
            offset: 0,
            data: vec![b'x'; bytes].into(),
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let buffer = Buffer::new(LogMetrics::new(&mut Metrics::new()));
        let mut kept = 0;
        while buffer.write(part(100_000)).is_some() {
            kept += 100_000;
        }
        assert!(kept > MAX_BYTES - 200_000 && kept <= MAX_BYTES);
        assert_eq!(buffer.metrics.dropped.get(), 100_000);
        let (parts, mark) = buffer.take();
        assert_eq!((parts.len(), mark), (5, 5));
        assert!(buffer.write(part(100_000)).is_some());
    }

    #[test]
    fn a_mark_is_reached_when_everything_before_it_is_gone() {
        let buffer = Buffer::new(LogMetrics::new(&mut Metrics::new()));
        let marks: Vec<_> = (0..BATCH_PARTS + 1)
            .map(|_| buffer.write(part(1)).expect("room"))
            .collect();
        let last = *marks.last().expect("some");
        let (parts, mark) = buffer.take();
        assert_eq!(parts.len(), BATCH_PARTS);
        buffer.gone(mark);
        assert!(buffer.sent(last - 1).now_or_never().is_some());
        assert!(buffer.sent(last).now_or_never().is_none());
        let (parts, mark) = buffer.take();
        assert_eq!(parts.len(), 1);
        buffer.gone(mark);
        assert!(buffer.sent(last).now_or_never().is_some());
        assert!(buffer.is_empty());
    }
}
