//! How a log is put together from its parts: in order, nothing twice, with a line in the place of
//! what is missing and of what was cut off. Pure.

use bytes::BytesMut;
use domain::CallId;
use hybrid_client::LogChunk;

use super::parts::{Part, PartKey};
use super::{ATTEMPT_LIMIT, LogCursor, LogPage};

/// A page gets no further part once it has so many bytes, or parts.
const PAGE_BYTES: u64 = ATTEMPT_LIMIT;
const PAGE_PARTS: usize = 256;

/// What is to be kept of chunks: neighbours become one part. One byte behind the limit is kept, which
/// says that there was more.
pub(super) fn cut(chunks: Vec<LogChunk>) -> Vec<(CallId, Part)> {
    let mut runs: Vec<(CallId, Part)> = Vec::new();
    let mut open: Option<(CallId, i64, u64, BytesMut)> = None;
    let mut close = |run: Option<(CallId, i64, u64, BytesMut)>| {
        if let Some((id, epoch, start, data)) = run {
            let data = data.freeze();
            runs.push((id, Part { epoch, start, data }));
        }
    };
    for LogChunk {
        lease,
        offset,
        data,
    } in chunks
    {
        let start = offset.min(ATTEMPT_LIMIT);
        let room = usize::try_from(ATTEMPT_LIMIT + 1 - start).unwrap_or(usize::MAX);
        let data = data.slice(..data.len().min(room));
        if data.is_empty() {
            continue;
        }
        match &mut open {
            Some((id, epoch, first, run))
                if *id == lease.call_id
                    && *epoch == lease.epoch
                    && *first + run.len() as u64 == start =>
            {
                run.extend_from_slice(&data);
            }
            _ => {
                let next = (lease.call_id, lease.epoch, start, BytesMut::from(data));
                close(open.replace(next));
            }
        }
    }
    close(open);
    // Everybody locks rows in the same order.
    runs.sort_by(|(a, x), (b, y)| (a, x.epoch, x.start).cmp(&(b, y.epoch, y.start)));
    runs
}

/// What is read for the page behind a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The parts, in the order of the log.
    pub(super) keys: Vec<PartKey>,
    /// Whether there are more.
    pub(super) more: bool,
}

/// Chooses the parts of the page behind `cursor`: those that have something which those before them
/// have not.
pub(super) fn plan(mut found: Vec<PartKey>, cursor: LogCursor) -> Plan {
    found.sort_unstable();
    let (mut at, mut bytes) = (cursor, 0);
    let mut keys = Vec::new();
    for key in found {
        if !move_to(&mut at, key.epoch) || key.end() <= at.offset {
            continue;
        }
        if bytes >= PAGE_BYTES || keys.len() >= PAGE_PARTS {
            return Plan { keys, more: true };
        }
        at.offset = key.end();
        bytes += key.len;
        keys.push(key);
    }
    Plan { keys, more: false }
}

/// Puts a page together from those of its parts that could be read.
pub(super) fn page(plan: &Plan, parts: &[Part], cursor: LogCursor) -> LogPage {
    let mut at = cursor;
    let mut data = BytesMut::new();
    for part in parts {
        let (start, end) = (part.start, part.key().end());
        if !move_to(&mut at, part.epoch) || end <= at.offset {
            continue;
        }
        if start > at.offset {
            data.extend_from_slice(missing(start - at.offset).as_bytes());
            at.offset = start;
        }
        let new = part.data.slice(index(at.offset - start)..);
        let shown = index(ATTEMPT_LIMIT.saturating_sub(at.offset)).min(new.len());
        data.extend_from_slice(&new[..shown]);
        if end > ATTEMPT_LIMIT {
            data.extend_from_slice(truncated().as_bytes());
        }
        at.offset = end;
    }
    // Whoever reads on goes on, even if nothing could be read.
    if let Some(last) = plan.keys.last()
        && move_to(&mut at, last.epoch)
        && last.end() > at.offset
    {
        data.extend_from_slice(missing(last.end() - at.offset).as_bytes());
        at.offset = last.end();
    }
    LogPage {
        data: data.freeze(),
        next: at,
        more: plan.more,
    }
}

/// Goes on to an attempt; false if it is an earlier one.
fn move_to(at: &mut LogCursor, epoch: i64) -> bool {
    if epoch > at.epoch {
        *at = LogCursor { epoch, offset: 0 };
    }
    epoch == at.epoch
}

/// Differences of positions within an attempt, which are below its limit.
fn index(difference: u64) -> usize {
    usize::try_from(difference).unwrap_or(usize::MAX)
}

/// The line of spec/02 2.5.
fn truncated() -> String {
    format!("\n-----max log size {ATTEMPT_LIMIT} bytes exceeded, truncating log-----\n")
}

fn missing(bytes: u64) -> String {
    format!("\n-----{bytes} bytes of the log are missing-----\n")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::call::LeaseRef;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = ATTEMPT_LIMIT as usize;

    fn chunk(epoch: i64, offset: u64, data: impl Into<Bytes>) -> LogChunk {
        LogChunk {
            lease: LeaseRef {
                call_id: CallId::from("call"),
                epoch,
            },
            offset,
            data: data.into(),
        }
    }

    fn kept(chunks: impl IntoIterator<Item = LogChunk>) -> Vec<Part> {
        let parts = cut(chunks.into_iter().collect());
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// All pages behind `cursor`.
    fn shown_from(parts: &[Part], mut cursor: LogCursor) -> (String, LogCursor) {
        let mut log = Vec::new();
        loop {
            let plan = plan(parts.iter().map(Part::key).collect(), cursor);
            let read: Vec<Part> = plan
                .keys
                .iter()
                .map(|key| {
                    parts
                        .iter()
                        .find(|part| part.key() == *key)
                        .expect("it")
                        .clone()
                })
                .collect();
            let page = page(&plan, &read, cursor);
            log.extend_from_slice(&page.data);
            cursor = page.next;
            if !page.more {
                return (String::from_utf8(log).expect("text"), cursor);
            }
        }
    }

    fn shown(parts: &[Part]) -> String {
        shown_from(parts, LogCursor::default()).0
    }

    #[test]
    fn neighbours_are_kept_together_and_attempts_apart() {
        let parts = kept([
            chunk(1, 0, "one "),
            chunk(1, 4, "two "),
            chunk(2, 0, "three"),
            chunk(1, 8, ""),
        ]);
        assert_eq!(parts.len(), 2);
        assert_eq!(shown(&parts), "one two three");
    }

    #[test]
    fn what_came_twice_is_shown_once() {
        let parts = [
            kept([chunk(1, 0, "one ")]),
            kept([chunk(1, 0, "one "), chunk(1, 4, "two")]),
            kept([chunk(1, 2, "e t")]),
        ]
        .concat();
        assert_eq!(shown(&parts), "one two");
    }

    #[test]
    fn a_line_says_what_is_missing_until_it_comes() {
        let mut parts = kept([chunk(1, 0, "one"), chunk(1, 7, "three")]);
        assert_eq!(
            shown(&parts),
            "one\n-----4 bytes of the log are missing-----\nthree"
        );
        parts.extend(kept([chunk(1, 3, "+two")]));
        assert_eq!(shown(&parts), "one+twothree");
    }

    #[test]
    fn a_log_is_cut_at_its_limit_with_the_line_of_the_original() {
        let line = "\n-----max log size 1048576 bytes exceeded, truncating log-----\n";
        let full = "x".repeat(LIMIT);
        assert_eq!(shown(&kept([chunk(1, 0, full.clone())])), full);
        let more = kept([chunk(1, 0, full.clone()), chunk(1, ATTEMPT_LIMIT, "y")]);
        assert_eq!(shown(&more), format!("{full}{line}"));
        // A runner that cuts at the same limit has put the line there itself.
        let cut = kept([chunk(1, 0, format!("{full}{line}"))]);
        assert_eq!(shown(&cut), format!("{full}{line}"));
        // However much comes, no more is kept.
        let parts = [
            kept([chunk(1, 0, full.clone())]),
            kept([chunk(1, ATTEMPT_LIMIT * 2, "y".repeat(100))]),
            kept([chunk(1, u64::MAX, "z")]),
        ]
        .concat();
        assert!(
            parts
                .iter()
                .all(|part| part.key().end() <= ATTEMPT_LIMIT + 1)
        );
        assert_eq!(shown(&parts), format!("{full}{line}"));
    }

    #[test]
    fn a_part_that_can_not_be_read_is_missing_and_stops_nobody() {
        let keys = [(1, 0, 4), (1, 4, 4), (2, 0, 4)];
        let plan = Plan {
            keys: keys
                .map(|(epoch, start, len)| PartKey { epoch, start, len })
                .to_vec(),
            more: true,
        };
        let page = page(&plan, &kept([chunk(1, 4, "read")]), LogCursor::default());
        let gap = "\n-----4 bytes of the log are missing-----\n";
        assert_eq!(page.data, format!("{gap}read{gap}"));
        assert_eq!((page.next.epoch, page.next.offset), (2, 4));
    }

    #[test]
    fn pages_have_an_end() {
        let parts: Vec<_> = (1..=4)
            .flat_map(|epoch| kept([chunk(epoch, 0, "x".repeat(LIMIT / 2))]))
            .collect();
        let plan = plan(parts.iter().map(Part::key).collect(), LogCursor::default());
        assert_eq!((plan.keys.len(), plan.more), (2, true));
        assert_eq!(shown(&parts).len(), 2 * LIMIT);
        let letters: Vec<_> = (0..1000).flat_map(|at| kept([chunk(1, at, "x")])).collect();
        let keys = letters.iter().map(Part::key).collect();
        let plan = super::plan(keys, LogCursor::default());
        assert_eq!((plan.keys.len(), plan.more), (PAGE_PARTS, true));
        assert_eq!(shown(&letters), "x".repeat(1000));
    }

    proptest! {
        /// However a text is chopped, doubled and shuffled, and wherever a reader looks in between:
        /// it sees the text.
        #[test]
        fn any_order_of_any_chunks_is_the_text(
            text in "[a-z]{0,40}",
            cuts in prop::collection::vec((0usize..40, 0usize..40), 0..20),
            looked in 0u64..45,
        ) {
            let mut chunks: Vec<_> = cuts
                .into_iter()
                .map(|(a, b)| (a.min(b).min(text.len()), a.max(b).min(text.len())))
                .map(|(from, to)| chunk(1, from as u64, text[from..to].to_owned()))
                .collect();
            chunks.push(chunk(1, 0, text.clone()));
            let parts: Vec<_> = chunks.into_iter().flat_map(|chunk| kept([chunk])).collect();
            prop_assert_eq!(shown(&parts), text.clone());
            let cursor = LogCursor { epoch: 1, offset: looked.min(text.len() as u64) };
            let (rest, end) = shown_from(&parts, cursor);
            prop_assert_eq!(rest, &text[cursor.offset as usize..]);
            prop_assert_eq!(end.offset, text.len() as u64);
        }
    }
}
