//! One dequeue on the side of the API node: credits go to the source of work, and work to the
//! runner, at the pace at which it reads.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use domain::ApiError;
use domain::call::{AttemptEnd, AttemptOutcome, LeaseRef};
use futures_util::{Stream, stream};
use hybrid_client::{Dequeue, Work, WorkSource};
use proto::calls::dequeue_request::What as Asked;
use proto::calls::{DequeueReply, DequeueRequest, dequeue_reply};
use proto::calls_messages::{lease_message, leased_call_message};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{refused, request};
use crate::calls::MAX_CREDITS;

/// How long what was claimed is waited for after the last credit.
const LAST_WORK: Duration = Duration::from_secs(5);

/// The state of a dequeue.
pub(super) struct Delivery {
    /// None when no more credits are taken.
    inflow: Option<Inflow>,
    /// Granted, and not passed on yet.
    granted: u32,
    /// Granted, and not used up.
    credits: u32,
    work: Undelivered,
    stop: CancellationToken,
    /// When the wait for the last work ends, once it has begun.
    until: Option<Instant>,
}

/// Where credits come from, and where they go.
struct Inflow {
    requests: Streaming<DequeueRequest>,
    credits: mpsc::Sender<u32>,
}

/// What happens next.
enum Event {
    /// The credits that were granted are passed on.
    Passed,
    Asked(Option<DequeueRequest>),
    Work(Option<Work>),
    /// There will be no more credits.
    Last,
    Broken(Status),
    End,
}

impl Delivery {
    pub(super) fn new(
        requests: Streaming<DequeueRequest>,
        dequeue: Dequeue,
        source: Arc<dyn WorkSource>,
        runner_id: Arc<str>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inflow: Some(Inflow {
                requests,
                credits: dequeue.credits,
            }),
            granted: 0,
            credits: 0,
            work: Undelivered {
                work: dequeue.work,
                source,
                runner_id,
            },
            stop,
            until: None,
        }
    }

    /// What the runner is sent.
    pub(super) fn replies(self) -> impl Stream<Item = Result<DequeueReply, Status>> + Send {
        stream::unfold(Some(self), async |delivery| {
            let mut delivery = delivery?;
            match delivery.next().await {
                Ok(Some(reply)) => Some((Ok(reply), Some(delivery))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<DequeueReply>, Status> {
        loop {
            match self.event().await {
                Event::Passed => self.granted = 0,
                Event::Asked(Some(request)) => self.granted = self.grant(request)?,
                Event::Asked(None) | Event::Last => {
                    self.inflow = None;
                    self.until = Some(Instant::now() + LAST_WORK);
                }
                Event::Work(Some(work)) => return self.reply(&work).map(Some),
                Event::Work(None) | Event::End => return Ok(None),
                Event::Broken(status) => return Err(status),
            }
        }
    }

    async fn event(&mut self) -> Event {
        let (granted, until) = (self.granted, self.until);
        let asked = async {
            match &mut self.inflow {
                Some(inflow) if granted > 0 => match inflow.credits.send(granted).await {
                    Ok(()) => Event::Passed,
                    Err(_) => Event::Last,
                },
                Some(inflow) => match inflow.requests.message().await {
                    Ok(request) => Event::Asked(request),
                    Err(status) => Event::Broken(status),
                },
                None => match until {
                    Some(until) => {
                        sleep_until(until).await;
                        Event::End
                    }
                    None => pending().await,
                },
            }
        };
        let stopped = async {
            match until {
                None => self.stop.cancelled().await,
                Some(_) => pending().await,
            }
        };
        tokio::select! {
            () = stopped => Event::Last,
            work = self.work.work.recv() => Event::Work(work),
            asked = asked => asked,
        }
    }

    /// The credits that `request` grants.
    fn grant(&mut self, request: DequeueRequest) -> Result<u32, Status> {
        match request.what {
            Some(Asked::Credits(0)) => Err(request::missing("credits")),
            Some(Asked::Credits(more)) => {
                let credits = self.credits.saturating_add(more);
                if credits > MAX_CREDITS {
                    let text = format!("credits: must be at most {MAX_CREDITS} in all");
                    return Err(Status::invalid_argument(text));
                }
                self.credits = credits;
                Ok(more)
            }
            Some(Asked::Hello(_)) => Err(Status::invalid_argument("hello: was said before")),
            // A newer runner asks for something that is not known here.
            None => Ok(0),
        }
    }

    fn reply(&mut self, work: &Work) -> Result<DequeueReply, Status> {
        let what = match work {
            Work::Run(call) => {
                self.credits = self.credits.saturating_sub(1);
                let message = leased_call_message(call);
                let message = message.map_err(|error| refused(ApiError::internal(error)))?;
                dequeue_reply::What::Call(message)
            }
            Work::Cancelled(lease) => dequeue_reply::What::Cancelled(lease_message(lease)),
        };
        Ok(DequeueReply { what: Some(what) })
    }
}

/// Work that was not sent yet. Calls that are left when the runner is gone are given back at once,
/// not when their leases run out: no function has seen them.
struct Undelivered {
    work: mpsc::Receiver<Work>,
    source: Arc<dyn WorkSource>,
    runner_id: Arc<str>,
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        self.work.close();
        let mut left = Vec::new();
        while let Ok(work) = self.work.try_recv() {
            if let Work::Run(call) = work {
                left.push(call.lease);
            }
        }
        if left.is_empty() {
            return;
        }
        let (source, runner_id) = (Arc::clone(&self.source), Arc::clone(&self.runner_id));
        // Without a runtime the process ends, and the leases run out.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(give_back(source, runner_id, left));
        }
    }
}

async fn give_back(source: Arc<dyn WorkSource>, runner_id: Arc<str>, leases: Vec<LeaseRef>) {
    for lease in leases {
        let end = AttemptEnd {
            lease,
            outcome: AttemptOutcome::Returned,
        };
        if let Err(error) = source.finish(&runner_id, end).await {
            tracing::warn!(
                ?error,
                "a call that was not sent waits for its lease to run out"
            );
        }
    }
}
