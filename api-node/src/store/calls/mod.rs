//! The store of calls on an SQL database: what is one transaction. The rules of a call are those of
//! [`domain::call::machine`].

mod accept;
pub(super) mod batch;
mod callbacks;
mod claim;
mod created;
mod doorbells;
mod keys;
mod leases;
mod list;
mod moves;
#[cfg(test)]
pub(super) mod plans;
mod query;
mod redrive;
mod results;
mod retire;
mod rows;
mod snapshots;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::call::{Attempt, AttemptEnd, CallResult, LeaseRef, Refused};
use domain::{
    ApiError, CallId, CallRecord, CallState, DeadReason, ErrorCode, FnId, Page, PageRequest,
    Timestamp,
};
use hybrid_client::{BeginKeyed, Keyed};

use self::moves::Moving;
use self::rows::{CallRow, millis_of};
pub(super) use self::snapshots::Snapshots;
use super::call_store::{
    Acceptance, CallFilter, CallRequestDoc, CallStore, CallbackDelivery, Cancelled, Claimed,
    Committed, Doorbell, Ended, Over, Retention,
};
use super::session::{Database, Session};
use super::sql_store::SqlStore;

#[async_trait]
impl<D: Database> CallStore for SqlStore<D> {
    async fn accept(
        &self,
        calls: Vec<Acceptance>,
    ) -> Result<Vec<Result<Committed, ApiError>>, ApiError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let answers = accept::accept(&mut *tx, &calls).await?;
            self.commit(tx, vec![]).await?;
            Ok(answers)
        })
        .await
    }

    async fn claim(
        &self,
        calls: Vec<CallId>,
        runner: &str,
        lease: Duration,
    ) -> Result<Vec<Claimed>, ApiError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let claimed = claim::claim(&mut *tx, &self.snapshots, &calls, runner, lease).await?;
            self.commit(tx, vec![]).await?;
            Ok(claimed)
        })
        .await
    }

    async fn start(
        &self,
        leases: Vec<LeaseRef>,
        runner: &str,
        lease: Duration,
    ) -> Result<Vec<LeaseRef>, ApiError> {
        if leases.is_empty() {
            return Ok(leases);
        }
        self.run(|| async {
            let mut single = self.database.single().await?;
            Ok(leases::start(&mut *single, &leases, runner, lease).await?)
        })
        .await
    }

    async fn renew(
        &self,
        leases: Vec<LeaseRef>,
        runner: &str,
        lease: Duration,
    ) -> Result<Vec<LeaseRef>, ApiError> {
        if leases.is_empty() {
            return Ok(leases);
        }
        self.run(|| async {
            let mut single = self.database.single().await?;
            Ok(leases::renew(&mut *single, &leases, runner, lease).await?)
        })
        .await
    }

    async fn finish(
        &self,
        ends: Vec<(AttemptEnd, String)>,
        random: u64,
    ) -> Result<Vec<Ended>, ApiError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let ended = leases::finish(&mut *tx, &ends, random).await?;
            self.commit(tx, vec![]).await?;
            Ok(ended)
        })
        .await
    }

    async fn cancel(&self, id: &CallId) -> Result<Cancelled, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let row = moves::locked(&mut *tx, [id]).await?.pop();
            let row = row.ok_or(ErrorCode::CallNotFound)?;
            let was_running = row.record.runner_id.clone().map(|runner| {
                let lease = LeaseRef {
                    call_id: id.clone(),
                    epoch: row.progress.epoch,
                };
                (lease, runner)
            });
            let mut call = Moving::new(row);
            let now = Timestamp::from_unix_millis(tx.now().await?);
            match call.row().progress.cancel() {
                Ok(step) => call.make(step, now, None, None),
                Err(Refused::Over) if call.row().record.status == CallState::Cancelled => {
                    return Ok(Cancelled {
                        call: call.row().record.clone(),
                        was_running: None,
                        changed: false,
                    });
                }
                Err(_) => return Err(ErrorCode::CallNotCancellable.into()),
            }
            let calls = [call];
            moves::write(&mut *tx, now, &calls).await?;
            self.commit(tx, vec![]).await?;
            Ok(Cancelled {
                call: calls[0].row().record.clone(),
                was_running,
                changed: true,
            })
        })
        .await
    }

    async fn record(&self, calls: Vec<CallRecord>) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            accept::record(&mut *tx, &calls).await?;
            Ok(self.commit(tx, vec![]).await?)
        })
        .await
    }

    async fn call(&self, id: &CallId) -> Result<CallRecord, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let row = list::by_id(&mut *reader, id).await?;
            Ok(row.ok_or(ErrorCode::CallNotFound)?.record)
        })
        .await
    }

    async fn call_request(&self, id: &CallId) -> Result<CallRequestDoc, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let request = results::request(&mut *reader, id).await?;
            let (headers, body, document) = request.ok_or(ErrorCode::CallNotFound)?;
            Ok(CallRequestDoc {
                headers,
                body,
                snapshot: Arc::new(snapshots::parse(document)?),
            })
        })
        .await
    }

    async fn call_result(&self, id: &CallId) -> Result<CallResult, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            if let Some(result) = results::by_id(&mut *reader, id).await? {
                return Ok(result);
            }
            let call = list::by_id(&mut *reader, id).await?;
            call.ok_or(ErrorCode::CallNotFound)?;
            Err(ErrorCode::CallResultNotFound.into())
        })
        .await
    }

    async fn call_attempts(&self, id: &CallId) -> Result<Vec<Attempt>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let call = list::by_id(&mut *reader, id).await?;
            call.ok_or(ErrorCode::CallNotFound)?;
            let attempts = list::attempts(&mut *reader, id).await?;
            Ok(attempts.into_iter().map(|row| row.0).collect())
        })
        .await
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        page: &PageRequest,
    ) -> Result<Page<CallRecord>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            Ok(list::list(&mut *reader, filter, page).await?)
        })
        .await
    }

    async fn redrive(
        &self,
        calls: Vec<(CallId, CallId)>,
    ) -> Result<Vec<Result<Committed, ApiError>>, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let answers = redrive::redrive(&mut *tx, &calls).await?;
            self.commit(tx, vec![]).await?;
            Ok(answers)
        })
        .await
    }

    async fn purge(&self, ids: Vec<CallId>) -> Result<u64, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let purged = retire::purge(&mut *tx, &ids).await?;
            self.commit(tx, vec![]).await?;
            Ok(purged)
        })
        .await
    }

    async fn begin_keyed(&self, begin: BeginKeyed) -> Result<Keyed, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let keyed = keys::begin(&mut *tx, &begin).await?;
            self.commit(tx, vec![]).await?;
            Ok(keyed)
        })
        .await
    }

    async fn end_keyed(
        &self,
        fn_id: &FnId,
        key: &str,
        call_id: &CallId,
        result: Option<CallResult>,
    ) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            keys::end(&mut *tx, fn_id, key, call_id, result.as_ref()).await?;
            Ok(self.commit(tx, vec![]).await?)
        })
        .await
    }

    async fn due_doorbells(
        &self,
        per_fn: u32,
        limit: u32,
        ageing: Duration,
        full: &[FnId],
    ) -> Result<Vec<Doorbell>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let now = Timestamp::from_unix_millis(reader.now().await?);
            let ageing = millis_of(ageing);
            let due = doorbells::due(&mut *reader, now, per_fn, limit, ageing, full).await?;
            drop(reader);
            if due.iter().all(|due| !due.delayed) {
                return Ok(due.into_iter().map(|due| due.doorbell).collect());
            }
            let mut tx = self.database.begin().await?;
            let delayed = due.iter().filter(|due| due.delayed);
            let ids = delayed.map(|due| &due.doorbell.lease.call_id);
            let free = moves::locked_if_free(&mut *tx, ids).await?;
            let waits = |row: &&CallRow| {
                matches!(row.progress.state, CallState::Delayed | CallState::Queued)
            };
            let woken: BTreeSet<&CallId> = free.iter().filter(waits).map(CallRow::id).collect();
            doorbells::wake(&mut *tx, woken.iter().copied()).await?;
            self.commit(tx, vec![]).await?;
            // Those that somebody else moves right now are his, or come next time.
            let rings =
                |due: &doorbells::Due| !due.delayed || woken.contains(&due.doorbell.lease.call_id);
            let due = due.into_iter().filter(rings);
            Ok(due.map(|due| due.doorbell).collect())
        })
        .await
    }

    async fn confirm_doorbells(&self, rung: Vec<LeaseRef>) -> Result<(), ApiError> {
        if rung.is_empty() {
            return Ok(());
        }
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let now = Timestamp::from_unix_millis(tx.now().await?);
            doorbells::confirm(&mut *tx, now, &rung).await?;
            Ok(self.commit(tx, vec![]).await?)
        })
        .await
    }

    async fn rung_calls(&self, fns: Vec<FnId>) -> Result<BTreeMap<FnId, u64>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            Ok(doorbells::rung(&mut *reader, &fns).await?)
        })
        .await
    }

    async fn next_doorbell(&self) -> Result<Option<Duration>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let Some(due_at) = doorbells::next(&mut *reader).await? else {
                return Ok(None);
            };
            let left = due_at.saturating_sub(reader.now().await?).max(0);
            Ok(Some(Duration::from_millis(left.unsigned_abs())))
        })
        .await
    }

    async fn recover_leases(&self, limit: u32) -> Result<Vec<Doorbell>, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let doorbells = leases::recover(&mut *tx, limit).await?;
            self.commit(tx, vec![]).await?;
            Ok(doorbells)
        })
        .await
    }

    async fn expire(&self, limit: u32) -> Result<u64, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let now = Timestamp::from_unix_millis(tx.now().await?);
            let expired = doorbells::expired(&mut *tx, now, limit).await?;
            if expired.is_empty() {
                return Ok(0);
            }
            let rows = moves::locked_if_free(&mut *tx, &expired).await?;
            let mut calls: Vec<Moving> = rows.into_iter().map(Moving::new).collect();
            let mut given_up = 0;
            for call in &mut calls {
                let progress = &call.row().progress;
                // One that was claimed meanwhile runs; its expiry is looked at when it waits again.
                if let Ok(step) = progress.give_up(DeadReason::Expired) {
                    call.make(step, now, None, None);
                    given_up += 1;
                }
            }
            moves::write(&mut *tx, now, &calls).await?;
            self.commit(tx, vec![]).await?;
            Ok(given_up)
        })
        .await
    }

    async fn ring_again(
        &self,
        silence: RangeInclusive<Duration>,
        limit: u32,
    ) -> Result<u64, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let rung = doorbells::ring_again(&mut *tx, silence.clone(), limit).await?;
            self.commit(tx, vec![]).await?;
            Ok(rung)
        })
        .await
    }

    async fn retire(&self, retention: Retention, limit: u32) -> Result<u64, ApiError> {
        let mut count = 0;
        // Each kind is a transaction of its own: what is locked is locked for a moment.
        for kind in retire::Kind::ALL {
            count += self
                .run(|| async {
                    let mut tx = self.database.begin().await?;
                    let retired = retire::retire(&mut *tx, kind, &retention, limit).await?;
                    self.commit(tx, vec![]).await?;
                    Ok(retired)
                })
                .await?;
        }
        Ok(count)
    }

    async fn old_logs(&self, retention: Retention, limit: u32) -> Result<Vec<Over>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            Ok(retire::old_logs(&mut *reader, &retention, limit).await?)
        })
        .await
    }

    async fn logs_are_gone(&self, last: &Over) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            retire::logs_are_gone(&mut *tx, last).await?;
            Ok(self.commit(tx, vec![]).await?)
        })
        .await
    }

    async fn due_callbacks(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<CallbackDelivery>, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let now = Timestamp::from_unix_millis(tx.now().await?);
            let until = now.unix_millis().saturating_add(millis_of(lease));
            let taken = callbacks::take(&mut *tx, now, until, limit).await?;
            let mut calls: BTreeMap<CallId, CallRecord> =
                list::by_ids(&mut *tx, taken.iter().map(|(id, _, _)| id)).await?;
            self.commit(tx, vec![]).await?;
            let deliveries = taken.into_iter().filter_map(|(id, url, tries)| {
                Some(CallbackDelivery {
                    id: id.to_string(),
                    call: calls.remove(&id)?,
                    url,
                    tries,
                })
            });
            Ok(deliveries.collect())
        })
        .await
    }

    async fn end_callback(
        &self,
        id: &str,
        delivered: bool,
        again: Option<Duration>,
        error: Option<&str>,
    ) -> Result<(), ApiError> {
        let error = error.map(batch::without_nul);
        let error = error.as_deref();
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let now = Timestamp::from_unix_millis(tx.now().await?);
            match again {
                Some(pause) if !delivered => {
                    let due_at = now.unix_millis().saturating_add(millis_of(pause));
                    callbacks::again(&mut *tx, id, due_at, error).await?;
                }
                _ => callbacks::end(&mut *tx, id, now, delivered, error).await?,
            }
            Ok(self.commit(tx, vec![]).await?)
        })
        .await
    }

    async fn count_calls(&self) -> Result<BTreeMap<CallState, u64>, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let counts = list::counts(&mut *reader).await?;
            let known = counts.into_iter().filter_map(|(state, count)| {
                Some((CallState::parse(&state)?, count.unsigned_abs()))
            });
            Ok(known.collect())
        })
        .await
    }
}
