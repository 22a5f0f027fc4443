//! What a handler answers.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use crate::context::{Intent, TRIGGER_PREFIX};
use crate::error::Error;
use crate::streaming::{BodyError, StreamingBody, Writer};

/// The answer to a call. Anything that is `Into<Response>` may be returned by a handler: text and
/// bytes are.
///
/// Status and headers reach the client of an HTTP trigger as they are set here; `/invoke` always
/// answers 200 and passes the headers.
///
/// ```
/// use hearth_fdk::{Response, http::StatusCode};
/// # fn main() -> Result<(), hearth_fdk::Error> {
/// let made = Response::json(&["a", "b"])?.status(StatusCode::CREATED).header("location", "/things/1")?;
/// # Ok(()) }
/// ```
pub struct Response {
    status: Option<StatusCode>,
    headers: HeaderMap,
    payload: Payload,
}

impl Response {
    fn new(payload: Payload, content_type: Option<HeaderValue>) -> Self {
        let mut headers = HeaderMap::with_capacity(3);
        headers.extend(content_type.map(|value| (CONTENT_TYPE, value)));
        Self {
            status: None,
            headers,
            payload,
        }
    }

    /// Nothing: no body and no content type.
    pub fn empty() -> Self {
        Self::new(Payload::Whole(Bytes::new()), None)
    }

    /// Text, as `text/plain; charset=utf-8`.
    pub fn text(text: impl Into<String>) -> Self {
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        Self::new(Payload::Whole(text.into().into()), Some(kind))
    }

    /// Bytes, as `application/octet-stream`.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let kind = HeaderValue::from_static("application/octet-stream");
        Self::new(Payload::Whole(bytes.into()), Some(kind))
    }

    /// JSON, as `application/json`.
    ///
    /// # Errors
    /// [`Error::Json`] when `value` cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let kind = HeaderValue::from_static("application/json");
        let text = serde_json::to_vec(value)?;
        Ok(Self::new(Payload::Whole(text.into()), Some(kind)))
    }

    /// An answer that `write` produces while it is sent. When `write` fails, the connection is
    /// closed in the middle of the answer, so that the client does not take it for whole. The
    /// platform ends the stream at the call's deadline.
    ///
    /// ```
    /// use hearth_fdk::{Error, Response};
    /// let answer = Response::streaming(|mut writer| async move {
    ///     for line in ["one\n", "two\n"] {
    ///         writer.write(line).await?;
    ///     }
    ///     Ok::<_, Error>(())
    /// });
    /// ```
    pub fn streaming<W, F, E>(write: W) -> Self
    where
        W: FnOnce(Writer) -> F,
        F: Future<Output = Result<(), E>> + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let written = |writer| {
            let future = write(writer);
            async { future.await.map_err(Into::into) }
        };
        Self::new(Payload::Stream(Box::pin(StreamingBody::new(written))), None)
    }

    /// Any other body, such as the call's own.
    pub fn body<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self::new(Payload::Stream(Box::pin(Mapped(Box::pin(body)))), None)
    }

    /// The status for the client of an HTTP trigger: 200 to 599, else the call fails with 502.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Replaces the content type.
    ///
    /// # Errors
    /// [`Error::InvalidHeaderValue`]
    pub fn content_type(self, value: impl TryInto<HeaderValue>) -> Result<Self, Error> {
        self.header(CONTENT_TYPE, value)
    }

    /// Adds a header; `content-type` is replaced. A value may have any byte but control characters.
    ///
    /// # Errors
    /// [`Error::InvalidHeaderName`], [`Error::InvalidHeaderValue`], and [`Error::ReservedHeader`]
    /// for headers of the connection and for `content-length`.
    pub fn header<N>(mut self, name: N, value: impl TryInto<HeaderValue>) -> Result<Self, Error>
    where
        N: TryInto<HeaderName> + AsRef<[u8]>,
    {
        let shown = String::from_utf8_lossy(name.as_ref()).into_owned();
        let name = name
            .try_into()
            .map_err(|_| Error::InvalidHeaderName(shown))?;
        if is_reserved(&name) {
            return Err(Error::ReservedHeader(name));
        }
        match value.try_into() {
            Err(_) => return Err(Error::InvalidHeaderValue(name)),
            Ok(value) if name == CONTENT_TYPE => drop(self.headers.insert(name, value)),
            Ok(value) => drop(self.headers.append(name, value)),
        }
        Ok(self)
    }

    /// Puts the answer into the form of the contract (spec/03 3.1): always 200, the function's own
    /// status in `Fn-Http-Status`, and for an HTTP trigger its headers behind `Fn-Http-H-`.
    ///
    /// # Errors
    /// The status, when no client could be answered with it.
    pub(crate) fn render(self, intent: Intent) -> Result<(HeaderMap, Payload), StatusCode> {
        let mut headers = match intent {
            Intent::Invoke => self.headers,
            Intent::HttpRequest => wrap(self.headers),
        };
        if let Some(status) = self.status {
            if !(200..=599).contains(&status.as_u16()) {
                return Err(status);
            }
            headers.insert("fn-http-status", HeaderValue::from(status.as_u16()));
        }
        Ok((headers, self.payload))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Response");
        shown
            .field("status", &self.status)
            .field("headers", &self.headers);
        shown.finish_non_exhaustive()
    }
}

impl From<()> for Response {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl From<String> for Response {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Response {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<Bytes> for Response {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Vec<u8>> for Response {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

fn is_reserved(name: &HeaderName) -> bool {
    let standard = [
        CONNECTION,
        CONTENT_LENGTH,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    standard.contains(name) || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

fn wrap(headers: HeaderMap) -> HeaderMap {
    let mut wrapped = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in &headers {
        let name = if name == CONTENT_TYPE {
            Some(CONTENT_TYPE)
        } else {
            // Only a name of nearly 64 KiB does not fit behind the prefix.
            HeaderName::try_from(format!("{TRIGGER_PREFIX}{name}")).ok()
        };
        if let Some(name) = name {
            wrapped.append(name, value.clone());
        }
    }
    wrapped
}

/// An answer's body.
pub(crate) enum Payload {
    Whole(Bytes),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>),
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// A body with its errors boxed.
struct Mapped<B>(Pin<Box<B>>);

impl<B> http_body::Body for Mapped<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.0.as_mut().poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_call_gets_headers_as_they_are() {
        let answer = Response::text("x")
            .status(StatusCode::CREATED)
            .header("X-A", "1")
            .unwrap();
        let (headers, _) = answer.render(Intent::Invoke).unwrap();
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(
            (&headers["x-a"], &headers["fn-http-status"]),
            (&"1".parse().unwrap(), &"201".parse().unwrap())
        );
    }

    #[test]
    fn a_trigger_call_gets_them_behind_the_prefix() {
        let answer = Response::empty().header("set-cookie", "a").unwrap();
        let answer = answer.header("set-cookie", "b").unwrap();
        let answer = answer
            .content_type("a/b")
            .unwrap()
            .content_type("c/d")
            .unwrap();
        let (headers, _) = answer.render(Intent::HttpRequest).unwrap();
        let cookies: Vec<_> = headers.get_all("fn-http-h-set-cookie").iter().collect();
        assert_eq!(cookies, ["a", "b"]);
        assert_eq!(headers["content-type"], "c/d");
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn headers_that_are_none_are_refused() {
        let header = |name: &'static str, value: &'static str| {
            Response::empty()
                .header(name, value)
                .unwrap_err()
                .to_string()
        };
        assert!(header("a b", "").contains("\"a b\""));
        assert!(header("x-a", "one\r\ntwo").contains("x-a"));
        for reserved in [
            "Content-Length",
            "Connection",
            "Keep-Alive",
            "transfer-encoding",
        ] {
            assert!(header(reserved, "1").contains("belongs to the connection"));
        }
    }

    #[test]
    fn a_status_that_no_client_can_get_is_refused() {
        for status in [100, 199, 600, 999] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Response::empty().status(status);
            assert_eq!(answer.render(Intent::HttpRequest).err(), Some(status));
        }
        for status in [StatusCode::OK, StatusCode::IM_A_TEAPOT] {
            assert!(
                Response::empty()
                    .status(status)
                    .render(Intent::HttpRequest)
                    .is_ok()
            );
        }
    }
}
