//! What each call of the chaos test does, by its number.

use std::time::Duration;

use bytes::Bytes;
use hearth_tests::random::Random;
use serde_json::{Value, json};

use super::clients::{Answer, Pieces};

/// What is peculiar about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Plain,
    /// The function takes a while.
    Sleeps(Duration),
    /// The function stalls within its answer.
    AnswersInPieces(Duration),
    /// The function never comes to the end of its answer.
    AnswersForEver,
    /// The client stalls within its input.
    SendsInPieces(Duration),
    /// The client never comes to the end of its input.
    SendsForEver,
    /// The client hangs up.
    GoesAway(Duration),
    /// More than is kept for another try, and an answer that is not short.
    Large,
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) manner: Manner,
    /// How long its client rests after it.
    pub(super) pause: Duration,
}

const LARGE_INPUT: usize = 1_500_000;
const LARGE_ANSWER: usize = 300_000;

impl Plan {
    /// The call with this number.
    pub(super) fn of(state: u64, number: u64) -> Self {
        let mut random = Random::of(state, number);
        let manner = match random.within(0, 100) {
            0..54 => Manner::Plain,
            54..70 => Manner::Sleeps(random.millis(20, 800)),
            70..78 => Manner::AnswersInPieces(random.millis(20, 1_000)),
            78..80 => Manner::AnswersForEver,
            80..88 => Manner::SendsInPieces(random.millis(20, 1_000)),
            88..90 => Manner::SendsForEver,
            90..95 => Manner::GoesAway(random.millis(0, 600)),
            _ => Manner::Large,
        };
        let pause = random.millis(0, 500);
        Self {
            number,
            manner,
            pause,
        }
    }

    pub(super) fn plain(number: u64) -> Self {
        Self {
            number,
            manner: Manner::Plain,
            pause: Duration::ZERO,
        }
    }

    pub(super) fn sleeping(number: u64, time: Duration) -> Self {
        Self {
            manner: Manner::Sleeps(time),
            ..Self::plain(number)
        }
    }

    /// What the function is told to do: first, to have itself entered in the ledger.
    pub(super) fn knobs(&self, ledger: &str) -> Value {
        let number = self.number.to_string();
        let mut knobs = json!({ "tell": { "to": ledger, "text": number } });
        let begin = [
            json!("readBody"),
            json!({ "text": format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Call: {number}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            ) }),
            json!({ "chunk": format!("{number} begins, ") }),
        ];
        let end = [
            json!({ "chunk": format!("{number} ends") }),
            json!({ "chunk": "" }),
        ];
        match self.manner {
            Manner::AnswersInPieces(stall) => {
                let stall = json!({ "sleepMs": millis(stall) });
                knobs["script"] = begin.into_iter().chain([stall]).chain(end).collect();
            }
            Manner::AnswersForEver => {
                knobs["script"] = begin.into_iter().chain([json!("hold")]).collect();
            }
            Manner::Sleeps(time) => knobs["sleepTime"] = json!(millis(time)),
            Manner::Large => knobs["bodySize"] = json!(LARGE_ANSWER),
            _ => {}
        }
        if knobs.get("script").is_none() {
            knobs["returnHeaders"] = json!({ "X-Call": [number] });
        }
        knobs
    }

    /// The input, whose length depends on the number.
    pub(super) fn input(&self) -> Pieces {
        let short = Bytes::from(vec![b'.'; self.input_length()]);
        match self.manner {
            Manner::SendsInPieces(stall) => {
                let mut first = short;
                let rest = first.split_off(first.len() / 2);
                Pieces::new([(Duration::ZERO, first), (stall, rest)])
            }
            Manner::SendsForEver => Pieces::new([(Duration::ZERO, short)]).and_no_end(),
            _ => Pieces::new([(Duration::ZERO, short)]),
        }
    }

    fn input_length(&self) -> usize {
        let short = 10 + usize::try_from(self.number % 1_000).expect("a small number");
        match self.manner {
            Manner::Large => LARGE_INPUT + short,
            _ => short,
        }
    }

    /// What is wrong with a success, if anything: it must be whole, and this call's.
    pub(super) fn mistake(&self, answer: &Answer) -> Option<String> {
        let number = self.number.to_string();
        let whose = answer.headers.get("x-call");
        if whose.is_none_or(|whose| whose.as_bytes() != number.as_bytes()) {
            return Some(format!("it has the answer of {whose:?}"));
        }
        let body = &answer.body;
        match self.manner {
            Manner::AnswersForEver => Some("its answer has an end".to_owned()),
            Manner::SendsForEver => Some("its input has an end".to_owned()),
            Manner::AnswersInPieces(_) => {
                let whole = format!("{number} begins, {number} ends");
                (body != whole.as_bytes()).then(|| format!("it has the answer {body:?}"))
            }
            Manner::Large => {
                (body.len() != LARGE_ANSWER).then(|| format!("its answer has {} bytes", body.len()))
            }
            _ => {
                let told: Value = serde_json::from_slice(body).unwrap_or_default();
                let right = told["request"]["tell"]["text"] == json!(number)
                    && told["data"]["bodyLength"] == json!(self.input_length().to_string());
                (!right).then(|| format!("it has the answer {body:?}"))
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a short time")
}
