//! gRPC's frames: a byte that says whether a message is compressed, four that give its length, and
//! the message.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

const PREFIX_BYTES: usize = 5;

/// The longest message that is taken; what gRPC libraries take by default.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Appends `message` to what is to be sent.
pub(crate) fn encode(message: &impl Message, buffer: &mut BytesMut) {
    encode_prefix(message.encoded_len(), buffer);
    message.encode_raw(buffer);
}

/// Appends what comes before a message of this length, and makes room for that.
pub(crate) fn encode_prefix(length: usize, buffer: &mut BytesMut) {
    buffer.reserve(PREFIX_BYTES + length);
    buffer.put_u8(0);
    // Our own messages are far from four gigabytes.
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// What is wrong with the bytes of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a message is compressed, which was not agreed on")]
    Compressed,
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    #[error("the stream ended within a message")]
    Cut,
}

/// Finds messages in pieces of a stream. A message that came in one piece is not copied.
#[derive(Debug, Default)]
pub(crate) struct Unframer {
    piece: Bytes,
    /// The beginning of a message whose rest is yet to come; `piece` is empty then.
    begun: BytesMut,
}

impl Unframer {
    /// Takes the next piece in; only when [`next`](Self::next) has none left.
    pub(crate) fn put(&mut self, piece: Bytes) {
        if self.begun.is_empty() {
            self.piece = piece;
        } else {
            self.begun.extend_from_slice(&piece);
        }
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let held = if self.begun.is_empty() {
            &self.piece[..]
        } else {
            &self.begun[..]
        };
        let Some(length) = whole_length(held)? else {
            if self.begun.is_empty() {
                self.begun.extend_from_slice(&self.piece);
                self.piece = Bytes::new();
            }
            return Ok(None);
        };
        if !self.begun.is_empty() {
            self.piece = std::mem::take(&mut self.begun).freeze();
        }
        let mut message = self.piece.split_to(length);
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }

    /// Checks that nothing is left at the end of the stream.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        match self.begun.is_empty() && self.piece.is_empty() {
            true => Ok(()),
            false => Err(FrameError::Cut),
        }
    }
}

/// The length of the first message with its prefix, if all of it is in `held`.
fn whole_length(held: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some((prefix, rest)) = held.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(FrameError::Compressed);
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(FrameError::TooLong(length));
    }
    Ok((rest.len() >= length).then_some(PREFIX_BYTES + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::runner::DataFrame;

    proptest! {
        #[test]
        fn messages_survive_any_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(1usize..30, 1..20),
        ) {
            let mut wire = BytesMut::new();
            for body in &bodies {
                encode(&DataFrame { data: body.clone().into(), eof: true }, &mut wire);
            }
            let mut wire = wire.freeze();
            let (mut unframer, mut read) = (Unframer::default(), Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            while !wire.is_empty() {
                let cut = cuts.next().unwrap_or(1).min(wire.len());
                unframer.put(wire.split_to(cut));
                while let Some(message) = unframer.next().expect("sound") {
                    read.push(DataFrame::decode(message).expect("a frame").data.to_vec());
                }
            }
            prop_assert_eq!(unframer.end(), Ok(()));
            prop_assert_eq!(read, bodies);
        }
    }

    #[test]
    fn what_no_peer_may_send_is_refused() {
        let next = |bytes: &'static [u8]| {
            let mut unframer = Unframer::default();
            unframer.put(Bytes::from_static(bytes));
            unframer.next()
        };
        assert_eq!(next(&[1, 0, 0, 0, 0]), Err(FrameError::Compressed));
        assert_eq!(
            next(&[0, 0xff, 0, 0, 0]),
            Err(FrameError::TooLong(0xff00_0000))
        );
        let mut unframer = Unframer::default();
        unframer.put(Bytes::from_static(&[0, 0, 0, 0, 2, 1]));
        assert_eq!(unframer.next(), Ok(None));
        assert_eq!(unframer.end(), Err(FrameError::Cut));
    }
}
