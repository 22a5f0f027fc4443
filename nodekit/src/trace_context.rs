//! W3C Trace Context: taking part in a caller's trace, and passing it on to the function.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries a trace.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header that carries what vendors say of a trace; it is passed on as it is.
pub static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 1;

/// One span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceContext {
    /// The first span of a new, sampled trace.
    pub fn root(mut random: impl FnMut() -> u64) -> Self {
        Self {
            trace_id: u128::from(nonzero(&mut random)) << 64 | u128::from(random()),
            span_id: nonzero(&mut random),
            flags: SAMPLED,
        }
    }

    /// A span below this one.
    pub fn child(&self, mut random: impl FnMut() -> u64) -> Self {
        Self {
            span_id: nonzero(&mut random),
            ..*self
        }
    }

    /// Reads a `traceparent`. Versions that are not known yet are read as far as they are
    /// compatible.
    pub fn parse(value: &[u8]) -> Option<Self> {
        const LENGTH: usize = 55;
        let (known, more) = value.split_at_checked(LENGTH)?;
        let version = hex(&known[..2])?;
        let extended = version != 0 && more.first() == Some(&b'-');
        if version == 0xff || !(more.is_empty() || extended) {
            return None;
        }
        if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
            return None;
        }
        let context = Self {
            trace_id: hex(&known[3..35])?,
            span_id: u64::try_from(hex(&known[36..52])?).ok()?,
            flags: u8::try_from(hex(&known[53..55])?).ok()?,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// The value of `traceparent` that names this span.
    pub fn header_value(&self) -> HeaderValue {
        let mut text = String::with_capacity(55);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        );
        HeaderValue::try_from(text).expect("hexadecimal digits and dashes are a header value")
    }

    /// The id of the trace, 32 hexadecimal digits in logs.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The id of the span, 16 hexadecimal digits in logs.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether the caller records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Puts a span of ours into the headers of a request: below the caller's, or the first of a new
/// trace when the caller sent none that can be read; then its `tracestate` goes too.
pub fn continue_trace(headers: &mut HeaderMap, random: impl FnMut() -> u64) -> TraceContext {
    let mut sent = headers.get_all(&TRACEPARENT).iter();
    let parent = match (sent.next(), sent.next()) {
        (Some(only), None) => TraceContext::parse(only.as_bytes()),
        _ => None,
    };
    let span = match parent {
        Some(parent) => parent.child(random),
        None => {
            headers.remove(&TRACESTATE);
            TraceContext::root(random)
        }
    };
    headers.insert(TRACEPARENT.clone(), span.header_value());
    span
}

/// Zero is not an id.
fn nonzero(random: &mut impl FnMut() -> u64) -> u64 {
    random().max(1)
}

/// Lower-case hexadecimal digits, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |sum: u128, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(fields: &[(&HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append((*name).clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_callers_trace_goes_on_below_its_span() {
        let mut sent = headers(&[
            (&TRACEPARENT, SENT),
            (&TRACESTATE, "a=1"),
            (&TRACESTATE, "b=2"),
        ]);
        let span = continue_trace(&mut sent, || 7);
        assert_eq!(
            sent[&TRACEPARENT],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01"
        );
        assert!(span.is_sampled());
        assert_eq!(sent.get_all(&TRACESTATE).iter().count(), 2);
    }

    #[test]
    fn no_trace_two_traces_and_a_bad_one_begin_anew() {
        let bad = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0";
        for fields in [
            &[(&TRACESTATE, "a=1")][..],
            &[
                (&TRACEPARENT, SENT),
                (&TRACEPARENT, SENT),
                (&TRACESTATE, "a=1"),
            ],
            &[(&TRACEPARENT, bad), (&TRACESTATE, "a=1")],
        ] {
            let mut sent = headers(fields);
            continue_trace(&mut sent, || 0);
            assert_eq!(
                sent.get_all(&TRACEPARENT).iter().collect::<Vec<_>>(),
                ["00-00000000000000010000000000000000-0000000000000001-01"]
            );
            assert!(!sent.contains_key(&TRACESTATE));
        }
    }

    #[test]
    fn only_what_the_standard_allows_is_read() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let zero = "00000000000000000000000000000000";
        for (text, good) in [
            (SENT.to_owned(), true),
            (format!("00-{id}-00f067aa0ba902b7-00"), true),
            (format!("01-{id}-00f067aa0ba902b7-01"), true),
            (format!("01-{id}-00f067aa0ba902b7-01-more"), true),
            (format!("01-{id}-00f067aa0ba902b7-01more"), false),
            (format!("00-{id}-00f067aa0ba902b7-01-more"), false),
            (format!("ff-{id}-00f067aa0ba902b7-01"), false),
            (format!("00-{zero}-00f067aa0ba902b7-01"), false),
            (format!("00-{id}-0000000000000000-01"), false),
            (SENT.to_uppercase(), false),
            (SENT.replace('-', "_"), false),
            (format!(" {SENT}"), false),
            (String::new(), false),
        ] {
            assert_eq!(
                TraceContext::parse(text.as_bytes()).is_some(),
                good,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(a: u64, b: u64, c: u64) {
            let mut numbers = [a, b, c].into_iter().cycle();
            let context = TraceContext::root(|| numbers.next().expect("endless"));
            prop_assert_eq!(TraceContext::parse(context.header_value().as_bytes()), Some(context));
        }

        #[test]
        fn no_bytes_upset_the_parser(bytes: Vec<u8>) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
