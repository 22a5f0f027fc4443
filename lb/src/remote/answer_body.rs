//! The body of an answer that streams: what the runner sends, as the client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use nodekit::body::BodyError;

use super::conversation::{Conversation, End, Event};

/// The body. It ends well only if the runner says that the call went well; dropping it before
/// cancels the call.
pub(crate) struct AnswerBody {
    /// What was read before, in the opposite order.
    begun: Vec<Bytes>,
    conversation: Option<Box<Conversation>>,
}

impl AnswerBody {
    /// Goes on after `begun`.
    pub(crate) fn new(mut begun: Vec<Bytes>, conversation: Box<Conversation>) -> Self {
        begun.reverse();
        Self {
            begun,
            conversation: Some(conversation),
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.begun.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(conversation) = &mut self.conversation else {
            return Poll::Ready(None);
        };
        let end = loop {
            match ready!(conversation.poll_event(cx)) {
                // There is one start, and it was read.
                Event::Start(_) => {}
                Event::Data(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Event::End(end) => break end,
            }
        };
        self.conversation = None;
        Poll::Ready(match end {
            End::Done(_) => None,
            End::Failed(error) => Some(Err(error.into())),
            End::NotPlaced(_) => Some(Err("the runner gave back a call that it had begun".into())),
        })
    }
}
