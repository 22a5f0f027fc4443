//! One leased call: a container, the word that the lease holds, the execution, the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::call::{AttemptEnd, AttemptOutcome, Fault, LeaseRef, LeasedCall};
use domain::{ApiError, ErrorCode};
use http::header::{EXPECT, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use nodekit::exchange::{CallRequest, CallResult};
use nodekit::fail_point::{Step, fail_point};
use nodekit::{body, hop, trigger_headers};
use tokio::sync::oneshot;
use tokio::time::{Instant as Time, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::Shared;
use super::held::Seat;
use super::leases::{HeldLease, Stop};
use super::metrics::word;
use super::outcome;
use super::pause::Pauses;
use crate::agent::Witness;

static FN_ATTEMPT: HeaderName = HeaderName::from_static("fn-attempt");

/// The longest that one question takes while a container waits for the answer.
const START_LIMIT: Duration = Duration::from_secs(2);
/// The longest that a report waits for the log.
const LOG_LIMIT: Duration = Duration::from_secs(1);
/// The longest that one report takes.
const REPORT_LIMIT: Duration = Duration::from_secs(10);
/// A report is given up when the lease should have been over for long: so many leases, and not less
/// than the shortest time.
const REPORT_LEASES: u32 = 4;
const SHORTEST_REPORTING: Duration = Duration::from_secs(120);
/// An answer that was refused so often, by a node that works, is refused for good.
const REFUSALS: u32 = 2;
/// What is left for reports when the runner ends.
pub(super) const LAST_REPORTS: Duration = Duration::from_secs(2);

/// What the record says of calls that the end of their runner cut off.
const CLOSING: &str = "the runner was stopped";
/// What it says of answers that could not be written down.
const NOT_KEPT: &str = "the function's answer could not be kept";

/// A call that is in hand.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) call: LeasedCall,
    pub(super) held: HeldLease,
    pub(super) stop: oneshot::Receiver<Stop>,
    /// Its place among the calls in hand.
    pub(super) seat: Seat,
}

impl Job {
    /// Runs it and reports what came of it.
    pub(super) async fn run(self) {
        let Self {
            shared,
            call,
            held,
            mut stop,
            seat,
        } = self;
        let outcome = tokio::select! {
            biased;
            // What is done is done, whatever the clock says: whether it counts is for the API node.
            outcome = attempt(&shared, &call) => match outcome {
                Some(outcome) => outcome,
                None => {
                    debug!(lease = %call.lease, "durable call is not ours any more");
                    shared.metrics.lost.inc();
                    return shared.metrics.finished("stopped");
                }
            },
            why = stopped(&mut stop) => match why {
                // Its container has been told by the drop of the call.
                Stop::Cancelled | Stop::Lost => {
                    debug!(lease = %call.lease, ?why, "durable call is stopped");
                    return shared.metrics.finished("stopped");
                }
                Stop::Closing => AttemptOutcome::Failed {
                    fault: Fault::Platform,
                    crashed: false,
                    retry_after: None,
                    error: CLOSING.to_owned(),
                },
            },
        };
        held.reporting();
        fail_point(Step::AnswerBeforeFinish);
        let end = AttemptEnd {
            lease: call.lease,
            outcome,
        };
        tokio::select! {
            biased;
            // What is cancelled needs no report, and would be refused one.
            () = cancelled(&mut stop) => shared.metrics.finished("stopped"),
            () = report(&shared, end, call.lease_for) => {}
        }
        drop(seat);
    }
}

/// Waits for the word to stop.
async fn stopped(stop: &mut oneshot::Receiver<Stop>) -> Stop {
    if stop.is_terminated() {
        return std::future::pending().await;
    }
    match stop.await {
        Ok(why) => why,
        // The sender lives as long as the lease is held, unless it has been used.
        Err(_) => std::future::pending().await,
    }
}

/// Waits for the word that somebody cancelled it.
async fn cancelled(stop: &mut oneshot::Receiver<Stop>) {
    if stopped(stop).await != Stop::Cancelled {
        std::future::pending().await
    }
}

/// Where the fence stands.
#[derive(Default)]
struct Fence {
    /// The lease was confirmed: the function may see the call.
    passed: AtomicBool,
    /// The last question was not answered with yes.
    refused: AtomicBool,
}

impl Fence {
    /// Asks whether the lease holds, unless that is known.
    async fn pass(&self, shared: &Shared, lease: &LeaseRef) -> Result<(), ApiError> {
        if self.passed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.refused.store(true, Ordering::Relaxed);
        let asked = shared.source.start(&shared.runner_id, lease.clone());
        let late = |_| Err(ErrorCode::StoreUnavailable.into());
        timeout(START_LIMIT, asked).await.unwrap_or_else(late)?;
        self.refused.store(false, Ordering::Relaxed);
        self.passed.store(true, Ordering::Relaxed);
        fail_point(Step::StartBeforeSend);
        shared.metrics.started.inc();
        Ok(())
    }
}

/// One execution; nothing if the lease turned out to be lost.
async fn attempt(shared: &Shared, call: &LeasedCall) -> Option<AttemptOutcome> {
    let target = shared.targets.of(&call.snapshot);
    let headers = request_headers(call);
    let trigger = trigger_headers::is_trigger_call(&headers);
    let arrived = Instant::now();
    let fence = Fence::default();
    let mut pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let request = CallRequest {
            id: call.lease.call_id.clone(),
            target: Arc::clone(&target),
            headers: headers.clone(),
            body: body::full(call.body.clone()),
            arrived,
            wait_deadline: arrived.checked_add(shared.settings.max_wait),
            detached: false,
        };
        let mut witness = None;
        let ask = || fence.pass(shared, &call.lease);
        let answer: CallResult = tokio::select! {
            biased;
            () = given_back(shared, &fence) => return Some(AttemptOutcome::Returned),
            answer = shared.agent.submit_fenced(request, &call.lease, ask, &mut witness) => answer,
        };
        let outcome = match answer {
            Ok(response) => {
                outcome::answered(response, trigger, shared.settings.max_result_bytes).await
            }
            Err(error) if fence.refused.swap(false, Ordering::Relaxed) => {
                if error.code() == ErrorCode::CallLeaseLost {
                    return None;
                }
                debug!(lease = %call.lease, ?error, "it is not known whether the lease holds");
                // Until the lease is over by this runner's clock, which stops the call.
                tokio::select! {
                    () = sleep(pauses.next()) => {}
                    () = shared.draining.cancelled() => return Some(AttemptOutcome::Returned),
                }
                continue;
            }
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(outcome) => {
                shared.engine.works();
                outcome
            }
            // A node that is full or ends gives it back, and that is nobody's fault.
            Err(error) if error.code() == ErrorCode::ServerBusy && no_room(shared, arrived) => {
                AttemptOutcome::Returned
            }
            Err(error) => {
                shared.engine.failed(&error);
                outcome::failed(error, witness.as_ref()).await
            }
        };
        if let Some(witness) = &witness {
            send_log(shared, &call.lease, witness).await;
        }
        return Some(outcome);
    }
}

/// Whether a call that found no container has waited for one as long as it may, or the node ends. Else
/// one could not be started.
fn no_room(shared: &Shared, arrived: Instant) -> bool {
    shared.draining.is_cancelled() || arrived.elapsed() >= shared.settings.max_wait
}

/// Sees to it that what the function has printed is sent before the end of its call is reported, if that
/// can be had soon.
async fn send_log(shared: &Shared, lease: &LeaseRef, witness: &Witness) {
    let (Some(logs), Some(log)) = (shared.agent.logs(), witness.log()) else {
        return;
    };
    log.settled().await;
    if let Some(mark) = log.mark_of(lease) {
        // What is later than that is sent all the same.
        let _ = timeout(LOG_LIMIT, logs.sent(mark)).await;
    }
}

/// Completes when the runner takes no more work and the function has not seen the call.
async fn given_back(shared: &Shared, fence: &Fence) {
    shared.draining.cancelled().await;
    if fence.passed.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// What the function sees of the request.
fn request_headers(call: &LeasedCall) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in call.headers.iter() {
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(&value),
        ) else {
            continue;
        };
        if headers.try_append(name, value).is_err() {
            // A map can be full.
            break;
        }
    }
    hop::strip(&mut headers);
    headers.remove(HOST);
    headers.remove(EXPECT);
    // The platform's word wins; in a full map it is left out like others.
    let _ = headers.try_insert(&FN_ATTEMPT, HeaderValue::from(call.attempt));
    headers
}

/// Reports what came of an attempt, until it is known whether it counts: a report that is lost costs
/// another execution. An answer that cannot be kept is the function's failure: it must not run for ever.
async fn report(shared: &Shared, mut end: AttemptEnd, lease_for: Duration) {
    let patience = (REPORT_LEASES * lease_for).max(SHORTEST_REPORTING);
    let give_up = Time::now() + patience;
    let mut pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(5));
    let lease = end.lease.clone();
    let outcome = word(&end.outcome);
    let mut refusals = 0;
    let reporting = async {
        loop {
            let told = shared.source.finish(&shared.runner_id, end.clone());
            match timeout(REPORT_LIMIT, told).await {
                Ok(Ok(true)) => return shared.metrics.finished(word(&end.outcome)),
                Ok(Ok(false)) => return refused(shared, &end.lease),
                Ok(Err(error)) if error.code() == ErrorCode::CallLeaseLost => {
                    return refused(shared, &end.lease);
                }
                Ok(Err(error)) if !error.code().retryable() => {
                    warn!(lease = %end.lease, ?error, "report was refused");
                    refusals += 1;
                    if refusals == REFUSALS
                        && matches!(end.outcome, AttemptOutcome::Answered { .. })
                    {
                        end.outcome = not_kept();
                        continue;
                    }
                }
                Ok(Err(error)) => debug!(lease = %end.lease, ?error, "report failed"),
                Err(_) => debug!(lease = %end.lease, "report took too long"),
            }
            sleep(pauses.next()).await;
        }
    };
    let given_up = async {
        tokio::select! {
            () = sleep_until(give_up) => {}
            () = async {
                shared.closing.cancelled().await;
                sleep(LAST_REPORTS).await;
            } => {}
        }
    };
    tokio::select! {
        () = reporting => {}
        () = given_up => {
            warn!(%lease, outcome, "the end of a durable call could not be reported: it will run again");
            shared.metrics.finished("unreported");
        }
    }
}

/// What is reported of an answer that the API node does not take.
fn not_kept() -> AttemptOutcome {
    AttemptOutcome::Failed {
        fault: Fault::Function,
        crashed: false,
        retry_after: None,
        error: NOT_KEPT.to_owned(),
    }
}

fn refused(shared: &Shared, lease: &LeaseRef) {
    debug!(%lease, "the end of a durable call does not count: its lease was over");
    shared.metrics.lost.inc();
    shared.metrics.finished("stopped");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::tests::leased;

    #[test]
    fn the_function_sees_the_kept_headers_and_the_number_of_the_attempt() {
        let mut call = leased("c", 3, "echo");
        call.attempt = 2;
        for (name, value) in [
            ("X-A", &b"1"[..]),
            ("x-a", b"\xff"),
            ("fn-attempt", b"99"),
            ("host", b"h"),
            ("connection", b"x-hop"),
            ("x-hop", b"1"),
            ("bad name", b"1"),
            ("bad-value", b"\n"),
        ] {
            call.headers.push(name, value);
        }
        let headers = request_headers(&call);
        let values = |name| {
            let values = headers.get_all(name).iter();
            values
                .map(|value| value.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(values("x-a"), [b"1".to_vec(), b"\xff".to_vec()]);
        assert_eq!(values("fn-attempt"), [b"2".to_vec()]);
        for gone in ["host", "connection", "x-hop", "bad-value"] {
            assert!(values(gone).is_empty(), "{gone}");
        }
    }
}
