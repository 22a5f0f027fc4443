//! The input of a call, which can be sent again as long as no runner has begun the call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use domain::ApiError;
use http_body::Body as _;
use nodekit::body::Body;
use nodekit::http_server::body_error_code;

/// A body whose beginning is kept until it is committed, up to a limit.
pub(crate) struct Input {
    body: Body,
    /// What was read since the beginning.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// The piece to hand out next.
    next: usize,
    keeping: Keeping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    UpTo(usize),
    /// More was read than may be kept.
    Lost,
    /// Nobody will ask again.
    Committed,
}

impl Input {
    /// Keeps at most `limit` bytes.
    pub(crate) fn new(body: Body, limit: usize) -> Self {
        Self {
            body,
            kept: Vec::new(),
            kept_bytes: 0,
            next: 0,
            keeping: Keeping::UpTo(limit),
        }
    }

    /// Whether the beginning is still there.
    pub(crate) fn can_rewind(&self) -> bool {
        matches!(self.keeping, Keeping::UpTo(_))
    }

    /// Starts again at the beginning, if that is still there; whether it is.
    pub(crate) fn rewind(&mut self) -> bool {
        self.next = 0;
        self.can_rewind()
    }

    /// A runner has begun the call: what is kept is for nobody.
    pub(crate) fn commit(&mut self) {
        self.kept.drain(..self.next);
        self.next = 0;
        self.keeping = Keeping::Committed;
    }

    /// Whether nothing is left to read; `false` if that is not known yet.
    pub(crate) fn is_over(&self) -> bool {
        self.next == self.kept.len() && self.body.is_end_stream()
    }

    /// The next piece, which is not empty.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ApiError>>> {
        if let Some(piece) = self.kept.get(self.next) {
            let piece = piece.clone();
            self.next += 1;
            return Poll::Ready(Some(Ok(piece)));
        }
        loop {
            if self.body.is_end_stream() {
                return Poll::Ready(None);
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            let frame =
                frame.map_err(|error| ApiError::from(body_error_code(&*error)).detail(error))?;
            // Trailers are no input.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if !piece.is_empty() {
                self.keep(&piece);
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        let Keeping::UpTo(limit) = self.keeping else {
            return;
        };
        if piece.len() > limit - self.kept_bytes {
            self.kept = Vec::new();
            self.next = 0;
            self.keeping = Keeping::Lost;
            return;
        }
        self.kept_bytes += piece.len();
        self.kept.push(piece.clone());
        self.next = self.kept.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    use http_body::Frame;
    use nodekit::body::{self, BodyError};

    fn input(pieces: &[&'static str], limit: usize) -> Input {
        let frames: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from(*piece))))
            .collect();
        let stream = futures_util::stream::iter(frames);
        Input::new(body::stream(http_body_util::StreamBody::new(stream)), limit)
    }

    async fn piece(input: &mut Input) -> Option<String> {
        let piece = poll_fn(|cx| input.poll_piece(cx)).await?;
        let piece = piece.expect("sound");
        Some(String::from_utf8_lossy(&piece).into_owned())
    }

    #[tokio::test]
    async fn what_was_read_is_read_again() {
        let mut input = input(&["ab", "", "cd", "ef"], 6);
        assert_eq!(piece(&mut input).await.as_deref(), Some("ab"));
        assert!(input.rewind());
        for expected in [Some("ab"), Some("cd"), Some("ef"), None] {
            assert_eq!(piece(&mut input).await.as_deref(), expected);
        }
        assert!(input.rewind());
        assert_eq!(piece(&mut input).await.as_deref(), Some("ab"));
    }

    #[tokio::test]
    async fn an_input_over_the_limit_is_read_once() {
        let mut input = input(&["ab", "cd"], 3);
        for expected in [Some("ab"), Some("cd"), None] {
            assert_eq!(piece(&mut input).await.as_deref(), expected);
        }
        assert!(!input.rewind());
    }

    #[tokio::test]
    async fn what_is_committed_is_not_kept() {
        let mut input = input(&["ab", "cd", "ef"], 100);
        assert_eq!(piece(&mut input).await.as_deref(), Some("ab"));
        assert_eq!(piece(&mut input).await.as_deref(), Some("cd"));
        assert!(input.rewind());
        assert_eq!(piece(&mut input).await.as_deref(), Some("ab"));
        input.commit();
        assert_eq!(input.kept.len(), 1, "cd was not sent to this runner yet");
        assert_eq!(piece(&mut input).await.as_deref(), Some("cd"));
        assert_eq!(piece(&mut input).await.as_deref(), Some("ef"));
        assert!(!input.rewind());
    }
}
