//! The messages of `Carry` as bytes. `Begin`, which each call has, is written without being put
//! together first.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use proto::runner_extension::{Cancel, CarryIn, Credit, Piece, carry_in};

use crate::remote::message;

/// Fields of `CarryIn` (proto/runner_extension.proto).
const CALL: u32 = 1;
const BEGIN: u32 = 2;

/// What begins a call.
#[derive(Debug)]
pub(super) struct Begin<'a> {
    /// Empty if the function is known on the stream.
    pub(super) function_json: &'a [u8],
    pub(super) slot_key: &'a [u8],
    pub(super) id: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) detached: bool,
    /// 0 is no limit.
    pub(super) wait_nanos: u64,
    pub(super) data: &'a [u8],
    pub(super) eof: bool,
}

impl Begin<'_> {
    /// Appends it as the beginning of `call`.
    pub(super) fn encode(&self, call: u64, buffer: &mut BytesMut) {
        let length = self.length();
        let all = varint_length(call) + 1 + encoded_len_varint(length as u64) + length;
        message::encode_prefix(all, buffer);
        put_varint(CALL, call, buffer);
        encode_key(BEGIN, WireType::LengthDelimited, buffer);
        encode_varint(length as u64, buffer);
        put_bytes(1, self.function_json, buffer);
        put_bytes(2, self.slot_key, buffer);
        put_bytes(3, self.id.as_bytes(), buffer);
        for (name, value) in self.headers {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            encode_key(4, WireType::LengthDelimited, buffer);
            let length = bytes_length(name) + bytes_length(value);
            encode_varint(length as u64, buffer);
            put_bytes(1, name, buffer);
            put_bytes(2, value, buffer);
        }
        put_varint(5, self.detached.into(), buffer);
        put_varint(6, self.wait_nanos, buffer);
        put_bytes(7, self.data, buffer);
        put_varint(8, self.eof.into(), buffer);
    }

    fn length(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| {
            let length = bytes_length(name.as_str().as_bytes()) + bytes_length(value.as_bytes());
            1 + encoded_len_varint(length as u64) + length
        });
        bytes_length(self.function_json)
            + bytes_length(self.slot_key)
            + bytes_length(self.id.as_bytes())
            + headers.sum::<usize>()
            + varint_length(self.detached.into())
            + varint_length(self.wait_nanos)
            + bytes_length(self.data)
            + varint_length(self.eof.into())
    }
}

// Tags below 16 are one byte, and what is empty is left out.

fn bytes_length(bytes: &[u8]) -> usize {
    match bytes.len() {
        0 => 0,
        length => 1 + encoded_len_varint(length as u64) + length,
    }
}

fn put_bytes(tag: u32, bytes: &[u8], buffer: &mut BytesMut) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, buffer);
        encode_varint(bytes.len() as u64, buffer);
        buffer.put_slice(bytes);
    }
}

fn varint_length(number: u64) -> usize {
    match number {
        0 => 0,
        number => 1 + encoded_len_varint(number),
    }
}

fn put_varint(tag: u32, number: u64, buffer: &mut BytesMut) {
    if number != 0 {
        encode_key(tag, WireType::Varint, buffer);
        encode_varint(number, buffer);
    }
}

/// Appends a piece of a call's input.
pub(super) fn encode_piece(call: u64, data: Bytes, eof: bool, buffer: &mut BytesMut) {
    encode(call, carry_in::Body::Piece(Piece { data, eof }), buffer);
}

/// Appends that nobody waits for `call` any more.
pub(super) fn encode_cancel(call: u64, buffer: &mut BytesMut) {
    encode(call, carry_in::Body::Cancel(Cancel {}), buffer);
}

/// Appends that so much more of a call's output can be taken.
pub(super) fn encode_credit(call: u64, bytes: u64, buffer: &mut BytesMut) {
    encode(call, carry_in::Body::Credit(Credit { bytes }), buffer);
}

fn encode(call: u64, body: carry_in::Body, buffer: &mut BytesMut) {
    let body = Some(body);
    message::encode(&CarryIn { call, body }, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use prost::Message as _;
    use proto::runner_extension as read;

    fn decode(begin: &Begin<'_>, call: u64) -> read::CarryIn {
        let mut buffer = BytesMut::new();
        begin.encode(call, &mut buffer);
        let mut unframer = message::Unframer::default();
        unframer.put(buffer.freeze());
        let message = unframer.next().expect("sound").expect("whole");
        assert_eq!(unframer.end(), Ok(()));
        let message = read::CarryIn::decode(message).expect("a message");
        assert_eq!(message.call, call);
        message
    }

    #[test]
    fn the_beginning_of_a_call_is_read_as_it_was_meant() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static(""));
        headers.append("x-b", HeaderValue::from_bytes(b"\xff").expect("a value"));
        let json = vec![b'{'; 300];
        let begin = Begin {
            function_json: &json,
            slot_key: &[7; 32],
            id: "C",
            headers: &headers,
            detached: true,
            wait_nanos: u64::MAX,
            data: &[1; 20_000],
            eof: true,
        };
        let header = |name: &str, value: &'static [u8]| read::Header {
            name: name.to_owned(),
            value: Bytes::from_static(value),
        };
        let expected = read::Begin {
            function_json: json.clone().into(),
            slot_key: vec![7; 32].into(),
            id: "C".into(),
            headers: vec![
                header("x-a", b"1"),
                header("x-a", b""),
                header("x-b", b"\xff"),
            ],
            detached: true,
            wait_nanos: u64::MAX,
            data: vec![1; 20_000].into(),
            eof: true,
        };
        let body = decode(&begin, u64::MAX).body;
        assert_eq!(body, Some(carry_in::Body::Begin(expected)));
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let begin = Begin {
            function_json: b"",
            slot_key: b"",
            id: "",
            headers: &HeaderMap::new(),
            detached: false,
            wait_nanos: 0,
            data: b"",
            eof: false,
        };
        let body = decode(&begin, 0).body;
        assert_eq!(body, Some(carry_in::Body::Begin(read::Begin::default())));
    }
}
