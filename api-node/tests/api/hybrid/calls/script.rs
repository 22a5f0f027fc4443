//! A call plane and a source of work that do what the test says, and remember what they were asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use domain::call::new_call::Accepted;
use domain::call::{AttemptEnd, CallResult, LeaseRef, NewCall};
use domain::{ApiError, CallId, CallRecord, ErrorCode, FnId};
use hybrid_client::{BeginKeyed, CallPlane, Dequeue, Keyed, LogChunk, Work, WorkSource};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::DEADLINE;

/// Work that waits in a dequeue of the script.
pub(crate) const WORK: usize = 4;

/// The script of one API node, or of several that share their database.
pub(crate) struct Script {
    state: Mutex<State>,
    dequeues: mpsc::Sender<Source>,
    opened: tokio::sync::Mutex<mpsc::Receiver<Source>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Every question is answered with this error.
    pub(crate) error: Option<ApiError>,
    /// What is asked is done, and never answered.
    pub(crate) mute: bool,
    pub(crate) accepted: HashMap<CallId, NewCall>,
    /// How often calls were handed in.
    pub(crate) enqueued: usize,
    pub(crate) records: Vec<CallRecord>,
    pub(crate) keys: HashMap<(FnId, String), Option<(CallId, CallResult)>>,
    /// The leases that hold, of whichever runner.
    pub(crate) held: HashSet<LeaseRef>,
    pub(crate) started: Vec<LeaseRef>,
    pub(crate) finished: Vec<(String, AttemptEnd)>,
    pub(crate) logs: HashMap<LeaseRef, Vec<u8>>,
}

/// The side of a dequeue where work comes from.
pub(crate) struct Source {
    pub(crate) runner_id: Arc<str>,
    pub(crate) capacity: u32,
    pub(crate) credits: mpsc::Receiver<u32>,
    pub(crate) work: mpsc::Sender<Work>,
}

impl Source {
    /// The credits that are granted next.
    pub(crate) async fn granted(&mut self) -> Option<u32> {
        timeout(DEADLINE, self.credits.recv())
            .await
            .expect("in time")
    }

    pub(crate) async fn send(&self, work: Work) {
        let sent = timeout(DEADLINE, self.work.send(work)).await;
        sent.expect("in time").expect("somebody takes it");
    }
}

impl Script {
    pub(crate) fn new() -> Arc<Self> {
        let (dequeues, opened) = mpsc::channel(64);
        Arc::new(Self {
            state: Mutex::default(),
            dequeues,
            opened: opened.into(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// The next dequeue that is opened.
    pub(crate) async fn opened(&self) -> Source {
        let mut opened = self.opened.lock().await;
        let source = timeout(DEADLINE, opened.recv()).await;
        source.expect("in time").expect("a sender")
    }

    async fn answer<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, ApiError> {
        let (mute, answer) = {
            let mut state = self.state();
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            (state.mute, act(&mut state))
        };
        if mute {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }
}

#[async_trait]
impl CallPlane for Script {
    async fn enqueue(&self, call: NewCall) -> Result<Accepted, ApiError> {
        self.answer(|state| {
            state.enqueued += 1;
            let id = call.id.clone();
            let replayed = state.accepted.insert(id.clone(), call).is_some();
            Accepted { id, replayed }
        })
        .await
    }

    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError> {
        self.answer(|state| state.records.extend(calls)).await
    }

    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError> {
        self.answer(|state| {
            let key = (begin.fn_id, begin.key);
            match state.keys.entry(key).or_insert(None) {
                None => Keyed::Fresh,
                Some((call_id, result)) => Keyed::Made {
                    call_id: call_id.clone(),
                    result: result.clone(),
                },
            }
        })
        .await
    }

    async fn end_keyed(
        &self,
        fn_id: FnId,
        key: String,
        call_id: CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError> {
        self.answer(|state| {
            let made = result.map(|result| (call_id, result));
            state.keys.insert((fn_id, key), made);
        })
        .await
    }
}

#[async_trait]
impl WorkSource for Script {
    async fn dequeue(&self, runner_id: Arc<str>, capacity: u32) -> Result<Dequeue, ApiError> {
        self.answer(|_| ()).await?;
        let (credits, granted) = mpsc::channel(1);
        let (work, taken) = mpsc::channel(WORK);
        let source = Source {
            runner_id,
            capacity,
            credits: granted,
            work,
        };
        self.dequeues.send(source).await.expect("a receiver");
        Ok(Dequeue {
            credits,
            work: taken,
        })
    }

    async fn start(&self, _: &str, lease: LeaseRef) -> Result<(), ApiError> {
        let held = self.answer(|state| {
            state.started.push(lease.clone());
            state.held.contains(&lease)
        });
        match held.await? {
            true => Ok(()),
            false => Err(ErrorCode::CallLeaseLost.into()),
        }
    }

    async fn renew(
        &self,
        _: &str,
        leases: Vec<LeaseRef>,
    ) -> Result<(Vec<LeaseRef>, Duration), ApiError> {
        self.answer(|state| {
            let held = leases
                .into_iter()
                .filter(|lease| state.held.contains(lease));
            (held.collect(), Duration::from_secs(10))
        })
        .await
    }

    async fn finish(&self, runner_id: &str, end: AttemptEnd) -> Result<bool, ApiError> {
        self.answer(|state| {
            let held = state.held.contains(&end.lease);
            state.finished.push((runner_id.to_owned(), end));
            held
        })
        .await
    }

    async fn append_logs(&self, _: &str, chunks: Vec<LogChunk>) -> Result<(), ApiError> {
        self.answer(|state| {
            for chunk in chunks {
                let log = state.logs.entry(chunk.lease).or_default();
                assert_eq!(chunk.offset, log.len() as u64, "in order");
                log.extend_from_slice(&chunk.data);
            }
        })
        .await
    }
}
