//! How rows become calls, attempts and results.

use std::time::Duration;

use bytes::Bytes;
use domain::call::{Attempt, AttemptState, CallHeaders, CallResult, Progress};
use domain::{
    AppId, CallId, CallKind, CallRecord, CallState, DeadReason, FnId, Timestamp, TriggerId,
};
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use super::super::rows::{json, unreadable};

/// What is read of a call `c`: of one that runs, its attempt knows since when.
macro_rules! call_columns {
    () => {
        "c.id, c.app_id, c.fn_id, c.trigger_id, c.kind, c.state, c.reason, c.path, c.method, c.url, \
         c.image, c.priority, c.tags, c.epoch, c.attempts, c.max_attempts, c.crashes, c.lease_losses, c.setbacks, c.backoff_ms, \
         c.error, c.origin_id, c.successor_id, c.callback_url, c.runner_id, c.result_status, \
         c.created_at, c.due_at, c.expires_at, c.completed_at, \
         CASE WHEN c.state = 'running' THEN COALESCE((SELECT a.started_at FROM call_attempts a \
         WHERE a.call_id = c.id AND a.epoch = c.epoch), c.started_at) ELSE c.started_at END AS started_at"
    };
}
pub(super) use call_columns;

/// A call as it is in its row.
#[derive(Debug, Clone)]
pub(super) struct CallRow {
    pub(super) record: CallRecord,
    pub(super) progress: Progress,
    /// The call that was made of it when it was redriven.
    pub(super) successor: Option<CallId>,
}

impl CallRow {
    pub(super) fn id(&self) -> &CallId {
        &self.record.id
    }
}

impl<'r, R> FromRow<'r, R> for CallRow
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let text = |column: &str| row.try_get::<String, _>(column);
        let optional = |column: &str| row.try_get::<Option<String>, _>(column);
        let number = |column: &str| row.try_get::<i64, _>(column);
        let small = |column: &str| narrow::<u32>(column, number(column)?);
        let time = |column: &str| row.try_get::<Option<i64>, _>(column).map(timestamp);
        let state = word("state", &text("state")?, CallState::parse)?;
        let reason = optional("reason")?
            .map(|reason| word("reason", &reason, DeadReason::parse))
            .transpose()?;
        let progress = Progress {
            state,
            reason,
            epoch: number("epoch")?,
            attempts: small("attempts")?,
            max_attempts: small("max_attempts")?,
            crashes: small("crashes")?,
            lease_losses: small("lease_losses")?,
            setbacks: small("setbacks")?,
            backoff_ms: narrow("backoff_ms", number("backoff_ms")?)?,
            due_at: time("due_at")?,
            expires_at: time("expires_at")?,
        };
        let record = CallRecord {
            id: CallId::from(text("id")?),
            status: state,
            kind: word("kind", &text("kind")?, CallKind::parse)?,
            app_id: AppId::from(text("app_id")?),
            fn_id: FnId::from(text("fn_id")?),
            trigger_id: optional("trigger_id")?.map(TriggerId::from),
            path: text("path")?,
            method: text("method")?,
            url: text("url")?,
            image: text("image")?,
            priority: narrow("priority", number("priority")?)?,
            tags: json("tags", text("tags")?)?,
            attempts: progress.attempts,
            max_attempts: progress.max_attempts,
            epoch: progress.epoch,
            reason,
            error: optional("error")?,
            origin_id: optional("origin_id")?.map(CallId::from),
            callback_url: optional("callback_url")?,
            runner_id: optional("runner_id")?,
            result_status: row
                .try_get::<Option<i64>, _>("result_status")?
                .map(|status| narrow("result_status", status))
                .transpose()?,
            created_at: Timestamp::from_unix_millis(number("created_at")?),
            due_at: if state.is_final() {
                Timestamp::UNSET
            } else {
                progress.due_at
            },
            expires_at: progress.expires_at,
            started_at: time("started_at")?,
            completed_at: time("completed_at")?,
        };
        Ok(Self {
            record,
            progress,
            successor: optional("successor_id")?.map(CallId::from),
        })
    }
}

/// An attempt as it is in its row.
pub(super) struct AttemptRow(pub(super) Attempt);

impl<'r, R> FromRow<'r, R> for AttemptRow
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let time = |column: &str| row.try_get::<Option<i64>, _>(column).map(timestamp);
        Ok(Self(Attempt {
            epoch: row.try_get("epoch")?,
            status: word(
                "status",
                &row.try_get::<String, _>("status")?,
                AttemptState::parse,
            )?,
            runner_id: row.try_get("runner_id")?,
            claimed_at: time("claimed_at")?,
            started_at: time("started_at")?,
            ended_at: time("ended_at")?,
            error: row.try_get("error")?,
            result_status: row
                .try_get::<Option<i64>, _>("result_status")?
                .map(|status| narrow("result_status", status))
                .transpose()?,
        }))
    }
}

/// What is read of a result: status, headers, body, whether that was cut.
pub(super) type ResultRow = (i64, String, Vec<u8>, i64);

pub(super) fn result(
    (status, headers, body, truncated): ResultRow,
) -> Result<CallResult, sqlx::Error> {
    Ok(CallResult {
        status: narrow("status", status)?,
        headers: headers_of(headers)?,
        body: Bytes::from(body),
        truncated: truncated != 0,
    })
}

pub(super) fn headers_of(text: String) -> Result<CallHeaders, sqlx::Error> {
    json("headers", text)
}

/// A time for a column that has null where there is none.
pub(super) fn millis(time: Timestamp) -> Option<i64> {
    (!time.is_unset()).then(|| time.unix_millis())
}

pub(super) fn timestamp(millis: Option<i64>) -> Timestamp {
    millis.map_or(Timestamp::UNSET, Timestamp::from_unix_millis)
}

/// A number for a column.
pub(super) fn wide(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn narrow<T: TryFrom<i64, Error = std::num::TryFromIntError>>(
    column: &str,
    number: i64,
) -> Result<T, Error> {
    T::try_from(number).map_err(|error| unreadable(column, error))
}

fn word<T>(column: &str, text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
    parse(text).ok_or_else(|| unreadable(column, UnknownWord))
}

/// A word that this server does not know.
#[derive(Debug, thiserror::Error)]
#[error("an unknown word")]
struct UnknownWord;

/// A duration for a column.
pub(super) fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
