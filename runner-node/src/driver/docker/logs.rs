//! What functions print: for the logs of their calls, and as lines of the debug log (spec/03 3.1).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use bollard::query_parameters::AttachContainerOptions;
use futures_util::{Stream, StreamExt as _};

use super::engine::Engine;
use super::error::EngineError;
use crate::driver::{Output, Owner};

/// The longest line; what is longer is cut into several.
const MAX_LINE: usize = 16 * 1024;
/// Lines per second and container. More are counted and left out: a function that prints without
/// end must not fill the disk.
const MAX_RATE: u32 = 1000;
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Who reads what a container prints. If nobody does, nobody attaches.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    pub(super) call_log: Option<Arc<dyn Output>>,
    pub(super) debug_log: bool,
}

impl Readers {
    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.call_log.is_some() || self.debug_log
    }
}

/// Whether a line of a function would be in the debug log at all.
pub(super) fn is_on() -> bool {
    tracing::enabled!(tracing::Level::DEBUG, user_log)
}

/// Attaches to a container that is not started yet; what it prints comes out of the stream.
pub(super) async fn attach(
    engine: &Engine,
    id: &str,
) -> Result<
    impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + 'static,
    EngineError,
> {
    let options = AttachContainerOptions {
        stream: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    };
    let request = engine.docker().attach_container(id, Some(options));
    let attached = engine.call("docker_attach_container", request).await?;
    Ok(attached.output)
}

/// Passes on what comes until the container has ended.
pub(super) async fn pump(
    mut output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    readers: Readers,
    owner: Owner,
    container_id: String,
) {
    let mut lines = [Lines::default(), Lines::default()];
    let mut rate = Rate::new(Instant::now());
    let mut log = |line: &[u8]| {
        let (allowed, skipped) = rate.allow(Instant::now());
        if skipped > 0 {
            write(
                &owner,
                &container_id,
                &format!("({skipped} lines were left out)"),
            );
        }
        if allowed {
            write(&owner, &container_id, &String::from_utf8_lossy(line));
        }
    };
    while let Some(Ok(chunk)) = output.next().await {
        if readers.debug_log {
            let at = usize::from(matches!(chunk, LogOutput::StdErr { .. }));
            lines[at].push(chunk.as_ref(), &mut log);
        }
        if let Some(call_log) = &readers.call_log {
            call_log.printed(chunk.into_bytes(), Instant::now());
        }
    }
    for rest in &mut lines {
        rest.finish(&mut log);
    }
}

fn write(owner: &Owner, container_id: &str, line: &str) {
    tracing::debug!(
        app_id = %owner.app_id,
        fn_id = %owner.fn_id,
        image = %owner.image,
        container_id,
        user_log = true,
        "{line}"
    );
}

/// Cuts bytes into lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], log: &mut impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.rest.len();
            let window = &bytes[..bytes.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(window.len());
            self.rest.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[(taken + usize::from(end.is_some()))..];
            if end.is_some() || self.rest.len() == MAX_LINE {
                log(self.rest.strip_suffix(b"\r").unwrap_or(&self.rest));
                self.rest.clear();
            }
        }
    }

    fn finish(&mut self, log: &mut impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            log(&self.rest);
        }
    }
}

/// At most [`MAX_RATE`] lines in each window.
struct Rate {
    begin: Instant,
    lines: u32,
    skipped: u64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self {
            begin: now,
            lines: 0,
            skipped: 0,
        }
    }

    /// Whether a line may be logged, and how many were left out in a window that is over.
    fn allow(&mut self, now: Instant) -> (bool, u64) {
        let mut skipped = 0;
        if now.duration_since(self.begin) >= RATE_WINDOW {
            skipped = self.skipped;
            *self = Self::new(now);
        }
        self.lines = self.lines.saturating_add(1);
        let allowed = self.lines <= MAX_RATE;
        self.skipped += u64::from(!allowed);
        (allowed, skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        let mut log = |line: &[u8]| out.push(line.to_vec());
        for chunk in chunks {
            lines.push(chunk, &mut log);
        }
        lines.finish(&mut log);
        out
    }

    #[test]
    fn lines_are_put_together_and_cut() {
        let out = cut(&[b"a", b"b\r\nc\n\nd"]);
        assert_eq!(
            out,
            [b"ab".to_vec(), b"c".to_vec(), b"".to_vec(), b"d".to_vec()]
        );
        let long = vec![b'x'; MAX_LINE + 1];
        let lengths: Vec<_> = cut(&[&long, b"\n"]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_LINE, 1]);
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_does_not_matter(text in "[ab\n]{0,60}", at in 0usize..60) {
            let at = at.min(text.len());
            let (front, back) = text.as_bytes().split_at(at);
            prop_assert_eq!(cut(&[front, back]), cut(&[text.as_bytes()]));
        }
    }

    #[test]
    fn a_flood_is_counted_and_left_out() {
        let begin = Instant::now();
        let mut rate = Rate::new(begin);
        let allowed = (0..5000).filter(|_| rate.allow(begin).0).count();
        assert_eq!(allowed, MAX_RATE as usize);
        assert_eq!(rate.allow(begin + RATE_WINDOW), (true, 4000));
        assert_eq!(rate.allow(begin + RATE_WINDOW), (true, 0));
    }
}
