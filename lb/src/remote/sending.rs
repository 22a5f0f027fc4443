//! The sending half of a call: `TryCall`, then the input in frames, as fast as the runner takes them.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use domain::ApiError;
use h2::SendStream;
use proto::runner::{ClientMsg, DataFrame, client_msg};

use super::input::Input;
use super::message;

/// The longest piece of a body in one message (spec/08 8.3).
const MAX_FRAME_BYTES: usize = 10_240;

/// How much is encoded before it is handed to the connection.
const BATCH_BYTES: usize = 16 << 10;

/// The sending half.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: SendStream<Bytes>,
    /// Encoded, and not yet with the connection.
    encoded: BytesMut,
    /// What is left of the piece that is being encoded.
    piece: Bytes,
    begun: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The last frame is encoded.
    LastEncoded,
    /// Everything was sent, or the peer does not want the rest; what it says tells why.
    Over,
}

impl Sending {
    /// Begins with `first`, which is an encoded `TryCall`.
    pub(crate) fn new(stream: SendStream<Bytes>, first: &Bytes) -> Self {
        Self {
            stream,
            encoded: BytesMut::from(first.as_ref()),
            piece: Bytes::new(),
            begun: false,
            state: State::Reading,
        }
    }

    /// Whether any byte of the call was handed to the connection.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Sends what can be sent now.
    ///
    /// # Errors
    /// The client's input broke: the call must be given up.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Input,
    ) -> Poll<Result<(), ApiError>> {
        while self.state != State::Over {
            self.encode(cx, input)?;
            if self.encoded.is_empty() {
                return Poll::Pending;
            }
            let Some(capacity) = ready!(self.poll_capacity(cx)) else {
                self.state = State::Over;
                break;
            };
            let part = self.encoded.split_to(capacity.min(self.encoded.len()));
            let last = self.state == State::LastEncoded && self.encoded.is_empty();
            self.begun = true;
            // A stream that the peer has closed takes nothing; the receiving half knows why.
            let sent = self.stream.send_data(part.freeze(), last);
            if last || sent.is_err() {
                self.state = State::Over;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Encodes input that is there, a batch at most.
    fn encode(&mut self, cx: &mut Context<'_>, input: &mut Input) -> Result<(), ApiError> {
        while self.state == State::Reading && self.encoded.len() < BATCH_BYTES {
            if self.piece.is_empty() {
                match input.poll_piece(cx) {
                    Poll::Ready(Some(piece)) => self.piece = piece?,
                    Poll::Ready(None) => {
                        self.encode_frame(Bytes::new(), true);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            let length = self.piece.len().min(MAX_FRAME_BYTES);
            let data = self.piece.split_to(length);
            let eof = self.piece.is_empty() && input.is_over();
            self.encode_frame(data, eof);
        }
        Ok(())
    }

    fn encode_frame(&mut self, data: Bytes, eof: bool) {
        let body = client_msg::Body::Data(DataFrame { data, eof });
        message::encode(&ClientMsg { body: Some(body) }, &mut self.encoded);
        if eof {
            self.state = State::LastEncoded;
        }
    }

    /// How many bytes the peer takes; none if it takes no more at all.
    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(self.encoded.len());
        loop {
            match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(None),
                },
                capacity => return Poll::Ready(Some(capacity)),
            }
        }
    }
}
