//! A strict look at the framing of HTTP/1.1 requests, before the parser sees them.
//!
//! The parser is lenient where the standard lets it be: it takes a bare line feed for the end of a
//! line, drops a `Content-Length` beside a `Transfer-Encoding`, folds equal lengths into one, and
//! leaves it open which of two hosts is meant. A proxy in front may read the same bytes differently,
//! and then one request hides in another. So whatever can be read in two ways is refused here (RFC
//! 9112 2.2, 3.2, 5.2, 6.1, 6.3, 7.1); what passes has one reading, which is the parser's too.

/// As much of a line as is kept; no line that matters here is longer.
const LINE_KEPT: usize = 80;

/// The longest line around a chunk: its size and extensions.
const CHUNK_LINE_MAX: usize = 4096;

/// What was found in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing wrong.
    Sound,
    /// The byte at this index, within a request head, must not be passed on.
    BadHead(usize),
    /// The byte at this index, within the framing of a chunked body, must not be passed on.
    BadBody(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two requests: not a byte of the next is here.
    Between,
    /// In a head.
    Head,
    /// In a body of known length, so many bytes before its end.
    Length(u64),
    /// In the line of a chunk's size.
    ChunkSize,
    /// In a chunk, so many bytes before its end.
    ChunkData(u64),
    /// In the line end that follows a chunk.
    ChunkEnd,
    /// In the trailers.
    Trailers,
}

/// Follows one connection's requests through whatever pieces they arrive in.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The start of the line that is not yet whole.
    line: [u8; LINE_KEPT],
    /// Its full length so far.
    line_length: usize,
    /// Its last byte.
    last: u8,
    /// How many heads were complete.
    heads: u64,
    /// Whether the request line has been seen.
    request_line: bool,
    /// The `Content-Length` of this head.
    length: Option<u64>,
    /// Whether this head has a `Transfer-Encoding`.
    chunked: bool,
    /// Whether this head has a `Host`.
    host: bool,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            state: State::Between,
            line: [0; LINE_KEPT],
            line_length: 0,
            last: 0,
            heads: 0,
            request_line: false,
            length: None,
            chunked: false,
            host: false,
        }
    }

    /// Whether the connection is between two requests, with nothing of the next.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Between
    }

    /// How many heads were complete so far.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Follows the next bytes of the connection, up to the first that is bad.
    pub(super) fn inspect(&mut self, bytes: &[u8]) -> Finding {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Length(left) | State::ChunkData(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    // It is no more than the length of a slice.
                    at += here as usize;
                    let left = left - here;
                    self.state = match self.state {
                        State::Length(_) if left == 0 => State::Between,
                        State::Length(_) => State::Length(left),
                        _ if left == 0 => State::ChunkEnd,
                        _ => State::ChunkData(left),
                    };
                }
                State::Between => self.start_head(),
                State::Head => match self.take_line(&bytes[at..]) {
                    Line::Partial => return Finding::Sound,
                    Line::BareFeed(offset) => return Finding::BadHead(at + offset),
                    Line::Whole { end } => {
                        if !self.head_line() {
                            return Finding::BadHead(at + end - 1);
                        }
                        at += end;
                    }
                },
                State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    match self.take_line(&bytes[at..]) {
                        Line::Partial if self.line_length > CHUNK_LINE_MAX => {
                            return Finding::BadBody(bytes.len() - 1);
                        }
                        Line::Partial => return Finding::Sound,
                        Line::BareFeed(offset) => return Finding::BadBody(at + offset),
                        Line::Whole { end } => {
                            if !self.chunk_line() {
                                return Finding::BadBody(at + end - 1);
                            }
                            at += end;
                        }
                    }
                }
            }
        }
        Finding::Sound
    }

    fn start_head(&mut self) {
        self.state = State::Head;
        self.line_length = 0;
        self.request_line = false;
        self.length = None;
        self.chunked = false;
        self.host = false;
    }

    /// Adds bytes to the line up to its line feed.
    fn take_line(&mut self, bytes: &[u8]) -> Line {
        let feed = memchr::memchr(b'\n', bytes);
        let end = feed.unwrap_or(bytes.len());
        let part = &bytes[..end];
        if self.line_length < LINE_KEPT {
            let kept = part.len().min(LINE_KEPT - self.line_length);
            self.line[self.line_length..self.line_length + kept].copy_from_slice(&part[..kept]);
        }
        self.line_length += part.len();
        if let Some(&last) = part.last() {
            self.last = last;
        }
        match feed {
            None => Line::Partial,
            Some(offset) if self.line_length == 0 || self.last != b'\r' => Line::BareFeed(offset),
            Some(offset) => Line::Whole { end: offset + 1 },
        }
    }

    /// What is kept of the whole line, and whether that is all of it without its `\r`.
    fn kept_line(&self) -> (&[u8], bool) {
        let content = self.line_length - 1;
        (&self.line[..content.min(LINE_KEPT)], content <= LINE_KEPT)
    }

    /// Judges a whole line of a head and makes ready for the next; false if it is bad.
    fn head_line(&mut self) -> bool {
        let (line, complete) = self.kept_line();
        if line.is_empty() {
            // Line ends before the request line are passed over (RFC 9112 2.2).
            if self.request_line {
                self.end_head();
            }
            self.line_length = 0;
            return true;
        }
        if !self.request_line {
            self.request_line = true;
            self.line_length = 0;
            return true;
        }
        // An obsolete fold: the line continues the one before.
        if matches!(line[0], b' ' | b'\t') {
            return false;
        }
        let first = self.length.is_none() && !self.chunked;
        let sound = match field(line) {
            Some(Field::ContentLength(value)) => {
                self.length = if complete { decimal(value) } else { None };
                first && self.length.is_some()
            }
            Some(Field::TransferEncoding(value)) => {
                let chunked = complete && value.eq_ignore_ascii_case(b"chunked");
                self.chunked = true;
                first && chunked
            }
            Some(Field::Host) => !std::mem::replace(&mut self.host, true),
            None => true,
        };
        self.line_length = 0;
        sound
    }

    fn end_head(&mut self) {
        self.heads += 1;
        self.state = match self.length {
            _ if self.chunked => State::ChunkSize,
            Some(length) if length > 0 => State::Length(length),
            _ => State::Between,
        };
    }

    /// Judges a whole line around chunks and makes ready for what follows; false if it is bad.
    fn chunk_line(&mut self) -> bool {
        let (line, _) = self.kept_line();
        let next = match self.state {
            State::ChunkSize => match chunk_size(line) {
                Some(0) => Some(State::Trailers),
                Some(size) => Some(State::ChunkData(size)),
                None => None,
            },
            State::ChunkEnd => line.is_empty().then_some(State::ChunkSize),
            _ if line.is_empty() => Some(State::Between),
            _ => Some(State::Trailers),
        };
        self.line_length = 0;
        match next {
            Some(next) => {
                self.state = next;
                true
            }
            None => false,
        }
    }
}

enum Line {
    /// No line feed yet.
    Partial,
    /// A line feed at this index without its carriage return.
    BareFeed(usize),
    /// A whole line, which ends before this index.
    Whole { end: usize },
}

enum Field<'a> {
    ContentLength(&'a [u8]),
    TransferEncoding(&'a [u8]),
    Host,
}

/// The field of a header line, if it bears on framing. A space before the colon is left to the
/// parser, which refuses it.
fn field(line: &[u8]) -> Option<Field<'_>> {
    const CONTENT_LENGTH: &[u8] = b"content-length";
    const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
    const HOST: &[u8] = b"host";
    let value = |name: &[u8]| {
        (line.len() > name.len()
            && line[name.len()] == b':'
            && line[..name.len()].eq_ignore_ascii_case(name))
        .then(|| trim(&line[name.len() + 1..]))
    };
    match line[0] | 0x20 {
        b'c' => value(CONTENT_LENGTH).map(Field::ContentLength),
        b't' => value(TRANSFER_ENCODING).map(Field::TransferEncoding),
        b'h' => value(HOST).map(|_| Field::Host),
        _ => None,
    }
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The size of a chunk; extensions are passed over (RFC 9112 7.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line
        .iter()
        .position(|&byte| byte == b';')
        .unwrap_or(line.len());
    let digits = trim(&line[..end]);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(sum << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The finding when the bytes arrive in pieces of `size`, counted from the start of them all.
    fn inspect(bytes: &[u8], size: usize) -> (Finding, Framing) {
        let mut framing = Framing::new();
        for (index, piece) in bytes.chunks(size).enumerate() {
            match framing.inspect(piece) {
                Finding::Sound => {}
                Finding::BadHead(at) => return (Finding::BadHead(index * size + at), framing),
                Finding::BadBody(at) => return (Finding::BadBody(index * size + at), framing),
            }
        }
        (Finding::Sound, framing)
    }

    #[test]
    fn sound_requests_pass_in_pieces_of_any_size() {
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "p".repeat(300),
            "v".repeat(500)
        );
        let requests = [
            "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-LENGTH:  5 \r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhe\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n",
            long.as_str(),
            "POST / HTTP/1.1\r\nTransfer-Encoding:chunked\r\n\r\n0\r\n\r\n",
        ];
        let bytes = requests.concat();
        for size in 1..=bytes.len() {
            let (finding, framing) = inspect(bytes.as_bytes(), size);
            assert_eq!(finding, Finding::Sound, "{size}");
            assert_eq!(framing.heads(), requests.len() as u64, "{size}");
            assert!(framing.is_between(), "{size}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_found_in_pieces_of_any_size() {
        // Each is sound up to its last byte.
        for bad in [
            "\n",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r\nHost: h\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\t\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +5\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n",
        ] {
            for size in 1..=bad.len() {
                let (finding, _) = inspect(bad.as_bytes(), size);
                assert_eq!(
                    finding,
                    Finding::BadHead(bad.len() - 1),
                    "{bad:?} by {size}"
                );
            }
        }
        for bad in [
            "5\n",
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "10000000000000000\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "0\r\nX: 1\n",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{bad}");
            for size in 1..=bytes.len() {
                let (finding, _) = inspect(bytes.as_bytes(), size);
                assert_eq!(
                    finding,
                    Finding::BadBody(bytes.len() - 1),
                    "{bad:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn a_chunks_line_may_not_go_on_for_ever() {
        let bytes = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;{}",
            "x".repeat(2 * CHUNK_LINE_MAX)
        );
        assert!(matches!(
            inspect(bytes.as_bytes(), 512).0,
            Finding::BadBody(_)
        ));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in "[a-c0-9:; \r\n]{0,40}(\r\n){0,2}(Content-Length: [0-9]{0,2}\r\n)?(Transfer-Encoding: chunked\r\n)?\r\n[0-9\r\n]{0,20}", size in 1usize..9) {
            let whole = inspect(bytes.as_bytes(), bytes.len().max(1));
            let pieces = inspect(bytes.as_bytes(), size);
            prop_assert_eq!(whole.0, pieces.0);
            prop_assert_eq!(whole.1.heads(), pieces.1.heads());
        }
    }
}
