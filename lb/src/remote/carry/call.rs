//! One call among many on a stream, as its client knows it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use domain::{ApiError, Blame, ErrorCode};
use proto::carry::INITIAL_CREDIT;
use proto::runner::CallFinished;
use proto::runner_extension::Outcome;
use tokio::time::Instant;

use super::carrier::{Carrier, Place};
use super::slot::{Loss, Slot, Taken};
use crate::placement::Ended;
use crate::remote::asked::Asked;
use crate::remote::connection::InFlight;
use crate::remote::conversation::{End, Event, NotPlaced, lost};
use crate::remote::input::Input;
use crate::remote::outcome::{self, Account};
use crate::runners::Running;

/// The largest piece of an input, so that calls take turns.
const MAX_PIECE: usize = 16 << 10;

/// Credit is given in pieces of at least this size.
const GRANT: u64 = INITIAL_CREDIT / 2;

/// The call. Dropped before its end, it is cancelled.
pub(crate) struct CarriedCall {
    carrier: Arc<Carrier>,
    number: u64,
    slot: Arc<Slot>,
    /// None when it is sent, or was given back.
    input: Option<Input>,
    /// What is left of a piece that was read.
    piece: Bytes,
    /// All of the input is sent.
    sent: bool,
    started: bool,
    /// Output that was taken, for which no credit was given.
    taken: u64,
    /// Settled at the end; dropped before it, it says that the caller gave up.
    running: Option<Running>,
    sent_at: Instant,
    over: bool,
    _in_flight: InFlight,
}

impl CarriedCall {
    /// Begins the call with what is there of its input.
    ///
    /// # Errors
    /// The input broke.
    pub(crate) async fn begin(
        place: Place,
        asked: &Asked,
        mut input: Input,
        running: Running,
        deadline: Instant,
    ) -> Result<Self, ApiError> {
        let first = std::future::poll_fn(|cx| match input.poll_piece(cx) {
            // The rest is sent as it comes.
            Poll::Pending => Poll::Ready(Ok(None)),
            Poll::Ready(None) => Poll::Ready(Ok(Some(Bytes::new()))),
            Poll::Ready(Some(piece)) => Poll::Ready(piece.map(Some)),
        });
        let first = first.await?;
        let ended = first.as_ref().is_some_and(Bytes::is_empty);
        let mut piece = first.unwrap_or_default();
        let data = piece.split_to(piece.len().min(MAX_PIECE));
        let eof = ended || (!data.is_empty() && piece.is_empty() && input.is_over());
        let Place { carrier, in_flight } = place;
        let (number, slot) = carrier.begin(asked, &data, eof, deadline)?;
        Ok(Self {
            carrier,
            number,
            slot,
            input: Some(input),
            piece,
            sent: eof,
            started: false,
            taken: 0,
            running: Some(running),
            sent_at: Instant::now(),
            over: false,
            _in_flight: in_flight,
        })
    }

    /// The input of a call that was not placed.
    pub(crate) fn give_back(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Whether the rest of the answer is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.slot.is_over()
    }

    /// Sends what can be sent, and says what the runner does next. Nothing follows the end.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let taken = loop {
            let stalled = match self.send(cx) {
                Ok(stalled) => stalled,
                Err(error) => {
                    self.carrier.cancel(self.number);
                    return Poll::Ready(self.end(Ended::Cancelled, End::Failed(error)));
                }
            };
            match self.slot.poll_take(cx) {
                Poll::Ready(taken) => break taken,
                // What it waited for may have come before it could be woken.
                Poll::Pending if stalled && self.can_send() => {}
                Poll::Pending => return Poll::Pending,
            }
        };
        Poll::Ready(match taken {
            Taken::Head(head) => {
                self.started = true;
                if let Some(input) = &mut self.input {
                    input.commit();
                }
                if self.sent {
                    self.input = None;
                }
                Event::Start(head)
            }
            Taken::Data(data) => {
                self.taken += data.len() as u64;
                if self.taken >= GRANT && !self.slot.is_over() {
                    let taken = std::mem::take(&mut self.taken);
                    self.slot.widen(taken);
                    self.carrier.send_credit(self.number, taken);
                }
                Event::Data(data)
            }
            Taken::Outcome(outcome) => {
                let (how, end) = self.outcome(outcome);
                self.end(how, end)
            }
            Taken::Lost(Loss::NotBegun) if !self.started => {
                self.end(Ended::Unreachable, End::NotPlaced(NotPlaced::Unreachable))
            }
            Taken::Lost(Loss::NotBegun) => {
                self.end(Ended::Failed, End::Failed(lost("the stream has ended")))
            }
            Taken::Lost(Loss::Begun(why)) => self.end(Ended::Failed, End::Failed(lost(&why))),
        })
    }

    fn end(&mut self, how: Ended, end: End) -> Event {
        self.over = true;
        if let Some(running) = self.running.take() {
            running.settle(how);
        }
        Event::End(end)
    }

    fn can_send(&self) -> bool {
        self.slot.credit() > 0 && !self.carrier.is_full()
    }

    /// Sends the input as far as there is credit and room; whether more of either is needed.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, ApiError> {
        while !self.sent {
            let Some(input) = &mut self.input else {
                return Ok(false);
            };
            let credit = self.slot.credit();
            if credit == 0 {
                return Ok(true);
            }
            if self.piece.is_empty() {
                match input.poll_piece(cx) {
                    Poll::Ready(Some(piece)) => self.piece = piece?,
                    Poll::Ready(None) => {}
                    Poll::Pending => return Ok(false),
                }
            }
            let most = usize::try_from(credit).unwrap_or(usize::MAX).min(MAX_PIECE);
            let data = self.piece.slice(..self.piece.len().min(most));
            let eof = data.len() == self.piece.len() && (data.is_empty() || input.is_over());
            if !self.carrier.send_piece(self.number, &self.slot, &data, eof) {
                return Ok(true);
            }
            self.slot.spend(data.len());
            self.piece = self.piece.slice(data.len()..);
            self.sent = eof;
        }
        if self.started {
            self.input = None;
        }
        Ok(false)
    }

    /// The runner says how the call ended.
    fn outcome(&self, told: Outcome) -> (Ended, End) {
        if told.refused && !self.started {
            return (Ended::Refused, End::NotPlaced(NotPlaced::Refused));
        }
        let code = ErrorCode::named(&told.error);
        let finished = CallFinished {
            success: told.error.is_empty() && !told.refused,
            error_code: told.error_status,
            error_user: code.is_some_and(|code| code.blame() == Blame::User),
            error_str: told.error_text,
            ..CallFinished::default()
        };
        let error = || {
            let error = outcome::error(&finished);
            match code {
                Some(code) => {
                    ApiError::with_message(code, error.message()).status_override(error.status())
                }
                None => error,
            }
        };
        if outcome::is_runners_fault(&finished) {
            return (Ended::Failed, End::Failed(error()));
        }
        let nanos = std::time::Duration::from_nanos;
        let account = Account {
            scheduling: nanos(told.scheduling),
            execution: nanos(told.execution),
            image_pull: nanos(told.image_pull),
            container_create: nanos(told.container_create),
            container_init: nanos(told.container_init),
        };
        let done = Ended::Done {
            wait: account.scheduling,
            pulled: !account.image_pull.is_zero(),
            took: self.sent_at.elapsed(),
            execution: account.execution,
        };
        let end = match finished.success {
            true => End::Done(account),
            false => End::Failed(error()),
        };
        (done, end)
    }
}

impl Drop for CarriedCall {
    fn drop(&mut self) {
        if !self.over {
            self.carrier.cancel(self.number);
        }
    }
}
