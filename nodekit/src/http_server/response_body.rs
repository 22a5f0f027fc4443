//! An answer's body: the service's own, or one that the listener made.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::connection::Busy;
use crate::body::BodyError;

pin_project! {
    /// The body of an answer. While it lives its connection counts as busy.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        content: Content<B>,
        busy: Busy,
    }
}

pin_project! {
    #[project = ContentProjection]
    #[derive(Debug)]
    enum Content<B> {
        Service { #[pin] body: B },
        Own { #[pin] body: Full<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn service(body: B, busy: Busy) -> Self {
        Self {
            content: Content::Service { body },
            busy,
        }
    }

    pub(super) fn own(bytes: Bytes, busy: Busy) -> Self {
        Self {
            content: Content::Own {
                body: Full::new(bytes),
            },
            busy,
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BodyError>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().content.project() {
            ContentProjection::Service { body } => body.poll_frame(cx).map_err(Into::into),
            ContentProjection::Own { body } => body.poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Service { body } => body.is_end_stream(),
            Content::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Service { body } => body.size_hint(),
            Content::Own { body } => body.size_hint(),
        }
    }
}
