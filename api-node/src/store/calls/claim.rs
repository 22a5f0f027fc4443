//! How calls are claimed: each is leased to the runner with all that it needs, or there is a reason
//! why it is not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::call::lease::Snapshot;
use domain::call::{CallHeaders, LeaseRef, LeasedCall, Refused};
use domain::{CallId, DeadReason, Timestamp};
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use super::super::call_store::Claimed;
use super::super::session::{Arg, Session, Sql, now};
use super::batch::{self, batch, of_ids};
use super::moves::{self, Moving};
use super::rows::{CallRow, call_columns, headers_of, millis_of};
use super::snapshots::Snapshots;

macro_rules! candidates {
    ($now:expr) => {
        concat!(
            "SELECT ",
            $now,
            " AS now, ",
            call_columns!(),
            ", r.headers AS request_headers, r.body AS request_body, r.snapshot AS request_snapshot, \
             (SELECT CAST(1 AS BIGINT) FROM fns WHERE fns.id = c.fn_id) AS fn_there \
             FROM calls c LEFT JOIN call_requests r ON r.call_id = c.id"
        )
    };
}
/// The time with each row: that of one for which it had to wait is read again once it has it, so that
/// the latest is not before what another transaction did to any of them.
pub(super) const LOOK: Sql = of_ids!(
    candidates!(now!(sqlite)),
    candidates!(now!(postgres)),
    "c.id",
    "ORDER BY c.id",
    "ORDER BY c.id FOR UPDATE OF c"
);
const INSERT_ATTEMPTS: Sql = batch!([call_id text, epoch bigint]
    "INSERT INTO call_attempts (call_id, epoch, status, runner_id, claimed_at, lease_until) \
     SELECT call_id, epoch, 'running', CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT) FROM batch");

/// A call that somebody wants to claim.
struct Candidate {
    now: i64,
    call: CallRow,
    request: Option<(CallHeaders, Bytes, String)>,
    fn_there: bool,
}

impl<'r, R> FromRow<'r, R> for Candidate
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let headers: Option<String> = row.try_get("request_headers")?;
        let request = match headers {
            Some(headers) => Some((
                headers_of(headers)?,
                Bytes::from(row.try_get::<Vec<u8>, _>("request_body")?),
                row.try_get("request_snapshot")?,
            )),
            None => None,
        };
        Ok(Self {
            now: row.try_get("now")?,
            call: CallRow::from_row(row)?,
            request,
            fn_there: row.try_get::<Option<i64>, _>("fn_there")?.is_some(),
        })
    }
}

/// What a runner needs of a call besides its row.
struct Needs {
    headers: CallHeaders,
    body: Bytes,
    snapshot: Arc<Snapshot>,
}

/// Claims calls for a runner, in the order in which they are named.
pub(super) async fn claim(
    session: &mut impl Session,
    snapshots: &Snapshots,
    ids: &[CallId],
    runner: &str,
    lease: Duration,
) -> Result<Vec<Claimed>, Error> {
    let runner = &batch::without_nul(runner);
    let wanted = moves::wanted(ids);
    let found: Vec<Candidate> = session.dialect_rows(LOOK, &[Arg::Text(&wanted)]).await?;
    let now = found.iter().map(|one| one.now).max().unwrap_or(0);
    let now = Timestamp::from_unix_millis(now);
    let hashes = found.iter().filter_map(|one| one.request.as_ref());
    let known = snapshots
        .read(session, hashes.map(|(_, _, hash)| hash.as_str()))
        .await?;
    let mut places = BTreeMap::new();
    let (mut calls, mut needs) = (Vec::new(), Vec::new());
    for (place, candidate) in found.into_iter().enumerate() {
        places.insert(candidate.call.id().clone(), place);
        needs.push((candidate.fn_there, needed(candidate.request, &known)));
        calls.push(Moving::new(candidate.call));
    }
    let mut answers = Vec::with_capacity(ids.len());
    let mut leases = Vec::new();
    for id in ids {
        answers.push(match places.get(id) {
            Some(&place) => {
                let (fn_there, needs) = &mut needs[place];
                let call = &mut calls[place];
                let claimed = decide(call, *fn_there, needs, now, runner, lease);
                if let Claimed::Leased(leased) = &claimed {
                    leases.push(leased.lease.clone());
                }
                claimed
            }
            None => Claimed::Unknown,
        });
    }
    moves::write(session, now, &calls).await?;
    if !leases.is_empty() {
        let until = now.unix_millis().saturating_add(millis_of(lease));
        let args = [
            Arg::Text(&batch::leases(&leases)),
            Arg::Text(runner),
            Arg::Int(now.unix_millis()),
            Arg::Int(until),
        ];
        session.dialect_execute(INSERT_ATTEMPTS, &args).await?;
    }
    Ok(answers)
}

/// What becomes of one call.
fn decide(
    call: &mut Moving,
    fn_there: bool,
    needs: &mut Option<Needs>,
    now: Timestamp,
    runner: &str,
    lease: Duration,
) -> Claimed {
    let progress = &call.row().progress;
    let step = match progress.claim(now) {
        Ok(step) => step,
        Err(Refused::Expired) => {
            if let Ok(step) = progress.give_up(DeadReason::Expired) {
                call.make(step, now, None, None);
            }
            return Claimed::Refused(Refused::Expired);
        }
        Err(refused) => return Claimed::Refused(refused),
    };
    if !fn_there {
        if let Ok(step) = progress.give_up(DeadReason::FunctionDeleted) {
            call.make(step, now, None, None);
        }
        return Claimed::FunctionDeleted;
    }
    let Some(needs) = needs.take() else {
        // It will not come back: to ring for the call until it expires would help nobody.
        tracing::error!(call = %call.row().id(), "a call that waits has no request");
        if let Ok(step) = progress.give_up(DeadReason::Permanent) {
            let reason = "its request or its function's snapshot is lost";
            call.make(step, now, Some(reason.to_owned()), None);
        }
        return Claimed::Unknown;
    };
    call.lease_to(step, now, runner);
    let row = call.row();
    Claimed::Leased(Box::new(LeasedCall {
        lease: LeaseRef {
            call_id: row.id().clone(),
            epoch: row.progress.epoch,
        },
        lease_for: lease,
        attempt: row.progress.attempts.saturating_add(1),
        snapshot: needs.snapshot,
        headers: needs.headers,
        body: needs.body,
        created_at: row.record.created_at,
    }))
}

fn needed(
    request: Option<(CallHeaders, Bytes, String)>,
    known: &HashMap<String, Arc<Snapshot>>,
) -> Option<Needs> {
    let (headers, body, hash) = request?;
    Some(Needs {
        headers,
        body,
        snapshot: Arc::clone(known.get(&hash)?),
    })
}
