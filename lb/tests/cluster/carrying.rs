//! A runner's end of a stream of many calls.

use std::collections::{BTreeMap, HashSet};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use h2::{Reason, RecvStream, SendStream};
use prost::Message as _;
use proto::carry::INITIAL_CREDIT;
use proto::runner_extension::{Begin, CarryIn, CarryOut, Credit, Head, Header, Outcome, carry_in};
use tokio::sync::mpsc;

use crate::peer::{Peer, framed, trailers};

/// The stream.
pub(crate) struct Carrying {
    peer: Peer,
    receive: RecvStream,
    buffer: BytesMut,
    send: SendStream<Bytes>,
    numbers: HashSet<u64>,
    /// Inputs that came so far, of calls that are not over.
    inputs: BTreeMap<u64, Vec<u8>>,
}

impl Carrying {
    pub(crate) fn new(peer: Peer, receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self {
            peer,
            receive,
            buffer: BytesMut::new(),
            send,
            numbers: HashSet::new(),
            inputs: BTreeMap::new(),
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The next message; none when the load balancer has no more to say.
    pub(crate) async fn next(&mut self) -> Option<CarryIn> {
        loop {
            if let Some((prefix, rest)) = self.buffer.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
                if rest.len() >= length as usize {
                    let mut message = self.buffer.split_to(5 + length as usize);
                    message.advance(5);
                    let message = CarryIn::decode(message.freeze()).expect("a message");
                    self.see(&message);
                    return Some(message);
                }
            }
            let data = self.receive.data().await?.ok()?;
            let _ = self.receive.flow_control().release_capacity(data.len());
            self.buffer.extend_from_slice(&data);
        }
    }

    /// Checks what holds of each message, and notes calls and inputs.
    fn see(&mut self, message: &CarryIn) {
        match message.body.as_ref().expect("a body") {
            carry_in::Body::Begin(begin) => {
                assert!(self.numbers.insert(message.call), "used before");
                assert_eq!(begin.slot_key.len(), 32);
                self.peer.note(&begin.id);
                self.inputs.insert(message.call, begin.data.to_vec());
            }
            carry_in::Body::Piece(piece) => {
                assert!(self.numbers.contains(&message.call), "unheard of");
                let input = self.inputs.entry(message.call).or_default();
                input.extend_from_slice(&piece.data);
            }
            carry_in::Body::Cancel(_) => drop(self.inputs.remove(&message.call)),
            carry_in::Body::Credit(_) => {}
        }
    }

    /// The next call; what comes of inputs before it is passed over.
    pub(crate) async fn begin(&mut self) -> (u64, Begin) {
        loop {
            let message = self.next().await.expect("a message");
            match message.body {
                Some(carry_in::Body::Begin(begin)) => return (message.call, begin),
                Some(carry_in::Body::Piece(_)) => {}
                other => unreachable!("no call: {other:?}"),
            }
        }
    }

    /// The next call whose input is whole.
    pub(crate) async fn whole(&mut self) -> Option<(u64, Vec<u8>)> {
        loop {
            let message = self.next().await?;
            let eof = match &message.body {
                Some(carry_in::Body::Begin(begin)) => begin.eof,
                Some(carry_in::Body::Piece(piece)) => {
                    let bytes = piece.data.len() as u64;
                    if bytes > 0 && !piece.eof {
                        self.credit(message.call, bytes).await;
                    }
                    piece.eof
                }
                _ => false,
            };
            if eof {
                let input = self.inputs.remove(&message.call).expect("a call");
                return Some((message.call, input));
            }
        }
    }

    /// Sends what the load balancer takes.
    pub(crate) async fn say(&mut self, message: CarryOut) -> bool {
        let mut bytes = framed(&message);
        while !bytes.is_empty() {
            self.send.reserve_capacity(bytes.len());
            if self.send.capacity() == 0 {
                match std::future::poll_fn(|cx| self.send.poll_capacity(cx)).await {
                    Some(Ok(_)) => continue,
                    _ => return false,
                }
            }
            let part = bytes.split_to(self.send.capacity().min(bytes.len()));
            if self.send.send_data(part, false).is_err() {
                return false;
            }
        }
        true
    }

    pub(crate) async fn say_raw(&mut self, bytes: &'static [u8]) {
        let _ = self.send.send_data(Bytes::from_static(bytes), false);
    }

    pub(crate) async fn credit(&mut self, call: u64, bytes: u64) {
        let credit = Some(Credit { bytes });
        self.say(CarryOut {
            call,
            credit,
            ..CarryOut::default()
        })
        .await;
    }

    pub(crate) async fn head(&mut self, call: u64) {
        self.say(CarryOut {
            call,
            head: Some(ok(&[])),
            ..CarryOut::default()
        })
        .await;
    }

    pub(crate) async fn data(&mut self, call: u64, data: impl Into<Bytes>) {
        self.say(CarryOut {
            call,
            data: data.into(),
            ..CarryOut::default()
        })
        .await;
    }

    pub(crate) async fn outcome(&mut self, call: u64, outcome: Outcome) {
        self.say(CarryOut {
            call,
            outcome: Some(outcome),
            ..CarryOut::default()
        })
        .await;
    }

    /// A whole answer in one message.
    pub(crate) async fn answer(&mut self, call: u64, data: impl Into<Bytes>) {
        self.say(CarryOut {
            call,
            head: Some(ok(&[("content-type", "a/b")])),
            data: data.into(),
            outcome: Some(Outcome::default()),
            ..CarryOut::default()
        })
        .await;
    }

    pub(crate) async fn refuse(&mut self, call: u64) {
        self.outcome(call, refusal()).await;
    }

    /// Answers each call with its input, in pieces, each as soon as it comes and the load balancer takes it.
    pub(crate) fn echo_in_pieces(mut self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            /// Output that waits for credit, the credit there is, and whether nothing follows.
            #[derive(Default)]
            struct Echo(BytesMut, u64, bool);
            let mut calls: BTreeMap<u64, Echo> = BTreeMap::new();
            while let Some(message) = self.next().await {
                let number = message.call;
                let (data, eof) = match message.body.expect("a body") {
                    carry_in::Body::Begin(begin) => {
                        calls.insert(number, Echo(BytesMut::new(), INITIAL_CREDIT, false));
                        self.head(number).await;
                        (begin.data, begin.eof)
                    }
                    carry_in::Body::Piece(piece) => (piece.data, piece.eof),
                    carry_in::Body::Credit(credit) => {
                        if let Some(call) = calls.get_mut(&number) {
                            call.1 += credit.bytes;
                        }
                        (Bytes::new(), false)
                    }
                    carry_in::Body::Cancel(_) => unreachable!("nobody goes away"),
                };
                let Some(Echo(waiting, credit, over)) = calls.get_mut(&number) else {
                    continue;
                };
                waiting.extend_from_slice(&data);
                *over |= eof;
                let mut pieces = Vec::new();
                while !waiting.is_empty() && *credit > 0 {
                    let length = waiting.len().min(*credit as usize).min(9_999);
                    *credit -= length as u64;
                    pieces.push(waiting.split_to(length).freeze());
                }
                if *over && waiting.is_empty() {
                    calls.remove(&number);
                    for piece in pieces {
                        self.data(number, piece).await;
                    }
                    self.outcome(number, Outcome::default()).await;
                    continue;
                }
                let given: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
                for piece in pieces {
                    self.data(number, piece).await;
                }
                if given > 0 {
                    self.credit(number, given).await;
                }
            }
        })
    }

    pub(crate) fn end(mut self, code: &str) {
        let _ = self.send.send_trailers(trailers(code, "said%20so"));
    }

    pub(crate) fn reset(mut self, reason: Reason) {
        self.send.send_reset(reason);
    }
}

pub(crate) fn ok(headers: &[(&str, &'static str)]) -> Head {
    let headers = headers.iter().map(|(name, value)| Header {
        name: (*name).to_owned(),
        value: Bytes::from_static(value.as_bytes()),
    });
    Head {
        status: 200,
        headers: headers.collect(),
    }
}

pub(crate) fn refusal() -> Outcome {
    Outcome {
        error: "ServerBusy".to_owned(),
        error_status: 503,
        error_text: "Timed out - server too busy".to_owned(),
        refused: true,
        ..Outcome::default()
    }
}

/// A script that hands each stream to its test.
pub(crate) fn handed() -> (
    impl Fn(Carrying) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    mpsc::Receiver<Carrying>,
) {
    let (hand, streams) = mpsc::channel(16);
    let script = move |stream| -> BoxFuture<'static, ()> {
        let hand: mpsc::Sender<Carrying> = hand.clone();
        Box::pin(async move { assert!(hand.send(stream).await.is_ok(), "the test is over") })
    };
    (script, streams)
}
