//! An answer that is written while it is sent.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use crate::error::Error;

/// Boxed as hyper wants it.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The writing end of [`Response::streaming`](crate::Response::streaming).
#[derive(Debug)]
pub struct Writer(mpsc::Sender<Bytes>);

impl Writer {
    /// Sends a piece, and waits until the one before it was taken: a slow reader slows the writer
    /// down, and no more than two pieces are in memory.
    ///
    /// # Errors
    /// [`Error::Closed`] when nobody reads any more.
    pub async fn write(&mut self, data: impl Into<Bytes>) -> Result<(), Error> {
        self.0.send(data.into()).await.map_err(|_| Error::Closed)
    }
}

type Writing = Pin<Box<dyn Future<Output = Result<(), BodyError>>>>;

/// The writer's future and the pieces that it has made. The future runs only while the body is
/// asked for more, so it ends with the connection.
pub(crate) struct StreamingBody {
    future: Option<Writing>,
    chunks: mpsc::Receiver<Bytes>,
}

impl StreamingBody {
    pub(crate) fn new<F>(write: impl FnOnce(Writer) -> F) -> Self
    where
        F: Future<Output = Result<(), BodyError>> + 'static,
    {
        let (sender, chunks) = mpsc::channel(1);
        let future = Some(Box::pin(write(Writer(sender))) as Writing);
        Self { future, chunks }
    }
}

impl http_body::Body for StreamingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // A piece that waits is taken first, which makes room for the next one.
        if let Poll::Ready(Some(chunk)) = self.chunks.poll_recv(cx) {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(future) = &mut self.future
            && let Poll::Ready(done) = future.as_mut().poll(cx)
        {
            self.future = None;
            if let Err(error) = done {
                return Poll::Ready(Some(Err(error)));
            }
        }
        self.chunks
            .poll_recv(cx)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_order_and_then_the_end() {
        let body = StreamingBody::new(|mut writer| async move {
            for piece in ["a", "b", "c"] {
                writer.write(piece).await?;
                tokio::task::yield_now().await;
            }
            Ok(())
        });
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }

    #[tokio::test]
    async fn a_failing_writer_is_an_error_and_not_an_end() {
        let body = StreamingBody::new(|mut writer| async move {
            writer.write("a").await?;
            Err("broken".into())
        });
        assert_eq!(body.collect().await.unwrap_err().to_string(), "broken");
    }

    #[tokio::test]
    async fn the_writer_waits_for_its_reader() {
        let (seen, mut written) = mpsc::unbounded_channel();
        let mut body = StreamingBody::new(|mut writer| async move {
            for number in 0..10 {
                writer.write("x").await?;
                let _ = seen.send(number);
            }
            Ok(())
        });
        body.frame().await.unwrap().unwrap();
        let ahead = std::iter::from_fn(|| written.try_recv().ok()).count();
        assert!(ahead <= 2, "{ahead} pieces ahead of the reader");
    }
}
