//! The body of a call.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The body of a call, read as it arrives: at most a few chunks are in memory at once.
///
/// Read it whole with [`bytes`](Body::bytes), [`text`](Body::text) or [`json`](Body::json), or piece
/// by piece with [`chunk`](Body::chunk). It is also an [`http_body::Body`], so it can be handed to
/// [`Response::body`](crate::Response::body). What a handler leaves unread is discarded.
#[derive(Debug)]
pub struct Body {
    /// `None` once the end was seen.
    incoming: Option<Incoming>,
    unread: Unread,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, unread: Unread) -> Self {
        unread.open();
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        Self { incoming, unread }
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// [`Error::ReadBody`] when the platform ended the request early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
        {
            if let Ok(data) = frame?.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body. Its size is limited by the platform (`FN_MAX_REQUEST_SIZE`) and by the memory
    /// of the function.
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.chunk().await? else {
            return Ok(first);
        };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// The whole body as text.
    ///
    /// # Errors
    /// As [`Body::chunk`], and [`Error::NotText`] when it is not UTF-8.
    pub async fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes().await?.into()).map_err(|_| Error::NotText)
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// As [`Body::chunk`], and [`Error::Json`] when it is not the JSON that `T` wants.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.bytes().await?)?)
    }

    /// As [`json`](Body::json), with `None` for an empty body.
    ///
    /// # Errors
    /// As [`Body::json`].
    pub async fn json_or_none<T: DeserializeOwned>(self) -> Result<Option<T>, Error> {
        let bytes = self.bytes().await?;
        let value = (!bytes.is_empty()).then(|| serde_json::from_slice(&bytes));
        Ok(value.transpose()?)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || incoming.is_end_stream() {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| Error::ReadBody(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let known = self.incoming.as_ref().map(http_body::Body::size_hint);
        known.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.unread.put(incoming);
        }
    }
}

/// Where a dropped [`Body`] leaves what nobody read. It must be discarded before the answer is sent:
/// hyper closes a connection whose request was not read to its end, even when all that is missing
/// is the last chunk's mark, and the platform would have to connect again for each call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    /// Off while an answer is sent: a rest that turns up only then is dropped, because hyper would
    /// wait for somebody to read it.
    open: bool,
    incoming: Option<Incoming>,
}

impl Unread {
    /// Begins a call.
    fn open(&self) {
        self.slot().open = true;
    }

    fn put(&self, incoming: Incoming) {
        let mut slot = self.slot();
        if slot.open {
            slot.incoming = Some(incoming);
        }
    }

    /// Reads on to the end, or to the first error.
    pub(crate) async fn discard(&self) {
        let left = std::mem::take(&mut *self.slot()).incoming;
        let Some(mut incoming) = left else {
            return;
        };
        std::future::poll_fn(|cx| {
            while let Some(Ok(_)) = ready!(Pin::new(&mut incoming).poll_frame(cx)) {}
            Poll::Ready(())
        })
        .await;
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
