//! One attempt to have a runner take a call: `Engage` (spec/08 8.3).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::{ApiError, ErrorCode};
use http::{HeaderMap, HeaderName, HeaderValue};
use nodekit::body;
use nodekit::exchange::{CallResponse, CallTimings};
use nodekit::hop;
use proto::runner::HttpRespMeta;
use tokio::time::Instant;

use super::answer_body::AnswerBody;
use super::connection::Rpc;
use super::conversation::{Conversation, End, Event, NotPlaced, lost};
use super::input::Input;
use super::link::Link;
use super::outcome::Account;
use crate::placement::Ended;
use crate::runners::Running;

/// An answer that is known to be no longer than this is read to its end before the client gets its
/// head, so that an error on the way is a clean one, and the account is known. The runner holds such
/// an answer until it is whole, too.
const WHOLE_BYTES: usize = 64 << 10;

/// Headers for which there is room from the start.
const MANY_HEADERS: usize = 64;

/// What an attempt needs beside the runner and the input.
pub(crate) struct Engagement {
    /// The first message, encoded.
    pub(crate) first: Bytes,
    pub(crate) detached: bool,
    /// How long the call has waited before this attempt.
    pub(crate) waited: Duration,
    /// When the runner must be done.
    pub(crate) deadline: Instant,
}

/// How an attempt ended.
pub(crate) enum Attempt {
    /// Nothing was begun: the call may be tried elsewhere, if its input can.
    NotPlaced { input: Input, why: NotPlaced },
    /// The function answers.
    Answered(CallResponse),
    /// The call has begun, and goes on without its client.
    Detached(Box<Conversation>),
    /// The call is over.
    Failed(ApiError),
}

/// Has the runner behind `link` take a call. Dropping the future, or the body of the answer, cancels
/// the call there.
pub(crate) async fn engage(
    link: &Link,
    engagement: Engagement,
    mut input: Input,
    running: Running,
) -> Attempt {
    let opened = match link.open(Rpc::Engage).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(runner = running.address(), %error, "a call was not sent");
            running.settle(Ended::Unreachable);
            let why = NotPlaced::Unreachable;
            return Attempt::NotPlaced { input, why };
        }
    };
    if !input.rewind() {
        // Whoever calls this has checked it.
        return Attempt::Failed(ApiError::internal("the input of a call is gone"));
    }
    let mut conversation = Conversation::new(
        opened,
        &engagement.first,
        input,
        running,
        engagement.deadline,
    );
    let start = loop {
        match conversation.next().await {
            Event::Start(_) if engagement.detached => {
                return Attempt::Detached(Box::new(conversation));
            }
            Event::Start(start) => break start,
            Event::Data(_) => {}
            Event::End(End::Done(account)) => {
                // Nothing was said, and all is well: an empty answer.
                return Attempt::Answered(CallResponse {
                    headers: HeaderMap::new(),
                    body: body::empty(),
                    timings: account.timings(engagement.waited),
                });
            }
            Event::End(End::Failed(error)) => return Attempt::Failed(error),
            Event::End(End::NotPlaced(why)) => {
                return match conversation.give_back() {
                    Some(input) => Attempt::NotPlaced { input, why },
                    None => Attempt::Failed(ApiError::internal("the input of a call is gone")),
                };
            }
        }
    };
    if !(200..300).contains(&start.status_code) {
        let error = ApiError::from(ErrorCode::FunctionInvalidResponse);
        return Attempt::Failed(error.detail(format_args!("status {}", start.status_code)));
    }
    let headers = header_map(&start);
    match whole(&mut conversation, &headers).await {
        Whole::Body(bytes, account) => Attempt::Answered(CallResponse {
            headers,
            body: body::full(bytes),
            timings: account.timings(engagement.waited),
        }),
        Whole::Broken(error) => Attempt::Failed(error),
        Whole::TooLong(begun) => Attempt::Answered(CallResponse {
            headers,
            body: body::stream(AnswerBody::new(begun, Box::new(conversation))),
            timings: CallTimings {
                scheduling: engagement.waited,
                ..CallTimings::default()
            },
        }),
    }
}

fn header_map(start: &HttpRespMeta) -> HeaderMap {
    // A map of too many would end the process.
    let mut headers = HeaderMap::with_capacity(start.headers.len().min(MANY_HEADERS));
    for header in &start.headers {
        let name = HeaderName::from_bytes(header.key.as_bytes());
        let value = HeaderValue::from_bytes(header.value.as_bytes());
        // What is no header cannot be told; a full map has no room for more.
        if let (Ok(name), Ok(value)) = (name, value) {
            let _ = headers.try_append(name, value);
        }
    }
    hop::strip(&mut headers);
    headers
}

enum Whole {
    Body(Bytes, Account),
    TooLong(Vec<Bytes>),
    Broken(ApiError),
}

/// Reads an answer that tells that it is short.
async fn whole(conversation: &mut Conversation, headers: &HeaderMap) -> Whole {
    let length = headers.get(http::header::CONTENT_LENGTH);
    let length: Option<usize> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut pieces = Vec::new();
    let Some(length) = length.filter(|length| *length <= WHOLE_BYTES) else {
        return Whole::TooLong(pieces);
    };
    let mut read = 0;
    loop {
        match conversation.next().await {
            Event::Start(_) => {}
            Event::Data(piece) => {
                read += piece.len();
                pieces.push(piece);
                if read > length {
                    return Whole::TooLong(pieces);
                }
            }
            Event::End(End::Done(account)) => {
                return Whole::Body(joined(pieces, read), account);
            }
            Event::End(End::Failed(error)) => return Whole::Broken(error),
            Event::End(End::NotPlaced(_)) => return Whole::Broken(lost("given back too late")),
        }
    }
}

fn joined(mut pieces: Vec<Bytes>, length: usize) -> Bytes {
    match pieces.len() {
        0 => Bytes::new(),
        1 => pieces.swap_remove(0),
        _ => {
            let mut all = BytesMut::with_capacity(length);
            pieces.iter().for_each(|piece| all.extend_from_slice(piece));
            all.freeze()
        }
    }
}
