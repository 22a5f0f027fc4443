//! Redriving dead calls: a new call with the request of the old one and the function as it is now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::call::lease::Snapshot;
use domain::call::new_call::Accepted;
use domain::call::options::EXPIRY_SECONDS;
use domain::call::{CallHeaders, CallOptions, NewCall};
use domain::{ApiError, App, CallId, CallState, ErrorCode, FnId, Func};
use serde::Serialize;

use super::super::call_store::{Acceptance, Committed};
use super::super::failure::Failure;
use super::super::session::{Arg, Session, Sql};
use super::super::{apps, fns};
use super::batch::{self, Text, batch};
use super::rows::CallRow;
use super::{accept, moves, results};

macro_rules! succeed {
    ($only:literal) => {
        concat!(
            "UPDATE calls SET successor_id = batch.successor FROM batch WHERE calls.id = batch.id",
            $only
        )
    };
}
pub(super) const SUCCEED: Sql = batch!([id text, successor text]
    succeed!(""),
    succeed!(" AND calls.id = ANY(ARRAY(SELECT id FROM batch))"));

#[derive(Serialize)]
struct Row<'a> {
    id: Text<'a>,
    successor: Text<'a>,
}

/// What is decided about one wish.
enum Plan {
    /// It can be answered.
    Answer(Result<Committed, ApiError>),
    /// The call at this place among the accepted ones answers it.
    New(usize),
}

/// Redrives each first call as the second one.
pub(super) async fn redrive(
    session: &mut impl Session,
    calls: &[(CallId, CallId)],
) -> Result<Vec<Result<Committed, ApiError>>, Failure> {
    let rows = moves::locked(session, calls.iter().map(|(old, _)| old)).await?;
    let mut rows: BTreeMap<CallId, CallRow> = rows
        .into_iter()
        .map(|row| (row.id().clone(), row))
        .collect();
    let requests = results::requests(session, rows.keys()).await?;
    let requests: BTreeMap<CallId, (CallHeaders, Bytes)> = requests
        .into_iter()
        .map(|(id, headers, body)| (id, (headers, body)))
        .collect();
    let mut snapshots = BTreeMap::new();
    let (mut plans, mut new) = (Vec::new(), Vec::new());
    for (old, id) in calls {
        let Some(row) = rows.get_mut(old) else {
            plans.push(Plan::Answer(Err(ErrorCode::CallNotFound.into())));
            continue;
        };
        if row.record.status != CallState::Dead {
            plans.push(Plan::Answer(Err(ErrorCode::CallNotDead.into())));
            continue;
        }
        if let Some(successor) = &row.successor {
            plans.push(Plan::Answer(Ok(made_before(successor))));
            continue;
        }
        let Some((headers, body)) = requests.get(old).cloned() else {
            plans.push(Plan::Answer(Err(ErrorCode::CallNotFound.into())));
            continue;
        };
        let fn_id = row.record.fn_id.clone();
        let Some(snapshot) = snapshot(session, &mut snapshots, &fn_id).await? else {
            plans.push(Plan::Answer(Err(ErrorCode::FnNotFound.into())));
            continue;
        };
        row.successor = Some(id.clone());
        plans.push(Plan::New(new.len()));
        new.push(Acceptance {
            call: repetition(row, id, headers, body),
            snapshot,
            fingerprint: Bytes::new(),
        });
    }
    let mut accepted: Vec<Option<_>> = accept::accept(session, &new)
        .await?
        .into_iter()
        .map(Some)
        .collect();
    let successors = new
        .iter()
        .zip(&accepted)
        .filter_map(|(acceptance, answer)| {
            let made = answer.as_ref()?.as_ref().ok()?;
            Some(Row {
                id: Text(acceptance.call.origin_id.as_ref()?.as_str()),
                successor: Text(made.accepted.id.as_str()),
            })
        });
    let successors = batch::rows(successors);
    session
        .dialect_execute(SUCCEED, &[Arg::Text(&successors)])
        .await?;
    let answers = plans.into_iter().map(|plan| match plan {
        Plan::Answer(answer) => Ok(answer),
        Plan::New(place) => accepted[place].take().ok_or(Failure::LostRace),
    });
    answers.collect()
}

fn made_before(successor: &CallId) -> Committed {
    Committed {
        accepted: Accepted {
            id: successor.clone(),
            replayed: true,
        },
        doorbell: None,
    }
}

/// The function and its app as they are now, read once.
async fn snapshot(
    session: &mut impl Session,
    known: &mut BTreeMap<FnId, Option<Arc<Snapshot>>>,
    id: &FnId,
) -> Result<Option<Arc<Snapshot>>, sqlx::Error> {
    if let Some(known) = known.get(id) {
        return Ok(known.clone());
    }
    let func: Option<Func> = fns::by_id(session, id).await?;
    let snapshot = match func {
        Some(func) => {
            let app: Option<App> = apps::by_id(session, &func.app_id).await?;
            app.map(|app| Arc::new(Snapshot { app, func }))
        }
        None => None,
    };
    known.insert(id.clone(), snapshot.clone());
    Ok(snapshot)
}

/// A call like `row`, due at once, with as much time as that one had.
fn repetition(row: &CallRow, id: &CallId, headers: CallHeaders, body: Bytes) -> NewCall {
    let record = &row.record;
    let had = record.expires_at.unix_millis() - record.created_at.unix_millis();
    let had = Duration::from_millis(had.max(0).unsigned_abs()).as_secs();
    NewCall {
        id: id.clone(),
        fn_id: record.fn_id.clone(),
        trigger_id: record.trigger_id.clone(),
        path: record.path.clone(),
        method: record.method.clone(),
        url: record.url.clone(),
        headers,
        options: CallOptions {
            expiry_seconds: Some(had.clamp(*EXPIRY_SECONDS.start(), *EXPIRY_SECONDS.end())),
            priority: Some(record.priority),
            max_attempts: Some(record.max_attempts),
            callback_url: record.callback_url.clone(),
            tags: record.tags.clone(),
            ..CallOptions::default()
        },
        origin_id: Some(record.id.clone()),
        body,
    }
}
