//! Leases of running calls: they begin to run, are renewed, come to an end, or run out.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::call::{AttemptEnd, AttemptOutcome, LeaseRef, Refused};
use domain::{CallId, Timestamp};
#[cfg(feature = "planted-bugs")]
use nodekit::fail_point::{Bug, is_planted};

use super::super::call_store::{Doorbell, Ended};
use super::super::session::{Arg, Session, Sql, now};
use super::batch::{self, batch};
use super::moves::{self, Moving};
use super::rows::millis_of;

/// What a call's record says of an attempt whose runner was lost.
const LEASE_LOST: &str = "the runner did not renew its lease";

/// An attempt is in the state `running` exactly as long as its call runs with its epoch: whatever
/// moves the call ends the attempt in the same transaction. So the attempt alone tells whether a
/// lease holds.
///
/// The condition on that state is hidden: PostgreSQL would read the whole index of leases for it.
macro_rules! held {
    ($now:expr, $of:literal, $lock:literal, $of_held:literal, $holds:literal, $set:expr) => {
        concat!(
            ", clock AS MATERIALIZED (SELECT ",
            $now,
            " AS now), held AS (SELECT a.call_id, a.epoch, clock.now FROM batch CROSS JOIN clock \
             JOIN call_attempts a ON a.call_id = batch.call_id AND a.epoch = batch.epoch",
            $of,
            " WHERE CASE a.status WHEN 'running' THEN a.runner_id = $2",
            $holds,
            " ELSE FALSE END ORDER BY a.call_id, a.epoch",
            $lock,
            ") UPDATE call_attempts SET ",
            $set,
            " FROM held WHERE call_attempts.call_id = held.call_id AND call_attempts.epoch = held.epoch",
            $of_held,
            " RETURNING call_attempts.call_id, call_attempts.epoch"
        )
    };
    ($holds:literal, $sqlite:expr, $postgres:expr) => {
        batch!([call_id text, epoch bigint]
            held!(now!(sqlite), "", "", "", $holds, $sqlite),
            held!(
                now!(postgres),
                " AND a.call_id = ANY(ARRAY(SELECT call_id FROM batch))",
                " FOR UPDATE OF a",
                " AND call_attempts.call_id = ANY(ARRAY(SELECT call_id FROM held))",
                $holds,
                $postgres
            ))
    };
}
macro_rules! start {
    () => {
        "started_at = COALESCE(started_at, held.now), lease_until = CASE \
         WHEN lease_until < held.now + $3 / 2 THEN held.now + $3 ELSE lease_until END"
    };
}
/// No function begins under a lease that has run out: somebody may be about to take the call back. One
/// that ends soon is renewed, since its runner may have had the call late. How long a lease holds is in an
/// index, which the start leaves alone otherwise.
pub(super) const START: Sql = held!(" AND a.lease_until > clock.now", start!(), start!());
pub(super) const RENEW: Sql = held!(
    "",
    "lease_until = MAX(lease_until, held.now + $3)",
    "lease_until = GREATEST(lease_until, held.now + $3)"
);
pub(in super::super) const RAN_OUT: &str = "SELECT call_id, epoch FROM call_attempts \
    WHERE status = 'running' AND lease_until <= $1 ORDER BY lease_until LIMIT $2";
macro_rules! still_out {
    ($of:literal, $lock:literal) => {
        concat!(
            "SELECT a.call_id, a.epoch, a.started_at FROM batch JOIN call_attempts a \
             ON a.call_id = batch.call_id AND a.epoch = batch.epoch",
            $of,
            " WHERE CASE a.status WHEN 'running' THEN a.lease_until <= $2 ELSE FALSE END \
             ORDER BY a.call_id, a.epoch",
            $lock
        )
    };
}
pub(super) const STILL_OUT: Sql = batch!([call_id text, epoch bigint]
still_out!("", ""),
still_out!(
    " AND a.call_id = ANY(ARRAY(SELECT call_id FROM batch))",
    " FOR UPDATE OF a SKIP LOCKED"
));

/// Notes that these calls begin to run, and renews their leases if they end soon; answers those that
/// hold.
pub(super) async fn start(
    session: &mut impl Session,
    leases: &[LeaseRef],
    runner: &str,
    lease: Duration,
) -> Result<Vec<LeaseRef>, sqlx::Error> {
    extend(session, START, leases, runner, lease).await
}

/// Renews these leases; answers those that hold. None gets shorter: a renewal that had to wait for
/// another one comes too late to end the lease sooner.
pub(super) async fn renew(
    session: &mut impl Session,
    leases: &[LeaseRef],
    runner: &str,
    lease: Duration,
) -> Result<Vec<LeaseRef>, sqlx::Error> {
    extend(session, RENEW, leases, runner, lease).await
}

async fn extend(
    session: &mut impl Session,
    sql: Sql,
    leases: &[LeaseRef],
    runner: &str,
    lease: Duration,
) -> Result<Vec<LeaseRef>, sqlx::Error> {
    let rows = batch::leases(leases);
    let args = [
        Arg::Text(&rows),
        Arg::Text(runner),
        Arg::Int(millis_of(lease)),
    ];
    let held: Vec<(String, i64)> = session.dialect_rows(sql, &args).await?;
    Ok(held.into_iter().map(lease_ref).collect())
}

/// Ends attempts, in the order in which they are named.
pub(super) async fn finish(
    session: &mut impl Session,
    ends: &[(AttemptEnd, String)],
    random: u64,
) -> Result<Vec<Ended>, sqlx::Error> {
    let ids = ends.iter().map(|(end, _)| &end.lease.call_id);
    let rows = moves::locked(session, ids).await?;
    let now = Timestamp::from_unix_millis(session.now().await?);
    let mut calls: Vec<Moving> = rows.into_iter().map(Moving::new).collect();
    let places: BTreeMap<CallId, usize> = calls
        .iter()
        .enumerate()
        .map(|(place, call)| (call.row().id().clone(), place))
        .collect();
    let mut answers = Vec::with_capacity(ends.len());
    let mut random = random;
    for (end, runner) in ends {
        random = another(random);
        answers.push(match places.get(&end.lease.call_id) {
            Some(&place) => match end_one(&mut calls[place], end, runner, now, random) {
                Ok(()) => ended(&calls[place], now),
                Err(refused) => Ended::Refused(refused),
            },
            None => Ended::Unknown,
        });
    }
    moves::write(session, now, &calls).await?;
    Ok(answers)
}

fn end_one(
    call: &mut Moving,
    end: &AttemptEnd,
    runner: &str,
    now: Timestamp,
    random: u64,
) -> Result<(), Refused> {
    #[cfg(feature = "planted-bugs")]
    if is_planted(Bug::NoEpochCheck) {
        call.believe(end.lease.epoch, runner);
    }
    let row = call.row();
    row.progress.check_lease(end.lease.epoch)?;
    if row.record.runner_id.as_deref() != Some(runner) {
        return Err(Refused::Stale);
    }
    let step = row
        .progress
        .finish(end.lease.epoch, &end.outcome, now, random >> 16)?;
    let answer = match &end.outcome {
        AttemptOutcome::Answered { status, result, .. } => Some((*status, result.clone())),
        _ => None,
    };
    let error = end.outcome.error();
    call.make(step, now, error.as_deref().map(batch::without_nul), answer);
    Ok(())
}

fn ended(call: &Moving, now: Timestamp) -> Ended {
    Ended::Accepted {
        call: Box::new(call.row().record.clone()),
        doorbell: call.doorbell().filter(|doorbell| doorbell.due_at <= now),
    }
}

/// The next random number: calls that fail together are not to come back together.
fn another(random: u64) -> u64 {
    random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1)
}

/// Takes back calls whose leases ran out.
pub(super) async fn recover(
    session: &mut impl Session,
    limit: u32,
) -> Result<Vec<Doorbell>, sqlx::Error> {
    let args = [Arg::Int(session.now().await?), Arg::Int(limit.into())];
    let out: Vec<(String, i64)> = session.rows(RAN_OUT, &args).await?;
    if out.is_empty() {
        return Ok(Vec::new());
    }
    let out: Vec<LeaseRef> = out.into_iter().map(lease_ref).collect();
    let rows = moves::locked_if_free(session, out.iter().map(|lease| &lease.call_id)).await?;
    // Calls first, then attempts, as everybody does. With both locked nobody can renew any more.
    let now = Timestamp::from_unix_millis(session.now().await?);
    let leases = batch::leases(&out);
    let args = [Arg::Text(&leases), Arg::Int(now.unix_millis())];
    let out: Vec<(String, i64, Option<i64>)> = session.dialect_rows(STILL_OUT, &args).await?;
    let out: BTreeMap<String, (i64, bool)> = out
        .into_iter()
        .map(|(id, epoch, started_at)| (id, (epoch, started_at.is_some())))
        .collect();
    let mut calls: Vec<Moving> = rows.into_iter().map(Moving::new).collect();
    let mut random = now.unix_millis().unsigned_abs();
    for call in &mut calls {
        random = another(random);
        let row = call.row();
        let Some(&(epoch, started)) = out.get(row.id().as_str()) else {
            continue;
        };
        let lost = row.progress.lease_lost(epoch, started, now, random >> 16);
        if let Ok(step) = lost {
            call.make(step, now, Some(LEASE_LOST.to_owned()), None);
        }
    }
    moves::write(session, now, &calls).await?;
    Ok(calls.iter().filter_map(Moving::doorbell).collect())
}

fn lease_ref((call_id, epoch): (String, i64)) -> LeaseRef {
    LeaseRef {
        call_id: CallId::from(call_id),
        epoch,
    }
}
