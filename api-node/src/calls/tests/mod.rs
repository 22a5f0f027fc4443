//! The service of calls on a real database, with the queue of one process: what every test of it
//! starts with.

mod callbacks;
mod direct;
mod fairness;
mod faults;
mod life;
mod messages;
mod nodes;
mod upgrade;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::call::{
    AttemptEnd, AttemptOutcome, CallHeaders, CallOptions, CallResult, Fault, LeaseRef, LeasedCall,
    NewCall,
};
use domain::{ApiError, CallId, CallRecord, CallState, ErrorCode, Func, IdSource};
use hybrid_client::{CallPlane, Dequeue, LogChunk, Work, WorkSource};
use nodekit::metrics::Metrics;
use tokio::time::{Instant, timeout};

use super::{Calls, CallsMetrics, CallsParts, CallsSettings};
use crate::logs;
use crate::queue::{Consumer, EmbeddedQueue, Queue, QueueMetrics};
use crate::store::tests::{Fixture, contract};
use crate::store::{Doorbell, Store, wall_clock};

/// What has to happen, happens within this time.
const SOON: Duration = Duration::from_secs(30);

/// A queue whose broker can go away.
struct Switched {
    queue: EmbeddedQueue,
    up: AtomicBool,
    empty_at: Mutex<Option<Instant>>,
}

impl Switched {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: EmbeddedQueue::new(QueueMetrics::new(&mut Metrics::new())),
            up: AtomicBool::new(true),
            empty_at: Mutex::default(),
        })
    }

    /// It loses its one message.
    async fn lose_a_message(&self) {
        let mut consumer = self.queue.consume().await.expect("a consumer");
        consumer.set_prefetch(1);
        let message = timeout(SOON, consumer.next()).await;
        let message = message.expect("it comes in time").expect("it is open");
        message.receipt.ack();
        *self.empty_at.lock().expect("unpoisoned") = Some(Instant::now());
    }

    fn switch(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }
}

#[async_trait]
impl Queue for Switched {
    async fn publish(&self, doorbells: &[Doorbell]) -> Vec<bool> {
        if self.is_up() {
            self.queue.publish(doorbells).await
        } else {
            vec![false; doorbells.len()]
        }
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, ApiError> {
        self.queue.consume().await
    }

    fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst) && self.queue.is_up()
    }

    fn empty_at(&self) -> Option<Instant> {
        *self.empty_at.lock().expect("unpoisoned")
    }

    async fn close(&self) {
        self.queue.close().await;
    }
}

/// An API node, as far as calls go.
struct Node {
    calls: Calls,
    metrics: CallsMetrics,
}

impl Node {
    async fn new(f: &Fixture) -> Self {
        Self::with(f, CallsSettings::default()).await
    }

    async fn with(f: &Fixture, settings: CallsSettings) -> Self {
        let queue = EmbeddedQueue::new(QueueMetrics::new(&mut Metrics::new()));
        Self::on(&f.store, Arc::new(queue), settings).await
    }

    async fn on(store: &Arc<dyn Store>, queue: Arc<dyn Queue>, settings: CallsSettings) -> Self {
        static PROCESS: AtomicU64 = AtomicU64::new(1);
        let metrics = CallsMetrics::new(&mut Metrics::new());
        let logs = logs::open("", store.clone()).await;
        let calls = Calls::start(CallsParts {
            store: Arc::clone(store),
            queue,
            logs: logs.expect("the logs open"),
            ids: Arc::new(IdSource::new(PROCESS.fetch_add(1, Ordering::Relaxed))),
            settings,
            metrics: metrics.clone(),
        });
        Self { calls, metrics }
    }

    async fn enqueue(&self, func: &Func, options: CallOptions) -> CallId {
        let accepted = self.calls.enqueue(new_call(func, options)).await;
        accepted.expect("it is accepted").id
    }

    /// A runner that has granted `credits`.
    async fn runner(&self, name: &str, capacity: u32, credits: u32) -> Runner {
        let dequeue = self.calls.dequeue(name.into(), capacity).await;
        let runner = Runner {
            name: name.to_owned(),
            calls: self.calls.clone(),
            dequeue: dequeue.expect("a stream"),
        };
        runner.grant(credits).await;
        runner
    }

    async fn record(&self, id: &CallId) -> CallRecord {
        self.calls.store().call(id).await.expect("it is known")
    }
}

/// A runner, as the service sees it.
struct Runner {
    name: String,
    calls: Calls,
    dequeue: Dequeue,
}

impl Runner {
    async fn grant(&self, credits: u32) {
        let granted = self.dequeue.credits.send(credits).await;
        granted.expect("the stream is open");
    }

    async fn work(&mut self) -> Work {
        let work = timeout(SOON, self.dequeue.work.recv()).await;
        work.expect("it comes in time").expect("the stream is open")
    }

    /// The next call.
    async fn next(&mut self) -> LeasedCall {
        match self.work().await {
            Work::Run(call) => *call,
            other => unreachable!("{other:?}"),
        }
    }

    async fn start(&self, call: &LeasedCall) -> Result<(), ApiError> {
        self.calls.start(&self.name, call.lease.clone()).await
    }

    async fn finish(&self, call: &LeasedCall, outcome: AttemptOutcome) -> bool {
        let end = AttemptEnd {
            lease: call.lease.clone(),
            outcome,
        };
        let counts = self.calls.finish(&self.name, end).await;
        counts.expect("it is noted")
    }

    /// Runs a call to its end.
    async fn run(&self, call: &LeasedCall, outcome: AttemptOutcome) {
        self.start(call).await.expect("the lease holds");
        assert!(self.finish(call, outcome).await, "the end counts");
        self.grant(1).await;
    }
}

fn new_id() -> CallId {
    static IDS: AtomicU64 = AtomicU64::new(1 << 40);
    let now = wall_clock()().unix_millis().unsigned_abs();
    let process = IDS.fetch_add(1, Ordering::Relaxed);
    CallId::from(IdSource::new(process).next(now))
}

fn new_call(func: &Func, options: CallOptions) -> NewCall {
    let mut headers = CallHeaders::default();
    headers.push("content-type", b"text/plain");
    NewCall {
        id: new_id(),
        fn_id: func.id.clone(),
        trigger_id: None,
        path: format!("/invoke/{}", func.id),
        method: "POST".to_owned(),
        url: format!("/invoke/{}", func.id),
        headers,
        options,
        origin_id: None,
        body: Bytes::from_static(b"input"),
    }
}

async fn func(f: &Fixture, name: &str) -> Func {
    let app = f.app(name).await;
    f.func(&app, "f").await
}

fn answered(status: u16, body: &'static str) -> AttemptOutcome {
    AttemptOutcome::Answered {
        status,
        retry_after: None,
        result: CallResult {
            status,
            body: Bytes::from_static(body.as_bytes()),
            ..CallResult::default()
        },
    }
}

fn failed(fault: Fault) -> AttemptOutcome {
    AttemptOutcome::Failed {
        fault,
        crashed: false,
        retry_after: None,
        error: "it failed".to_owned(),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, code: ErrorCode) {
    let error = result.expect_err("it is refused");
    assert_eq!(error.code(), code, "{error:?}");
}

/// Looks until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_over(node: &Node, id: &CallId, state: CallState) {
    until("the call is over", || async {
        node.record(id).await.status == state
    })
    .await;
}
