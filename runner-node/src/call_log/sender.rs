//! Sends logs to the API nodes, many parts at a time. While no API node answers, the same parts are
//! tried again, and what comes meanwhile waits in the buffer, as far as it fits.

use std::sync::Arc;
use std::time::Duration;

use domain::ErrorCode;
use hybrid_client::{LogChunk, WorkSource};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::buffer::{Buffer, Mark};
use crate::work::pause::Pauses;

/// How long the first part of a batch waits for others.
const GATHER: Duration = Duration::from_millis(20);
/// The longest that one batch may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Sends what is in the buffer.
pub(crate) struct Sender {
    buffer: Arc<Buffer>,
    /// What was taken out and not sent yet, and the mark behind it.
    batch: Option<(Vec<LogChunk>, Mark)>,
}

impl Sender {
    pub(super) fn new(buffer: Arc<Buffer>) -> Self {
        Self {
            buffer,
            batch: None,
        }
    }

    /// Sends for as long as it is polled.
    pub(crate) async fn run(&mut self, source: &dyn WorkSource, runner_id: &str) {
        loop {
            self.buffer.some.notified().await;
            tokio::select! {
                () = sleep(GATHER) => {}
                () = self.buffer.urgent.notified() => {}
            }
            self.send_batch(source, runner_id).await;
        }
    }

    /// Sends what is left, for as long as it is polled.
    pub(crate) async fn finish(&mut self, source: &dyn WorkSource, runner_id: &str) {
        while self.batch.is_some() || !self.buffer.is_empty() {
            self.send_batch(source, runner_id).await;
        }
    }

    /// When this is dropped half-way, the next time goes on with the same batch.
    async fn send_batch(&mut self, source: &dyn WorkSource, runner_id: &str) {
        let (parts, mark) = self.batch.get_or_insert_with(|| self.buffer.take());
        let bytes = parts.iter().map(|part| part.data.len() as u64).sum();
        let mut pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let sending = source.append_logs(runner_id, parts.clone());
            match timeout(LIMIT, sending).await {
                Ok(Ok(())) => {
                    self.buffer.metrics.sent.add(bytes);
                    break;
                }
                Ok(Err(error)) if error.code() != ErrorCode::StoreUnavailable => {
                    debug!(?error, bytes, "logs of calls are not wanted");
                    self.buffer.metrics.dropped.add(bytes);
                    break;
                }
                Ok(Err(error)) => debug!(?error, bytes, "logs of calls cannot be sent"),
                Err(_) => debug!(bytes, "logs of calls took too long"),
            }
            sleep(pauses.next()).await;
        }
        self.buffer.gone(*mark);
        self.batch = None;
    }
}

#[cfg(test)]
mod tests {
    use domain::call::LeaseRef;
    use nodekit::metrics::Metrics;
    use tokio::time::Instant;

    use super::*;
    use crate::agent::tests::soon;
    use crate::call_log::LogMetrics;
    use crate::work::tests::lease;
    use crate::work::tests::source::Source;

    fn buffer() -> Arc<Buffer> {
        Arc::new(Buffer::new(LogMetrics::new(&mut Metrics::new())))
    }

    fn part(lease: LeaseRef, offset: u64, text: &'static str) -> LogChunk {
        LogChunk {
            lease,
            offset,
            data: text.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_sent_together_and_at_once_when_somebody_waits() {
        let (buffer, source) = (buffer(), Source::new(Duration::from_secs(30)));
        let mut sender = Sender::new(Arc::clone(&buffer));
        let sending = {
            let source = source.clone();
            tokio::spawn(async move { sender.run(&*source, "runner").await })
        };
        let start = Instant::now();
        let parts = [
            part(lease("1", 1), 0, "a"),
            part(lease("2", 1), 0, "b"),
            part(lease("1", 1), 1, "c"),
        ];
        for part in &parts {
            buffer.write(part.clone());
        }
        source.until(|said| !said.chunks.is_empty()).await;
        assert_eq!(source.said.borrow().chunks, parts);
        assert_eq!(start.elapsed(), GATHER);

        let mark = buffer.write(part(lease("1", 1), 2, "d")).expect("room");
        buffer.sent(mark).await;
        assert_eq!(start.elapsed(), GATHER);
        assert_eq!(buffer.metrics.sent.get(), 4);
        sending.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn parts_wait_in_their_order_while_no_api_node_answers() {
        let (buffer, source) = (buffer(), Source::new(Duration::from_secs(30)));
        source.set(|said| said.down = true);
        let mut sender = Sender::new(Arc::clone(&buffer));
        buffer.write(part(lease("1", 1), 0, "a"));
        let away = sender.run(&*source, "runner");
        assert!(timeout(Duration::from_secs(60), away).await.is_err());
        buffer.write(part(lease("1", 1), 1, "b"));
        source.set(|said| said.down = false);
        // What was in hand comes first.
        soon(sender.finish(&*source, "runner")).await;
        let chunks = source.said.borrow().chunks.clone();
        assert_eq!(
            chunks,
            [part(lease("1", 1), 0, "a"), part(lease("1", 1), 1, "b")]
        );
        assert!(buffer.is_empty());
    }
}
