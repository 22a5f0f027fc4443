//! The content type of an answer that tells none (spec/01 1.8, spec/13 13.1).
//!
//! The original's HTTP library guesses from the first bytes. Here the guess is only text or not: a
//! guess of HTML would turn whatever a function echoes into something that a browser executes. The
//! guess needs the first piece of the body, so the head of such an answer waits for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body, BodyError};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// How much of the body the guess looks at.
const LOOK_AT_BYTES: usize = 512;

/// Adds a guessed content type to `headers` when there is none and the body is not empty.
///
/// # Errors
/// That of a body which breaks before its first piece.
pub(super) async fn complete(headers: &mut HeaderMap, mut body: Body) -> Result<Body, BodyError> {
    if headers.contains_key(CONTENT_TYPE) || body.is_end_stream() {
        return Ok(body);
    }
    let Some(first) = body.frame().await.transpose()? else {
        return Ok(body::empty());
    };
    if let Some(data) = first.data_ref()
        && !data.is_empty()
    {
        headers.insert(CONTENT_TYPE, guess(data));
    }
    Ok(body::stream(Resumed {
        first: Some(first),
        rest: body,
    }))
}

/// A body of which a piece was read already.
pub(super) fn resume(first: Bytes, rest: Body) -> Body {
    body::stream(Resumed {
        first: Some(Frame::data(first)),
        rest,
    })
}

/// Text unless there are bytes that text does not have, by the original's rule.
fn guess(data: &[u8]) -> HeaderValue {
    let start = &data[..data.len().min(LOOK_AT_BYTES)];
    let binary = |byte: &u8| matches!(byte, 0x00..=0x08 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1F);
    if start.iter().any(binary) {
        BINARY
    } else {
        TEXT
    }
}

/// A body whose first piece was already read.
struct Resumed {
    first: Option<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref);
        let first = first.map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        // The upper bound first: a lower bound may not be above it.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint.set_lower(rest.lower().saturating_add(first));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;

    async fn completed(
        told: Option<&'static str>,
        body: Body,
    ) -> (Option<String>, SizeHint, Bytes) {
        let mut headers = HeaderMap::new();
        if let Some(told) = told {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(told));
        }
        let body = complete(&mut headers, body).await.expect("a whole body");
        let told = headers.get(CONTENT_TYPE);
        let told = told.map(|told| told.to_str().expect("ASCII").to_owned());
        let hint = body.size_hint();
        (
            told,
            hint,
            body.collect().await.expect("a whole body").to_bytes(),
        )
    }

    #[tokio::test]
    async fn only_a_body_without_a_type_is_guessed() {
        let rows: [(Option<&'static str>, &'static [u8], Option<&str>); 6] = [
            (None, b"", None),
            (None, b"h\xc3\xa4\n\x1b", Some("text/plain; charset=utf-8")),
            (None, b"<html>", Some("text/plain; charset=utf-8")),
            (None, b"a\0", Some("application/octet-stream")),
            (None, b"\x1f\x8b", Some("application/octet-stream")),
            (Some("foo/bar"), b"a\0", Some("foo/bar")),
        ];
        for (told, data, expected) in rows {
            let (found, hint, bytes) = completed(told, body::full(data)).await;
            assert_eq!(found.as_deref(), expected, "{data:?}");
            assert_eq!(hint.exact(), Some(data.len() as u64));
            assert_eq!(&bytes[..], data);
        }
    }

    #[tokio::test]
    async fn a_stream_is_passed_on_whole() {
        let pieces = [&b"ab"[..], b"c", b""]
            .map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from(piece))));
        let stream = StreamBody::new(futures_util::stream::iter(pieces));
        let (found, hint, bytes) = completed(None, body::stream(stream)).await;
        assert_eq!(found.as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!((hint.lower(), hint.upper()), (2, None));
        assert_eq!(&bytes[..], b"abc");
    }

    #[tokio::test]
    async fn a_body_that_breaks_at_once_is_an_error() {
        let broken = [Err::<Frame<Bytes>, BodyError>("broken".into())];
        let stream = body::stream(StreamBody::new(futures_util::stream::iter(broken)));
        let error = complete(&mut HeaderMap::new(), stream).await;
        assert_eq!(error.expect_err("broken").to_string(), "broken");
    }
}
