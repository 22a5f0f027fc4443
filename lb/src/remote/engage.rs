//! One attempt to have a runner take a call: `Engage` (spec/08 8.3).
//!
//! From the moment the first byte is handed to the connection the call belongs to the runner, unless
//! the runner gives it back, or says that it never looked at it.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::{ApiError, ErrorCode};
use http::{HeaderMap, HeaderName, HeaderValue};
use nodekit::body;
use nodekit::exchange::{CallResponse, CallTimings};
use nodekit::hop;
use prost::Message as _;
use proto::runner::{CallFinished, HttpRespMeta, RunnerMsg, call_result_start, runner_msg};
use tokio::time::Instant;

use super::answer_body::AnswerBody;
use super::connection::{InFlight, Rpc};
use super::input::Input;
use super::link::Link;
use super::outcome::{self, Account};
use super::sending::Sending;
use super::stream::{self, Received, Receiving, StreamError};
use crate::placement::Ended;
use crate::runners::Running;

/// An answer that is known to be no longer than this is read to its end before the client gets its
/// head, so that an error on the way is a clean one, and the account is known. The runner holds such
/// an answer until it is whole, too.
const WHOLE_BYTES: usize = 64 << 10;

/// What the client is told when its runner is gone.
const RUNNER_LOST: &str = "The runner was lost while it had the call";

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

/// Why a call was not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPlaced {
    /// The runner says that it has no room.
    Refused,
    /// The call did not reach it.
    Unreachable,
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
    let mut conversation = Conversation {
        sending: Sending::new(opened.send, &engagement.first),
        receiving: opened.receive,
        input: None,
        _in_flight: opened.in_flight,
        started: false,
        finished: None,
        running: Some(running),
        sent_at: Instant::now(),
        timer: Box::pin(tokio::time::sleep_until(engagement.deadline)),
    };
    if !input.rewind() {
        // Whoever calls this has checked it.
        return Attempt::Failed(ApiError::internal("the input of a call is gone"));
    }
    conversation.input = Some(input);
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
                return match conversation.input.take() {
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
    match conversation.whole(&headers).await {
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
    let mut headers = HeaderMap::with_capacity(start.headers.len());
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

/// A call that a runner has.
pub(crate) struct Conversation {
    sending: Sending,
    receiving: Receiving,
    /// None when it is sent, or was given back.
    input: Option<Input>,
    _in_flight: InFlight,
    started: bool,
    finished: Option<CallFinished>,
    /// Settled at the end; dropped before it, it says that the caller gave up.
    running: Option<Running>,
    sent_at: Instant,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
}

/// What happens next in a conversation.
pub(crate) enum Event {
    /// The head of the answer.
    Start(HttpRespMeta),
    /// Output. Only after the head.
    Data(Bytes),
    /// Nothing follows.
    End(End),
}

/// How a conversation ends.
pub(crate) enum End {
    Done(Account),
    NotPlaced(NotPlaced),
    Failed(ApiError),
}

enum Whole {
    Body(Bytes, Account),
    TooLong(Vec<Bytes>),
    Broken(ApiError),
}

impl Conversation {
    /// Hears the runner out about a call whose client is gone.
    pub(crate) async fn listen(mut self: Box<Self>) {
        while !matches!(self.next().await, Event::End(_)) {}
    }

    async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Reads an answer that tells that it is short.
    async fn whole(&mut self, headers: &HeaderMap) -> Whole {
        let length = headers.get(http::header::CONTENT_LENGTH);
        let length: Option<usize> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let mut pieces = Vec::new();
        let Some(length) = length.filter(|length| *length <= WHOLE_BYTES) else {
            return Whole::TooLong(pieces);
        };
        let mut read = 0;
        loop {
            match self.next().await {
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

    /// Sends what can be sent, and says what the runner does next. Nothing follows the end.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let end = ready!(self.poll_until_end(cx));
        match end {
            Ok(event) => Poll::Ready(event),
            Err((how, end)) => {
                if let Some(running) = self.running.take() {
                    running.settle(how);
                }
                Poll::Ready(Event::End(end))
            }
        }
    }

    fn poll_until_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, (Ended, End)>> {
        if let Some(input) = &mut self.input {
            match self.sending.poll_send(cx, input) {
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err((Ended::Cancelled, End::Failed(error))));
                }
                // A call that may be given back keeps its input.
                Poll::Ready(Ok(())) if self.started => self.input = None,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        loop {
            let received = match self.receiving.poll_next(cx) {
                Poll::Ready(received) => received,
                Poll::Pending => {
                    ready!(std::future::Future::poll(self.timer.as_mut(), cx));
                    return Poll::Ready(Err(self.broken(lost("it was not done in time"))));
                }
            };
            match received {
                Ok(Received::Message(message)) => match self.message(message) {
                    Ok(Some(event)) => return Poll::Ready(Ok(event)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(self.broken(error))),
                },
                Ok(Received::End(status)) => return Poll::Ready(Err(self.end(&status))),
                Err(error) => return Poll::Ready(Err(self.cut(&error))),
            }
        }
    }

    /// Takes in a message; what is none of the protocol's is ignored.
    fn message(&mut self, message: Bytes) -> Result<Option<Event>, ApiError> {
        if self.finished.is_some() {
            return Err(missing_eof());
        }
        let message = RunnerMsg::decode(message)
            .map_err(|error| lost(&format!("a message cannot be read: {error}")))?;
        match message.body {
            Some(runner_msg::Body::ResultStart(start)) if !self.started => {
                self.started = true;
                if let Some(input) = &mut self.input {
                    input.commit();
                }
                let meta = start.meta.map(|call_result_start::Meta::Http(http)| http);
                Ok(Some(Event::Start(meta.unwrap_or(HttpRespMeta {
                    status_code: 200,
                    headers: Vec::new(),
                }))))
            }
            Some(runner_msg::Body::Data(_)) if !self.started => {
                Err(lost("output came before the head of the answer"))
            }
            Some(runner_msg::Body::Data(frame)) if frame.data.is_empty() => Ok(None),
            Some(runner_msg::Body::Data(frame)) => Ok(Some(Event::Data(frame.data))),
            Some(runner_msg::Body::Finished(finished)) => {
                self.finished = Some(finished);
                Ok(None)
            }
            Some(runner_msg::Body::ResultStart(_)) | None => {
                tracing::debug!(runner = self.runner(), "a message of a runner is ignored");
                Ok(None)
            }
        }
    }

    /// The stream ended with a status.
    fn end(&mut self, status: &stream::GrpcStatus) -> (Ended, End) {
        if outcome::is_refusal(status.code) && !self.started {
            return (Ended::Refused, End::NotPlaced(NotPlaced::Refused));
        }
        match self.finished.take() {
            Some(finished) if status.code == stream::OK => self.outcome(&finished),
            Some(_) => self.broken(missing_eof().detail(&status.message)),
            None => self.broken(lost(&format!(
                "the call was not finished: status {} {}",
                status.code, status.message
            ))),
        }
    }

    /// The stream broke.
    fn cut(&mut self, error: &StreamError) -> (Ended, End) {
        let unsent = !self.sending.has_begun();
        if !self.started && self.finished.is_none() && (unsent || error.is_unprocessed()) {
            tracing::debug!(runner = self.runner(), %error, "a call did not reach a runner");
            return (Ended::Unreachable, End::NotPlaced(NotPlaced::Unreachable));
        }
        if self.finished.is_some() {
            return self.broken(missing_eof().detail(error));
        }
        self.broken(lost(&error.to_string()))
    }

    fn outcome(&mut self, finished: &CallFinished) -> (Ended, End) {
        let refused = !finished.success && outcome::is_refusal(finished.error_code);
        if refused && !self.started {
            return (Ended::Refused, End::NotPlaced(NotPlaced::Refused));
        }
        if outcome::is_runners_fault(finished) {
            return self.broken(outcome::error(finished));
        }
        let account = Account::of(finished);
        let done = Ended::Done {
            wait: account.scheduling,
            pulled: !account.image_pull.is_zero(),
            took: self.sent_at.elapsed(),
            execution: account.execution,
        };
        let end = match finished.success {
            true => End::Done(account),
            false => End::Failed(outcome::error(finished)),
        };
        (done, end)
    }

    /// The runner is at fault.
    fn broken(&self, error: ApiError) -> (Ended, End) {
        (Ended::Failed, End::Failed(error))
    }

    fn runner(&self) -> &str {
        self.running.as_ref().map_or("", Running::address)
    }
}

/// The original's error when a runner goes on after the end of a call.
fn missing_eof() -> ApiError {
    ApiError::with_message(ErrorCode::Internal, "Purerunner missing EOF response")
}

fn lost(why: &str) -> ApiError {
    ApiError::with_message(ErrorCode::Internal, RUNNER_LOST)
        .status_override(502)
        .detail(why)
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
