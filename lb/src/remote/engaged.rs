//! A call that has a stream of its own, `Engage`: what its runner says, taken in message by message,
//! and to what end (spec/08 8.3).
//!
//! From the moment the first byte is handed to the connection the call belongs to the runner, unless
//! the runner gives it back, or says that it never looked at it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use prost::Message as _;
use proto::runner::{CallFinished, HttpRespMeta, RunnerMsg, call_result_start, runner_msg};
use tokio::time::{Instant, Sleep};

use super::connection::{InFlight, Opened};
use super::conversation::{End, Event, Head, NotPlaced, lost};
use super::input::Input;
use super::outcome::{self, Account};
use super::sending::Sending;
use super::stream::{self, Received, Receiving, StreamError};
use crate::placement::Ended;
use crate::runners::Running;

/// A call on its own stream.
pub(crate) struct Engaged {
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
    timer: Pin<Box<Sleep>>,
}

impl Engaged {
    /// Begins the call on a stream with its encoded first message.
    pub(super) fn new(
        opened: Opened,
        first: &Bytes,
        input: Input,
        running: Running,
        deadline: Instant,
    ) -> Self {
        Self {
            sending: Sending::new(opened.send, first),
            receiving: opened.receive,
            input: Some(input),
            _in_flight: opened.in_flight,
            started: false,
            finished: None,
            running: Some(running),
            sent_at: Instant::now(),
            timer: Box::pin(tokio::time::sleep_until(deadline)),
        }
    }

    /// The input of a call that was not placed.
    pub(super) fn give_back(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Sends what can be sent, and says what the runner does next. Nothing follows the end.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
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
                    ready!(self.timer.as_mut().poll(cx));
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
                Ok(Some(Event::Start(
                    meta.as_ref().map_or_else(Head::default, head),
                )))
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

fn head(meta: &HttpRespMeta) -> Head {
    let headers = meta.headers.iter();
    Head::new(
        meta.status_code,
        headers.map(|header| (header.key.as_bytes(), header.value.as_bytes())),
    )
}

/// The original's error when a runner goes on after the end of a call.
fn missing_eof() -> ApiError {
    ApiError::with_message(ErrorCode::Internal, "Purerunner missing EOF response")
}
