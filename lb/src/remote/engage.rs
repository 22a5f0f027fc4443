//! One attempt to have a runner take a call: beside others on a stream, or on one of its own
//! (spec/08 8.3).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::{ApiError, ErrorCode};
use http::HeaderMap;
use nodekit::body;
use nodekit::exchange::{CallResponse, CallTimings};
use nodekit::hop;
use tokio::time::Instant;

use super::answer_body::AnswerBody;
use super::asked::Asked;
use super::carry::CarriedCall;
use super::conversation::{Conversation, End, Event, Head, NotPlaced, lost};
use super::engaged::Engaged;
use super::input::Input;
use super::link::{Link, Way};
use super::outcome::Account;
use crate::placement::Ended;
use crate::runners::Running;

/// An answer that is known to be no longer than this is read to its end before the client gets its
/// head, so that an error on the way is a clean one, and the account is known. The runner holds such
/// an answer until it is whole, too.
const WHOLE_BYTES: usize = 64 << 10;

/// What an attempt needs beside the runner and the input.
pub(crate) struct Engagement<'a> {
    pub(crate) asked: &'a Asked,
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
    engagement: Engagement<'_>,
    mut input: Input,
    running: Running,
) -> Attempt {
    let way = match link.way(&engagement.asked.target).await {
        Ok(way) => way,
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
    let (asked, deadline) = (engagement.asked, engagement.deadline);
    let begun = match way {
        Way::Beside(place) => CarriedCall::begin(place, asked, input, running, deadline)
            .await
            .map(Conversation::Carried),
        Way::Own(opened) => asked.first_message().map(|first| {
            let call = Engaged::new(opened, first, input, running, deadline);
            Conversation::Engaged(Box::new(call))
        }),
    };
    let mut conversation = match begun {
        Ok(conversation) => conversation,
        Err(error) => return Attempt::Failed(error),
    };
    let start = loop {
        match conversation.next().await {
            Event::Start(_) if asked.detached => {
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
    let Head {
        status,
        mut headers,
    } = start;
    if !(200..300).contains(&status) {
        let error = ApiError::from(ErrorCode::FunctionInvalidResponse);
        return Attempt::Failed(error.detail(format_args!("status {status}")));
    }
    hop::strip(&mut headers);
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

enum Whole {
    Body(Bytes, Account),
    TooLong(Vec<Bytes>),
    Broken(ApiError),
}

/// Reads an answer that tells that it is short, or is here to its end.
async fn whole(conversation: &mut Conversation, headers: &HeaderMap) -> Whole {
    let length = headers.get(http::header::CONTENT_LENGTH);
    let length: Option<usize> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut pieces = Vec::new();
    let length = match length {
        _ if conversation.is_whole() => usize::MAX,
        Some(length) if length <= WHOLE_BYTES => length,
        _ => return Whole::TooLong(pieces),
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
