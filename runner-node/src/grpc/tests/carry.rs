//! Many calls on one stream.

use std::collections::{BTreeSet, HashMap};

use proto::carry::{INITIAL_CREDIT, MAX_CALLS};
use proto::runner_extension::{
    Begin, Cancel, CarryIn, CarryOut, Credit, Header, Outcome, Piece, carry_in,
};
use tonic::Code;

use super::*;
use crate::agent::tests::function;
use crate::driver::contract::eventually;

/// A load balancer's end of a stream.
struct Stream {
    send: Option<mpsc::Sender<CarryIn>>,
    answers: Streaming<CarryOut>,
    /// The functions that were described.
    known: BTreeSet<String>,
}

/// What has come of one call.
#[derive(Debug, Default)]
struct Carried {
    status: Option<i32>,
    output: Vec<u8>,
    messages: usize,
    credit: u64,
    outcome: Option<Outcome>,
}

impl Stream {
    async fn open(node: &Node) -> Self {
        let (send, sent) = mpsc::channel(1);
        let answers = soon(node.extension().carry(ReceiverStream::new(sent))).await;
        Self {
            send: Some(send),
            answers: answers.expect("a stream").into_inner(),
            known: BTreeSet::new(),
        }
    }

    async fn send(&self, call: u64, body: carry_in::Body) {
        let message = CarryIn {
            call,
            body: Some(body),
        };
        let _ = soon(self.send.as_ref().expect("open").send(message)).await;
    }

    /// A call of the function `name` with a first piece of input.
    fn call(&mut self, name: &str, call: u64, what: &str, data: &'static [u8], eof: bool) -> Begin {
        let first = self.known.insert(name.to_owned());
        let document = CallJson::of_function(&spec(name));
        Begin {
            function_json: match first {
                true => serde_json::to_vec(&document).expect("JSON").into(),
                false => Bytes::new(),
            },
            slot_key: Bytes::copy_from_slice(function(name).slot_key.as_bytes()),
            id: call.to_string(),
            headers: vec![Header {
                name: "do".into(),
                value: Bytes::copy_from_slice(what.as_bytes()),
            }],
            data: Bytes::from_static(data),
            eof,
            ..Begin::default()
        }
    }

    async fn begin(&mut self, name: &str, call: u64, what: &str, data: &'static [u8], eof: bool) {
        let begin = self.call(name, call, what, data, eof);
        self.send(call, carry_in::Body::Begin(begin)).await;
    }

    async fn piece(&self, call: u64, data: Vec<u8>, eof: bool) {
        let data = data.into();
        self.send(call, carry_in::Body::Piece(Piece { data, eof }))
            .await;
    }

    async fn credit(&self, call: u64, bytes: u64) {
        self.send(call, carry_in::Body::Credit(Credit { bytes }))
            .await;
    }

    async fn cancel(&self, call: u64) {
        self.send(call, carry_in::Body::Cancel(Cancel {})).await;
    }

    async fn next(&mut self) -> Option<CarryOut> {
        soon(self.answers.message()).await.expect("no error")
    }

    async fn broken(&mut self) -> Status {
        loop {
            match soon(self.answers.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a good end"),
                Err(status) => return status,
            }
        }
    }

    /// Reads until all of `calls` are over.
    async fn over(&mut self, calls: impl IntoIterator<Item = u64>) -> HashMap<u64, Carried> {
        let mut carried: HashMap<u64, Carried> = calls
            .into_iter()
            .map(|call| (call, Carried::default()))
            .collect();
        while carried.values().any(|call| call.outcome.is_none()) {
            let message = self.next().await.expect("a message");
            let number = message.call;
            let call = carried.get_mut(&number).expect("one of them");
            call.take(message);
        }
        carried
    }

    async fn one(&mut self, call: u64) -> Carried {
        self.over([call]).await.remove(&call).expect("it")
    }
}

impl Carried {
    fn take(&mut self, message: CarryOut) {
        assert!(self.outcome.is_none(), "after the end");
        self.messages += 1;
        if let Some(head) = message.head {
            assert!(self.status.is_none(), "a second head");
            self.status = Some(head.status);
        }
        self.output.extend_from_slice(&message.data);
        self.credit += message.credit.map_or(0, |credit| credit.bytes);
        self.outcome = message.outcome;
    }

    fn error(&self) -> (&str, i32, bool) {
        let outcome = self.outcome.as_ref().expect("an outcome");
        (&outcome.error, outcome.error_status, outcome.refused)
    }
}

const FINE: (&str, i32, bool) = ("", 0, false);

#[tokio::test]
async fn a_small_call_is_one_message_each_way() {
    let node = Node::new(1).await;
    let mut stream = Stream::open(&node).await;
    for call in [1, 2] {
        stream.begin("f", call, "echo", b"input", true).await;
        let answer = stream.one(call).await;
        assert_eq!(
            (answer.status, answer.output.as_slice()),
            (Some(200), &b"input"[..])
        );
        assert_eq!((answer.error(), answer.messages), (FINE, 1));
        let outcome = answer.outcome.expect("an outcome");
        assert!(outcome.scheduling > 0 && outcome.execution > 0);
        assert_eq!(outcome.container_init > 0, call == 1);
    }
    assert_eq!(node.bench.driver.state().created, 1);
    let status = node.status().await;
    assert_eq!((status.active, status.requests_handled), (0, 2));
    drop(stream);
    node.end().await;
}

#[tokio::test]
async fn calls_of_one_stream_do_not_mix() {
    let node = Node::new(4).await;
    let mut stream = Stream::open(&node).await;
    for call in 0..60u64 {
        let name = format!("f{}", call % 3);
        stream.begin(&name, call, "nap", b"", false).await;
    }
    for half in 0..2 {
        for call in (0..60u64).rev() {
            let piece = vec![call as u8; call as usize * 100];
            stream.piece(call, piece, half == 1).await;
        }
    }
    for (call, answer) in stream.over(0..60).await {
        assert!(
            answer.output == vec![call as u8; call as usize * 200],
            "{call}"
        );
        assert_eq!(answer.error(), FINE);
    }
    drop(stream);
    node.end().await;
}

#[tokio::test]
async fn input_and_output_keep_to_their_credit() {
    const LENGTH: u64 = 300_000;
    let node = Node::new(2).await;
    let mut stream = Stream::open(&node).await;
    stream.begin("f", 1, "echo", b"", false).await;
    let mut call = Carried::default();
    let (mut sent, mut credit) = (0, INITIAL_CREDIT);
    while sent < LENGTH {
        let piece = credit.min(LENGTH - sent).min(10_000);
        if piece == 0 {
            let message = stream.next().await.expect("a message");
            credit += message.credit.as_ref().expect("credit").bytes;
            call.take(message);
            continue;
        }
        sent += piece;
        credit -= piece;
        stream
            .piece(1, vec![9; piece as usize], sent == LENGTH)
            .await;
    }
    while (call.output.len() as u64) < INITIAL_CREDIT {
        call.take(stream.next().await.expect("a message"));
    }
    // It stops here; another call is not held up by it.
    stream.begin("g", 2, "echo", b"x", true).await;
    let message = stream.next().await.expect("a message");
    assert_eq!((message.call, message.outcome.is_some()), (2, true));
    assert_eq!(call.output.len() as u64, INITIAL_CREDIT);
    stream.credit(1, 1).await;
    call.take(stream.next().await.expect("a message"));
    assert_eq!(call.output.len() as u64, INITIAL_CREDIT + 1);
    stream.credit(1, LENGTH).await;
    while call.outcome.is_none() {
        call.take(stream.next().await.expect("a message"));
    }
    assert_eq!((call.output.len() as u64, call.error()), (LENGTH, FINE));
    drop(stream);
    node.end().await;
}

#[tokio::test]
async fn a_live_answer_flows_while_its_call_runs() {
    let node = Node::new(1).await;
    let mut stream = Stream::open(&node).await;
    stream.begin("f", 1, "stream", b"", true).await;
    let mut call = Carried::default();
    while call.output != b"head," {
        call.take(stream.next().await.expect("a message"));
    }
    assert_eq!(call.status, Some(200));
    node.bench.world.release("1");
    while call.outcome.is_none() {
        call.take(stream.next().await.expect("a message"));
    }
    assert_eq!(
        (call.output.as_slice(), call.error()),
        (&b"head,tail"[..], FINE)
    );
    drop(stream);
    node.end().await;
}

#[tokio::test]
async fn errors_and_refusals_have_names() {
    let node = Node::new(1).await;
    let mut stream = Stream::open(&node).await;
    stream.begin("f", 1, "fail", b"", true).await;
    assert_eq!(stream.one(1).await.error(), ("FunctionFailed", 502, false));

    stream.begin("f", 2, "wait", b"", true).await;
    node.bench.seen("2").await;
    let mut begin = stream.call("f", 3, "echo", b"", true);
    begin.wait_nanos = 1_000_000;
    stream.send(3, carry_in::Body::Begin(begin)).await;
    assert_eq!(stream.one(3).await.error(), ("ServerBusy", 503, true));

    // What is wrong with a function is remembered, too.
    for call in [4, 5] {
        let mut begin = stream.call("bad", call, "echo", b"", true);
        if call == 4 {
            begin.function_json = Bytes::from_static(b"{}");
        }
        stream.send(call, carry_in::Body::Begin(begin)).await;
        assert_eq!(
            stream.one(call).await.error(),
            ("FnMissingImage", 400, false)
        );
    }
    let mut begin = stream.call("f", 6, "echo", b"", true);
    begin.headers[0].name = "a b".into();
    stream.send(6, carry_in::Body::Begin(begin)).await;
    assert_eq!(stream.one(6).await.error(), ("Internal", 500, false));
    node.bench.world.release("2");
    assert_eq!(stream.one(2).await.error(), FINE);
    assert_eq!(node.status().await.requests_handled, 5);
    drop(stream);
    node.end().await;
}

#[tokio::test]
async fn a_load_balancer_gives_up_one_call_or_all() {
    let node = Node::new(3).await;
    let mut stream = Stream::open(&node).await;
    for call in 1..=3 {
        stream.begin("f", call, "hang", b"", true).await;
        node.bench.seen(&call.to_string()).await;
    }
    stream.cancel(1).await;
    eventually("one ends", async || node.bench.metrics.running.get() == 2).await;
    stream.begin("f", 4, "echo", b"", true).await;
    assert_eq!(stream.one(4).await.error(), FINE);
    drop(stream);
    eventually("all end", async || node.bench.metrics.running.get() == 0).await;
    assert_eq!(node.bench.metrics.canceled.get(), 3);
    node.end().await;
}

#[tokio::test]
async fn a_detached_call_goes_on_without_its_stream() {
    let node = Node::new(1).await;
    let mut stream = Stream::open(&node).await;
    let mut begin = stream.call("f", 1, "wait", b"half", false);
    begin.detached = true;
    stream.send(1, carry_in::Body::Begin(begin)).await;
    stream.piece(1, b"whole".to_vec(), true).await;
    let message = stream.next().await.expect("a message");
    assert_eq!(message.head.expect("a head").status, 202);
    assert!(message.outcome.is_none());
    node.bench.seen("1").await;
    drop(stream);
    eventually("the stream ends", async || node.status().await.active == 0).await;
    assert_eq!(node.bench.metrics.running.get(), 1);
    node.bench.world.release("1");
    eventually("it completes", async || {
        node.bench.metrics.completed.get() == 1
    })
    .await;
    node.end().await;
}

#[tokio::test]
async fn more_headers_than_a_map_can_hold_fail_their_call_alone() {
    let node = Node::new(1).await;
    let mut stream = Stream::open(&node).await;
    let mut begin = stream.call("f", 1, "echo", b"", true);
    begin.headers = vec![begin.headers[0].clone(); 40_000];
    stream.send(1, carry_in::Body::Begin(begin)).await;
    assert_eq!(stream.one(1).await.error(), ("Internal", 500, false));
    stream.begin("f", 2, "echo", b"", true).await;
    assert_eq!(stream.one(2).await.error(), FINE);
    node.end().await;
}

#[tokio::test]
async fn a_detached_call_does_not_wait_for_ever_for_its_input() {
    let node = Node::new(1).await;
    let mut stream = Stream::open(&node).await;
    let mut begin = stream.call("f", 1, "echo", b"half", false);
    begin.detached = true;
    begin.wait_nanos = 10_000_000;
    stream.send(1, carry_in::Body::Begin(begin)).await;
    assert_eq!(
        stream.one(1).await.error(),
        ("RequestBodyTimeout", 408, false)
    );
    assert_eq!(node.bench.driver.state().created, 0);
    node.end().await;
}

#[tokio::test]
async fn a_load_balancer_that_has_no_more_to_say_gets_all_answers() {
    let node = Node::new(2).await;
    let mut stream = Stream::open(&node).await;
    stream.begin("f", 1, "wait", b"", true).await;
    stream.begin("f", 2, "echo", b"half", false).await;
    node.bench.seen("1").await;
    node.bench.seen("2").await;
    stream.send = None;
    assert_eq!(
        stream.one(2).await.error(),
        ("RequestBodyBroken", 400, false)
    );
    node.bench.world.release("1");
    assert_eq!(stream.one(1).await.error(), FINE);
    assert_eq!(stream.next().await, None);
    node.end().await;
}

#[tokio::test]
async fn a_drained_runner_ends_the_stream_after_the_last_outcome() {
    let node = Node::new(1).await;
    let mut idle = Stream::open(&node).await;
    let mut stream = Stream::open(&node).await;
    stream.begin("f", 1, "wait", b"", true).await;
    node.bench.seen("1").await;
    node.bench.agent.drain();
    assert_eq!(idle.next().await, None);
    stream.begin("f", 2, "echo", b"", true).await;
    assert_eq!(stream.one(2).await.error(), ("ServerBusy", 503, true));
    node.bench.world.release("1");
    assert_eq!(stream.one(1).await.error(), FINE);
    assert_eq!(stream.next().await, None);
    node.end().await;
}

#[tokio::test]
async fn a_load_balancer_that_breaks_the_rules_loses_its_stream() {
    let node = Node::new(1).await;
    for what in ["unknown", "twice", "nothing", "overrun"] {
        let mut stream = Stream::open(&node).await;
        let expected = match what {
            "unknown" => {
                stream.known.insert("f".to_owned());
                stream.begin("f", 1, "echo", b"", true).await;
                (Code::InvalidArgument, "function_json: missing")
            }
            "twice" => {
                stream.begin("f", 1, "echo", b"", false).await;
                stream.begin("f", 1, "echo", b"", false).await;
                (Code::InvalidArgument, "call: there is one of this number")
            }
            "nothing" => {
                let message = CarryIn {
                    call: 1,
                    body: None,
                };
                let send = stream.send.as_ref().expect("open");
                send.send(message).await.expect("sent");
                (Code::InvalidArgument, "body: missing")
            }
            _ => {
                stream.begin("f", 1, "echo", b"", false).await;
                let piece = vec![0; INITIAL_CREDIT as usize + 1];
                stream.piece(1, piece, true).await;
                let text = "more input than there is credit for, or after its end";
                (Code::ResourceExhausted, text)
            }
        };
        let status = stream.broken().await;
        assert_eq!((status.code(), status.message()), expected, "{what}");
        drop(stream);
        eventually("its calls end", async || node.status().await.active == 0).await;
    }
    node.end().await;
}

#[tokio::test]
async fn a_stream_carries_a_bounded_number_of_calls() {
    let node = Node::new(1).await;
    let mut stream = Stream::open(&node).await;
    let last = MAX_CALLS as u64;
    for call in 0..last {
        stream.begin("f", call, "hang", b"", true).await;
    }
    stream.begin("g", last, "echo", b"", true).await;
    assert_eq!(stream.one(last).await.error(), ("ServerBusy", 503, true));
    // Its function is known nevertheless.
    stream.cancel(0).await;
    let mut begin = stream.call("g", last + 1, "echo", b"", true);
    begin.wait_nanos = 1;
    stream.send(last + 1, carry_in::Body::Begin(begin)).await;
    assert_eq!(
        stream.one(last + 1).await.error(),
        ("ServerBusy", 503, true)
    );
    drop(stream);
    eventually("its calls end", async || node.status().await.active == 0).await;
    node.end().await;
}
