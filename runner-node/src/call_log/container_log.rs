//! Which call a container's output belongs to.
//!
//! What a function prints comes through the engine, and the answer through the socket: output that was
//! written before the answer may come after it, on an idle machine by half a millisecond. So what
//! comes after a call is still of that call until the next one begins. Where calls of clients follow
//! each other without a pause, or the engine is slow, lines may be told of the next call; none are
//! lost, and none are told of a call before their own. A durable call leaves the one before it a
//! moment ([`ContainerLog::settled`]). What a container prints long after its last call belongs to
//! nobody, and what it prints while it starts belongs to its first call, or, if it does not come up, to
//! the call that it was started for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use domain::call::LeaseRef;
use hybrid_client::LogChunk;

use super::buffer::{Buffer, Mark};
use crate::driver::Output;

/// Output of a container that has been idle for longer belongs to nobody. An engine with much to do may
/// take seconds.
const LINGER: Duration = Duration::from_secs(10);
/// Output is a little later than the answer, usually.
const LATE: Duration = Duration::from_millis(2);
/// The most that is kept of what a container prints before its first call, and not more than of a call.
const MAX_EARLY: u64 = 1 << 20;

/// The log of one container. One lock, which nobody else waits for, is all that a call pays for it.
#[derive(Debug)]
pub(crate) struct ContainerLog {
    buffer: Arc<Buffer>,
    max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The call that runs, or was the last to run.
    now: Option<Log>,
    /// The call before it.
    before: Option<Log>,
    ended: Option<Instant>,
    /// What was printed before the first call.
    early: BytesMut,
    printed: bool,
    calls: u64,
}

/// The log of one call.
#[derive(Debug)]
struct Log {
    lease: LeaseRef,
    /// Where it goes on.
    offset: u64,
    /// The limit was reached, which has been told.
    cut: bool,
    last: Option<Mark>,
}

impl ContainerLog {
    /// For a container that has not been started.
    pub(super) fn new(buffer: Arc<Buffer>, max_bytes: u64) -> Self {
        Self {
            buffer,
            max_bytes,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins to run; without a lease, its log is not kept.
    pub(crate) fn begin(&self, lease: Option<LeaseRef>) {
        let mut state = self.state();
        let mut now = lease.map(|lease| Log {
            lease,
            offset: 0,
            cut: false,
            last: None,
        });
        if state.calls == 0 {
            let early = std::mem::take(&mut state.early).freeze();
            if let Some(log) = now.as_mut().filter(|_| !early.is_empty()) {
                self.append(log, early);
            }
        }
        state.before = std::mem::replace(&mut state.now, now);
        state.calls += 1;
        state.ended = None;
    }

    /// The call is over.
    pub(crate) fn end(&self, at: Instant) {
        self.state().ended = Some(at);
    }

    /// Waits until the output of the last call has usually come, if the container prints.
    pub(crate) async fn settled(&self) {
        let until = {
            let state = self.state();
            let until = state.ended.map(|ended| ended + LATE);
            // What has run one call may print without having shown it.
            until.filter(|_| state.printed || state.calls <= 1)
        };
        if let Some(until) = until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// The mark behind what the call has printed, if it has printed anything.
    pub(crate) fn mark_of(&self, lease: &LeaseRef) -> Option<Mark> {
        let state = self.state();
        let logs = [&state.now, &state.before].into_iter().flatten();
        logs.filter(|log| log.lease == *lease)
            .find_map(|log| log.last)
    }

    /// Adds to the log of a call, up to the limit. What the buffer drops stays a gap.
    fn append(&self, log: &mut Log, mut data: Bytes) {
        if log.cut || data.is_empty() {
            return;
        }
        let room = self.max_bytes - log.offset;
        if data.len() as u64 > room {
            data.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            log.cut = true;
        }
        if !data.is_empty() {
            self.write(log, data);
        }
        if log.cut {
            let limit = self.max_bytes;
            let line = format!("\n-----max log size {limit} bytes exceeded, truncating log-----\n");
            self.write(log, line.into());
        }
    }

    fn write(&self, log: &mut Log, data: Bytes) {
        let offset = log.offset;
        log.offset += data.len() as u64;
        let part = LogChunk {
            lease: log.lease.clone(),
            offset,
            data,
        };
        if let Some(mark) = self.buffer.write(part) {
            log.last = Some(mark);
        }
    }
}

impl Output for ContainerLog {
    fn printed(&self, data: Bytes, at: Instant) {
        let mut state = self.state();
        let state = &mut *state;
        state.printed = true;
        if state.calls == 0 {
            // One byte more tells that there was more.
            let most = self.max_bytes.min(MAX_EARLY) as usize + 1;
            let room = most - state.early.len();
            state.early.extend_from_slice(&data[..data.len().min(room)]);
            return;
        }
        let idle = state
            .ended
            .is_some_and(|ended| at.saturating_duration_since(ended) > LINGER);
        if let Some(log) = state.now.as_mut().filter(|_| !idle) {
            self.append(log, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nodekit::metrics::Metrics;
    use proptest::prelude::*;

    use super::*;
    use crate::call_log::LogMetrics;
    use crate::work::tests::lease;

    const MILLI: Duration = Duration::from_millis(1);

    fn log(max_bytes: u64) -> ContainerLog {
        let buffer = Buffer::new(LogMetrics::new(&mut Metrics::new()));
        ContainerLog::new(Arc::new(buffer), max_bytes)
    }

    /// The logs so far, by call; each part begins where the one before it ended.
    fn logs(log: &ContainerLog) -> BTreeMap<String, String> {
        let mut logs = BTreeMap::<String, String>::new();
        loop {
            let (parts, _) = log.buffer.take();
            if parts.is_empty() {
                return logs;
            }
            for part in parts {
                let text = logs.entry(part.lease.to_string()).or_default();
                assert_eq!(part.offset, text.len() as u64);
                text.push_str(std::str::from_utf8(&part.data).expect("text"));
            }
        }
    }

    fn expect(log: &ContainerLog, expected: &[(&str, &str)]) {
        let expected = expected.iter();
        let expected = expected.map(|(id, text)| ((*id).to_owned(), (*text).to_owned()));
        assert_eq!(logs(log), expected.collect());
    }

    #[test]
    fn what_is_printed_is_of_the_call_that_runs_or_has_just_run() {
        let (log, start) = (log(1000), Instant::now());
        let print = |text: &'static str, at| log.printed(text.into(), start + at);
        log.begin(Some(lease("1", 4)));
        print("a", MILLI);
        log.end(start + 2 * MILLI);
        print("b", 3 * MILLI);
        log.begin(Some(lease("2", 1)));
        print("d", 5 * MILLI);
        log.end(start + 6 * MILLI);
        print("e", 6 * MILLI + LINGER);
        print("f", 7 * MILLI + LINGER);
        expect(&log, &[("1#4", "ab"), ("2#1", "de")]);
    }

    #[test]
    fn what_is_printed_before_the_first_call_belongs_to_it() {
        let (log, start) = (log(1000), Instant::now());
        log.printed("hello ".into(), start);
        log.begin(Some(lease("1", 1)));
        log.printed("world".into(), start + 2 * MILLI);
        expect(&log, &[("1#1", "hello world")]);
        assert!(log.mark_of(&lease("1", 1)).is_some());
    }

    #[test]
    fn a_call_whose_log_is_not_kept_gets_nobody_elses() {
        let (log, start) = (log(1000), Instant::now());
        log.begin(Some(lease("1", 1)));
        log.end(start + MILLI);
        log.begin(None);
        log.printed("secret".into(), start + 3 * MILLI);
        log.begin(Some(lease("3", 1)));
        log.printed("open".into(), start + 5 * MILLI);
        expect(&log, &[("3#1", "open")]);
    }

    #[test]
    fn a_long_log_is_cut_and_says_so_once() {
        let (log, start) = (log(10), Instant::now());
        log.begin(Some(lease("1", 1)));
        for _ in 0..5 {
            log.printed("12345".into(), start + MILLI);
        }
        log.begin(Some(lease("2", 1)));
        log.printed("1234567890".into(), start + 3 * MILLI);
        let cut = "1234512345\n-----max log size 10 bytes exceeded, truncating log-----\n";
        expect(&log, &[("1#1", cut), ("2#1", "1234567890")]);
    }

    #[test]
    fn a_call_that_has_printed_has_a_mark() {
        let (log, start) = (log(10), Instant::now());
        log.begin(Some(lease("1", 1)));
        assert_eq!(log.mark_of(&lease("1", 1)), None);
        log.printed("x".into(), start + MILLI);
        log.begin(Some(lease("2", 1)));
        assert_eq!(log.mark_of(&lease("1", 1)), Some(1));
        assert_eq!(log.mark_of(&lease("2", 1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_prints_is_given_a_moment_after_its_calls() {
        let log = log(10);
        let now = || tokio::time::Instant::now().into_std();
        let start = now();
        // Nothing has run.
        log.settled().await;
        log.begin(Some(lease("1", 1)));
        log.end(start);
        log.settled().await;
        assert_eq!(now() - start, LATE);
        log.begin(Some(lease("2", 1)));
        log.end(now());
        let silent = now();
        log.settled().await;
        assert_eq!(now(), silent);
        log.printed("x".into(), now());
        log.settled().await;
        assert_eq!(now() - silent, LATE);
    }

    proptest! {
        /// However it is cut into pieces, and however long the limit is.
        #[test]
        fn a_log_is_the_beginning_of_what_was_printed(
            pieces in proptest::collection::vec("[a-z]{0,9}", 0..20),
            max_bytes in 0u64..60,
        ) {
            let (log, start) = (log(max_bytes), Instant::now());
            log.begin(Some(lease("1", 1)));
            for piece in &pieces {
                log.printed(piece.clone().into(), start + MILLI);
            }
            let all = pieces.concat();
            let kept = logs(&log).remove("1#1").unwrap_or_default();
            if all.len() as u64 <= max_bytes {
                prop_assert_eq!(kept, all);
            } else {
                let limit = usize::try_from(max_bytes).expect("small");
                prop_assert!(kept.starts_with(&all[..limit]));
                prop_assert!(kept[limit..].starts_with("\n-----max log size "));
            }
        }
    }
}
