//! Records that front doors send: calls that came in and ended, in batches, over gRPC.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use domain::{CallId, CallKind, CallRecord, CallState, DeadReason, IdSource, Timestamp};
use hearth_tests::process::Process;
use hybrid_client::{
    ApiNode, ApiNodes, CallPlane as _, RemoteCalls, RemoteCallsSettings, RemoteSettings,
};
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Endpoint;

use super::fill::{DAYS, FNS, app_id, fn_id};
use crate::tell;

/// As often as a front door sends what it has.
const EVERY: Duration = Duration::from_millis(50);
/// Records of a batch when a file is filled.
const BATCH: u64 = 512;

/// Writes so many records a second for so long; how long each batch took, in milliseconds.
pub(super) async fn write(
    node: &Process,
    per_second: u64,
    duration: Duration,
) -> anyhow::Result<Vec<f64>> {
    let plane = plane(node)?;
    let ids = IdSource::new(7);
    let batch = per_second * EVERY.as_millis() as u64 / 1000;
    let mut ticks = interval(EVERY);
    // What is late is sent all the same: the rate is kept.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut millis, mut number) = (Vec::new(), 0);
    let count = duration.as_millis() / EVERY.as_millis();
    for _ in 0..count {
        ticks.tick().await;
        let now = now()?;
        let calls = (0..batch).map(|_| {
            number += 1;
            record(&ids, now, number)
        });
        let calls = calls.collect();
        let began = Instant::now();
        plane.record(calls).await.context("records are written")?;
        millis.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(millis)
}

/// Writes so many records of the last days, as fast as it goes.
pub(super) async fn fill(node: &Process, records: u64) -> anyhow::Result<()> {
    tell(format_args!("writing {records} records by a node"));
    let plane = plane(node)?;
    let (ids, now) = (IdSource::new(8), now()?);
    let step = DAYS * 24 * 3600 * 1000 / records;
    for start in (0..records).step_by(BATCH as usize) {
        let numbers = start..records.min(start + BATCH);
        let calls = numbers.map(|number| record(&ids, now - (records - number) * step, number));
        plane
            .record(calls.collect())
            .await
            .context("records are written")?;
    }
    Ok(())
}

fn plane(node: &Process) -> anyhow::Result<RemoteCalls> {
    let address = node.grpc_address();
    let node = ApiNode {
        name: address.to_owned(),
        channel: Endpoint::from_shared(format!("http://{address}"))?.connect_lazy(),
    };
    let nodes = ApiNodes::new(vec![node], RemoteSettings::default(), || 0)?;
    Ok(RemoteCalls::new(nodes, RemoteCallsSettings::default()))
}

fn now() -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_millis())?)
}

/// A call of that time: with functions, states and tags in much the same shares as the records that the
/// database writes itself.
fn record(ids: &IdSource, millis: u64, number: u64) -> CallRecord {
    // Of no order, and the same each time.
    let chance = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let share = chance as f64 / f64::from(u32::MAX);
    let func = (FNS as f64 * share.powi(4)) as u64;
    let status = match chance % 1000 {
        0..960 => CallState::Success,
        960..985 => CallState::Error,
        985..990 => CallState::Timeout,
        990 => CallState::Cancelled,
        _ => CallState::Dead,
    };
    let dead = status == CallState::Dead;
    let tagged = chance % 10 == 3;
    let tags: BTreeMap<String, String> = match tagged {
        true => [
            ("customer".to_owned(), format!("c{}", number % 50_000)),
            (
                "env".to_owned(),
                if chance % 100 == 3 { "test" } else { "prod" }.to_owned(),
            ),
        ]
        .into(),
        false => BTreeMap::new(),
    };
    let at =
        |after: u64| Timestamp::from_unix_millis(i64::try_from(millis + after).unwrap_or_default());
    CallRecord {
        id: CallId::from(ids.next(millis)),
        status,
        kind: if dead {
            CallKind::Async
        } else {
            CallKind::Sync
        },
        app_id: app_id(func % 20).as_str().into(),
        fn_id: fn_id(func).as_str().into(),
        trigger_id: None,
        path: match chance % 3 {
            0 => format!("/hooks/{}", func % 50),
            _ => format!("/invoke/{}", fn_id(func)),
        },
        method: "POST".to_owned(),
        url: format!("http://functions.example.com/invoke/{}", fn_id(func)),
        image: format!("registry.example.com/team/function-{func}:1.0.7"),
        priority: 0,
        tags,
        attempts: u32::from(dead),
        max_attempts: 1,
        epoch: 0,
        reason: dead.then_some(match chance % 7 {
            0 => DeadReason::Expired,
            _ => DeadReason::RetriesExhausted,
        }),
        error: None,
        origin_id: None,
        callback_url: None,
        runner_id: None,
        result_status: Some(200),
        created_at: at(0),
        due_at: Timestamp::UNSET,
        expires_at: Timestamp::UNSET,
        started_at: at(1),
        completed_at: at(2),
    }
}
