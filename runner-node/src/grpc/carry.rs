//! Many calls on one stream: hands what comes to the call that it is for, and sends what the calls
//! have to say.
//!
//! A load balancer reads this stream always, and holds back a call by its credit: so a client that
//! reads slowly stops its own call and no other.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use futures_util::Stream;
use nodekit::exchange::Target;
use proto::carry::{MAX_CALLS, MAX_FUNCTIONS};
use proto::runner_extension::{Begin, CarryIn, CarryOut, carry_in};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

use super::Shared;
use super::carried_call::{CarriedCall, OutputCredit};
use super::carried_input::CarriedInput;
use super::try_call::new_target;

/// Messages that wait for the stream; the calls wait when it is full.
const WAITING: usize = 64;
/// Messages that are read in a row before one is sent.
const BATCH: usize = 64;

/// With so many calls the load balancer does not even listen to refusals.
const MOST_REFUSED: usize = 2 * MAX_CALLS;

/// The answers on one stream.
pub(super) struct Carrier {
    shared: Arc<Shared>,
    /// Until the load balancer has no more to say.
    stream: Option<Streaming<CarryIn>>,
    calls: HashMap<u64, Running>,
    /// The calls' tasks; they end with the stream.
    tasks: JoinSet<u64>,
    /// The functions that were named, by the load balancer's key; also those that cannot be called.
    functions: HashMap<Bytes, Result<Arc<Target>, ApiError>>,
    out: mpsc::Sender<CarryOut>,
    ready: mpsc::Receiver<CarryOut>,
    /// The runner takes no more calls.
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
}

/// The stream's side of a call.
struct Running {
    input: CarriedInput,
    credit: Arc<OutputCredit>,
    task: AbortHandle,
}

impl Carrier {
    /// Carries the calls of `stream`.
    pub(super) fn new(shared: Arc<Shared>, stream: Streaming<CarryIn>) -> Self {
        let (out, ready) = mpsc::channel(WAITING);
        Self {
            draining: Box::pin(shared.agent.closing().cancelled_owned()),
            shared,
            stream: Some(stream),
            calls: HashMap::new(),
            tasks: JoinSet::new(),
            functions: HashMap::new(),
            out,
            ready,
            over: false,
        }
    }

    /// Reads what has come; there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..BATCH {
            let Some(stream) = &mut self.stream else {
                return Ok(());
            };
            match Pin::new(stream).poll_next(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(message)) => self.take(message?)?,
                Poll::Ready(None) => {
                    self.stream = None;
                    for call in self.calls.values() {
                        call.input.break_off();
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn take(&mut self, message: CarryIn) -> Result<(), Status> {
        let number = message.call;
        match message.body {
            Some(carry_in::Body::Begin(begin)) => self.begin(number, begin),
            Some(carry_in::Body::Piece(piece)) => match self.calls.get(&number) {
                Some(call) => overrun(call.input.push(piece.data, piece.eof)),
                // It is over, and the load balancer does not know it yet.
                None => Ok(()),
            },
            Some(carry_in::Body::Cancel(_)) => {
                if let Some(call) = self.calls.remove(&number) {
                    call.task.abort();
                }
                Ok(())
            }
            Some(carry_in::Body::Credit(credit)) => {
                if let Some(call) = self.calls.get(&number) {
                    call.credit.add(credit.bytes);
                }
                Ok(())
            }
            None => Err(Status::invalid_argument("body: missing")),
        }
    }

    fn begin(&mut self, number: u64, mut begin: Begin) -> Result<(), Status> {
        if self.calls.contains_key(&number) {
            return Err(Status::invalid_argument(
                "call: there is one of this number",
            ));
        }
        // What is named is remembered, whatever becomes of this call.
        let target = self.target(&begin)?;
        if self.calls.len() >= MOST_REFUSED {
            return Err(Status::resource_exhausted("too many calls on a stream"));
        }
        let target = match self.calls.len() < MAX_CALLS {
            true => target,
            false => Err(ErrorCode::ServerBusy.into()),
        };
        let input = CarriedInput::new();
        let credit = Arc::new(OutputCredit::new());
        overrun(input.push(std::mem::take(&mut begin.data), begin.eof))?;
        let call = CarriedCall {
            shared: Arc::clone(&self.shared),
            number,
            target,
            begin,
            input: input.clone(),
            credit: Arc::clone(&credit),
            out: self.out.clone(),
        };
        let task = self.tasks.spawn(call.run());
        let running = Running {
            input,
            credit,
            task,
        };
        self.calls.insert(number, running);
        Ok(())
    }

    /// Whether the load balancer, or the runner, wants no more calls.
    fn no_more_calls(&mut self, cx: &mut Context<'_>) -> bool {
        self.stream.is_none() || self.over || self.draining.as_mut().poll(cx).is_ready()
    }

    /// The function of a call, which is described in its first call on this stream.
    fn target(&mut self, begin: &Begin) -> Result<Result<Arc<Target>, ApiError>, Status> {
        if let Some(target) = self.functions.get(&begin.slot_key) {
            return Ok(target.clone());
        }
        if begin.function_json.is_empty() {
            return Err(Status::invalid_argument("function_json: missing"));
        }
        if self.functions.len() >= MAX_FUNCTIONS {
            return Err(Status::resource_exhausted("too many functions on a stream"));
        }
        let target = new_target(&self.shared, &begin.function_json);
        // A copy: a slice would keep the whole message.
        let key = Bytes::copy_from_slice(&begin.slot_key);
        self.functions.insert(key, target.clone());
        Ok(target)
    }
}

fn overrun(pushed: Result<(), super::carried_input::Overrun>) -> Result<(), Status> {
    pushed.map_err(|overrun| Status::resource_exhausted(overrun.to_string()))
}

impl Stream for Carrier {
    type Item = Result<CarryOut, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Err(status) = this.read(cx) {
            this.over = true;
            this.tasks.abort_all();
            return Poll::Ready(Some(Err(status)));
        }
        while let Poll::Ready(Some(ended)) = this.tasks.poll_join_next(cx) {
            // One that was cancelled has been forgotten before.
            if let Ok(number) = ended {
                this.calls.remove(&number);
            }
        }
        match this.ready.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            _ if this.tasks.is_empty() && this.no_more_calls(cx) => {
                this.over = true;
                Poll::Ready(None)
            }
            _ => Poll::Pending,
        }
    }
}
