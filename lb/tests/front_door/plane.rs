//! A scripted call plane, which keeps what it is told.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::call::new_call::Accepted;
use domain::call::{CallResult, NewCall};
use domain::{ApiError, CallId, CallRecord, ErrorCode, FnId};
use hybrid_client::{BeginKeyed, CallPlane, Keyed};
use tokio::sync::watch;

use crate::node::PATIENCE;

/// Keeps calls, keys and records in memory.
#[derive(Default)]
pub(crate) struct Plane {
    state: Mutex<State>,
    records: watch::Sender<Vec<CallRecord>>,
    /// Whether it answers: without it every question waits.
    silent: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    calls: Vec<NewCall>,
    keys: HashMap<(String, String), Key>,
    /// What the next questions are answered instead.
    errors: VecDeque<ErrorCode>,
    ends: usize,
}

struct Key {
    fingerprint: bytes::Bytes,
    call_id: CallId,
    hold: Duration,
    result: Option<CallResult>,
}

impl Plane {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The only call that was accepted since the last look.
    #[track_caller]
    pub(crate) fn only_call(&self) -> NewCall {
        let mut state = self.state.lock().expect("not poisoned");
        assert_eq!(state.calls.len(), 1);
        state.calls.remove(0)
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().expect("not poisoned").calls.len()
    }

    /// The next questions fail with these.
    pub(crate) fn fail(&self, errors: &[ErrorCode]) {
        let mut state = self.state.lock().expect("not poisoned");
        state.errors.extend(errors);
    }

    pub(crate) fn be_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// How long `key` is held, if it is.
    pub(crate) fn hold(&self, key: &str) -> Option<Duration> {
        let state = self.state.lock().expect("not poisoned");
        let held = state.keys.get(&("f".to_owned(), key.to_owned()))?;
        Some(held.hold)
    }

    /// What is kept for `key`, if its call is over.
    pub(crate) fn kept(&self, key: &str) -> Option<CallResult> {
        let state = self.state.lock().expect("not poisoned");
        state
            .keys
            .get(&("f".to_owned(), key.to_owned()))?
            .result
            .clone()
    }

    /// Waits until so many records have come.
    pub(crate) async fn records(&self, count: usize) -> Vec<CallRecord> {
        let mut records = self.records.subscribe();
        let enough = records.wait_for(|records| records.len() >= count);
        let records = tokio::time::timeout(PATIENCE, enough).await;
        records.expect("in time").expect("a plane").clone()
    }

    async fn answer(&self) -> Result<(), ApiError> {
        let mut silent = self.silent.subscribe();
        silent
            .wait_for(|silent| !silent)
            .await
            .map_err(ApiError::internal)?;
        let mut state = self.state.lock().expect("not poisoned");
        match state.errors.pop_front() {
            Some(code) => Err(code.into()),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl CallPlane for Plane {
    async fn enqueue(&self, call: NewCall) -> Result<Accepted, ApiError> {
        self.answer().await?;
        let mut state = self.state.lock().expect("not poisoned");
        let known = state.calls.iter().find(|known| {
            known.options.idempotency_key.is_some()
                && known.options.idempotency_key == call.options.idempotency_key
        });
        if let Some(known) = known {
            if known.fingerprint() != call.fingerprint() {
                return Err(ErrorCode::IdempotencyKeyReused.into());
            }
            return Ok(Accepted {
                id: known.id.clone(),
                replayed: true,
            });
        }
        let id = call.id.clone();
        state.calls.push(call);
        Ok(Accepted {
            id,
            replayed: false,
        })
    }

    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError> {
        self.answer().await?;
        self.records.send_modify(|records| records.extend(calls));
        Ok(())
    }

    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError> {
        self.answer().await?;
        let mut state = self.state.lock().expect("not poisoned");
        let name = (begin.fn_id.to_string(), begin.key);
        if let Some(key) = state.keys.get(&name) {
            if key.fingerprint != begin.fingerprint {
                return Err(ErrorCode::IdempotencyKeyReused.into());
            }
            return match &key.result {
                Some(result) => Ok(Keyed::Made {
                    call_id: key.call_id.clone(),
                    result: result.clone(),
                }),
                None => Err(ErrorCode::IdempotencyKeyInUse.into()),
            };
        }
        let key = Key {
            fingerprint: begin.fingerprint,
            call_id: begin.call_id,
            hold: begin.hold,
            result: None,
        };
        state.keys.insert(name, key);
        Ok(Keyed::Fresh)
    }

    async fn end_keyed(
        &self,
        fn_id: FnId,
        key: String,
        call_id: CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError> {
        self.answer().await?;
        let mut state = self.state.lock().expect("not poisoned");
        state.ends += 1;
        let name = (fn_id.to_string(), key);
        match result {
            None => drop(state.keys.remove(&name)),
            Some(result) => {
                let held = state.keys.get_mut(&name).expect("a key that was begun");
                assert_eq!(held.call_id, call_id);
                held.result = Some(result);
            }
        }
        Ok(())
    }
}
