//! One call of a load balancer: its first message becomes a call of the agent, and the answer a
//! sequence of messages (spec/08 8.4).
//!
//! The stream of answers does all of the work, on the task of the HTTP/2 stream: no task and no
//! channel per call, and a load balancer that gives up, or vanishes, drops the call with the stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use futures_util::{FutureExt as _, Stream};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use nodekit::body::Body;
use nodekit::exchange::CallResponse;
use proto::runner::{
    CallResultStart, ClientMsg, DataFrame, HttpHeader, HttpRespMeta, RunnerMsg, call_result_start,
    client_msg, runner_msg,
};
use tokio::sync::oneshot;
use tonic::{Code, Status, Streaming};

use super::Shared;
use super::counters::Counted;
use super::finished::Record;
use super::input::Input;
use super::status_number;
use super::try_call::{Unreadable, Wanted};
use crate::agent::{Detached, output_error};

/// The largest piece of an answer.
const MAX_PIECE: usize = 10_240;
/// How long a load balancer may take from opening the stream to its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// A refusal must reach the load balancer before its own time is over.
const REFUSAL_LEAD: Duration = Duration::from_millis(500);
/// How much input of a detached call is read before it is begun: it must not depend on its load
/// balancer afterwards.
pub(super) const DETACHED_AHEAD: usize = 6 << 20;
/// The last piece of an input may be on its way when the function has answered.
const LAST_PIECE_GRACE: Duration = Duration::from_secs(1);

/// The answer to one call.
pub(super) struct Engagement {
    phase: Phase,
    /// Until the call is over.
    counted: Option<Counted>,
}

enum Phase {
    Running(Pin<Box<dyn Future<Output = Ran> + Send>>),
    Answering(Answering),
    Detached(Record, Input, oneshot::Receiver<Result<(), ApiError>>),
    Over,
}

struct Answering {
    record: Record,
    input: Input,
    output: Body,
    /// What was read of the output and does not fit into one message.
    rest: Bytes,
}

/// How far a call came before its answer.
enum Ran {
    Answer(Record, Input, CallResponse),
    Detached(Record, Input, Detached),
    Failed(Record, ApiError),
    /// The load balancer does not keep to the protocol, or is gone.
    Broken(Status),
}

impl Engagement {
    /// Answers `stream`, whose sender waits until `deadline`.
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: Streaming<ClientMsg>,
        deadline: Option<Instant>,
    ) -> Self {
        let counted = Counted::new(Arc::clone(&shared.counters));
        Self {
            phase: Phase::Running(Box::pin(run(shared, stream, deadline))),
            counted: Some(counted),
        }
    }

    /// The last message.
    fn finish(&mut self, record: &Record, error: Option<&ApiError>) -> RunnerMsg {
        if error.is_some_and(|error| error.code() == ErrorCode::ServerBusy) {
            self.refused();
        }
        self.over();
        message(runner_msg::Body::Finished(record.finished(error)))
    }

    fn break_off(&mut self, status: Status) -> Status {
        if status_number::is_busy(&status) {
            self.refused();
        }
        self.over();
        status
    }

    fn refused(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.refused();
        }
    }

    /// Before the load balancer can know of it.
    fn over(&mut self) {
        self.phase = Phase::Over;
        self.counted = None;
    }

    /// What the load balancer broke is not blamed on the function.
    fn fail(
        &mut self,
        record: &Record,
        input: &Input,
        error: &ApiError,
    ) -> Result<RunnerMsg, Status> {
        match input.broken() {
            Some(status) => Err(self.break_off(status)),
            None => Ok(self.finish(record, Some(error))),
        }
    }

    fn ran(&mut self, ran: Ran) -> Result<RunnerMsg, Status> {
        match ran {
            Ran::Answer(record, input, response) => {
                let start = result_start(StatusCode::OK, &response.headers);
                self.phase = Phase::Answering(Answering {
                    record,
                    input,
                    output: response.body,
                    rest: Bytes::new(),
                });
                Ok(start)
            }
            Ran::Detached(record, input, detached) => {
                self.phase = Phase::Detached(record, input, detached.end);
                Ok(result_start(StatusCode::ACCEPTED, &HeaderMap::new()))
            }
            Ran::Failed(record, error) => Ok(self.finish(&record, Some(&error))),
            Ran::Broken(status) => Err(self.break_off(status)),
        }
    }
}

impl Answering {
    /// The next piece of the output; nothing at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ApiError>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.output).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(output_error(error))),
                None => return Poll::Ready(Ok(None)),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(MAX_PIECE));
        Poll::Ready(Ok(Some(piece)))
    }
}

impl Stream for Engagement {
    type Item = Result<RunnerMsg, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = match &mut this.phase {
            Phase::Running(run) => {
                let ran = ready!(run.as_mut().poll(cx));
                this.ran(ran)
            }
            Phase::Answering(answering) => {
                let piece = ready!(answering.poll_piece(cx));
                if let Ok(Some(data)) = piece {
                    let frame = DataFrame { data, eof: false };
                    return Poll::Ready(Some(Ok(message(runner_msg::Body::Data(frame)))));
                }
                let Phase::Answering(over) = std::mem::replace(&mut this.phase, Phase::Over) else {
                    return Poll::Ready(None);
                };
                match piece {
                    Err(error) => this.fail(&over.record, &over.input, &error),
                    Ok(_) => Ok(this.finish(&over.record, None)),
                }
            }
            Phase::Detached(_, _, end) => {
                let ended = ready!(Pin::new(end).poll(cx));
                let Phase::Detached(record, input, _) =
                    std::mem::replace(&mut this.phase, Phase::Over)
                else {
                    return Poll::Ready(None);
                };
                let ended =
                    ended.unwrap_or_else(|_| Err(ApiError::internal("the runner has stopped")));
                match ended {
                    Err(error) => this.fail(&record, &input, &error),
                    Ok(()) => Ok(this.finish(&record, None)),
                }
            }
            Phase::Over => return Poll::Ready(None),
        };
        Poll::Ready(Some(next))
    }
}

fn message(body: runner_msg::Body) -> RunnerMsg {
    RunnerMsg { body: Some(body) }
}

fn result_start(status: StatusCode, headers: &HeaderMap) -> RunnerMsg {
    let headers = headers.iter().map(|(name, value)| HttpHeader {
        key: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    let head = HttpRespMeta {
        status_code: i32::from(status.as_u16()),
        headers: headers.collect(),
    };
    message(runner_msg::Body::ResultStart(CallResultStart {
        meta: Some(call_result_start::Meta::Http(head)),
    }))
}

async fn run(
    shared: Arc<Shared>,
    mut stream: Streaming<ClientMsg>,
    deadline: Option<Instant>,
) -> Ran {
    let mut record = Record::new();
    let first = record.arrived + FIRST_MESSAGE;
    let deadline = deadline.map(|deadline| earlier(deadline, record.arrived));
    let first = deadline.map_or(first, |deadline| deadline.min(first));
    let message = match tokio::time::timeout_at(first.into(), stream.message()).await {
        Ok(Ok(message)) => message,
        Ok(Err(status)) => return Ran::Broken(status),
        Err(_elapsed) => return Ran::Broken(status_number::busy()),
    };
    let Some(ClientMsg {
        body: Some(client_msg::Body::Try(message)),
    }) = message
    else {
        return Ran::Broken(Status::new(
            Code::Unknown,
            "Protocol failure: expected ClientMsg_Try",
        ));
    };
    let mut wanted = match Wanted::read(&shared, &message) {
        Ok(wanted) => wanted,
        Err(Unreadable { id, error }) => {
            record.id = id;
            return Ran::Failed(record, error);
        }
    };
    drop(message);
    record.id = Some(wanted.id.clone());
    record.image = wanted.target.spec.image.clone();
    let input = Input::new(stream);
    if wanted.detached {
        let ahead = input.read_ahead(DETACHED_AHEAD);
        let patience = [deadline, later(record.arrived, shared.settings.max_wait)];
        match patience.into_iter().flatten().min() {
            None => ahead.await,
            Some(patience) => {
                if tokio::time::timeout_at(patience.into(), ahead)
                    .await
                    .is_err()
                {
                    return Ran::Failed(record, ErrorCode::RequestBodyTimeout.into());
                }
            }
        }
        if let Some(status) = input.broken() {
            return Ran::Broken(status);
        }
    }
    let request = wanted.request(
        input.body(),
        record.arrived,
        deadline,
        shared.settings.max_wait,
    );
    let broken = {
        let input = input.clone();
        async move { input.breaks().await }
    };
    if wanted.detached {
        let submitted = tokio::select! {
            biased;
            submitted = shared.agent.submit_detached_watched(request) => submitted,
            status = broken => return Ran::Broken(status),
        };
        return match submitted {
            Ok(detached) => {
                record.started = Some(detached.started);
                Ran::Detached(record, input, detached)
            }
            Err(error) => failed(record, &input, error),
        };
    }
    let submitted = tokio::select! {
        biased;
        submitted = shared.agent.submit_watched(request, &mut record.started) => submitted,
        status = broken => return Ran::Broken(status),
    };
    match submitted {
        Ok(response) if wanted.early_answer => Ran::Answer(record, input, response),
        Ok(response) => answered(record, input, response).await,
        Err(error) => failed(record, &input, error),
    }
}

/// The time by which a refusal must be on its way.
fn earlier(deadline: Instant, arrived: Instant) -> Instant {
    let left = deadline.saturating_duration_since(arrived);
    arrived + left.saturating_sub(REFUSAL_LEAD.min(left / 10))
}

fn later(from: Instant, after: Option<Duration>) -> Option<Instant> {
    from.checked_add(after?)
}

/// A function that answers before it could have all of its input has failed.
async fn answered(record: Record, input: Input, response: CallResponse) -> Ran {
    if !input.is_complete() {
        // What comes of it is looked at below.
        let _ = tokio::time::timeout(LAST_PIECE_GRACE, input.ended()).await;
    }
    if input.is_complete() {
        return Ran::Answer(record, input, response);
    }
    failed(
        record,
        &input,
        ApiError::with_message(
            ErrorCode::FunctionResponseError,
            "function invoked write before receiving entire request",
        ),
    )
}

/// What the load balancer broke is not blamed on the function; and one that went away in the midst
/// of its input is told by that.
fn failed(record: Record, input: &Input, error: ApiError) -> Ran {
    // The last piece may have arrived unread.
    let _ = input.ended().now_or_never();
    if let Some(status) = input.broken() {
        return Ran::Broken(status);
    }
    let whole = input.is_complete() && !input.is_cut();
    if error.message() == ErrorCode::FunctionResponseError.text() && !whole {
        let error = ApiError::with_message(
            ErrorCode::FunctionResponseError,
            "function closed pipe while receiving request",
        );
        return Ran::Failed(record, error);
    }
    Ran::Failed(record, error)
}
