//! The statements on the tables of requests and results: what is large.

use bytes::Bytes;
use domain::CallId;
use domain::call::{CallHeaders, CallResult};
use serde::Serialize;

use super::super::session::{Arg, Session, Sql};
use super::batch::{self, Bodies, Span, Text, batch, of_ids};
use super::rows::{self, ResultRow};

const INSERT_REQUESTS: Sql = batch!([call_id text, headers text, snapshot text, start bigint, length bigint]
    "INSERT INTO call_requests (call_id, headers, body, snapshot) \
     SELECT call_id, headers, substr($2, CAST(start AS INTEGER), CAST(length AS INTEGER)), snapshot \
     FROM batch WHERE true ON CONFLICT (call_id) DO NOTHING");
const INSERT_RESULTS: Sql = batch!([call_id text, status bigint, headers text, truncated bigint, start bigint,
    length bigint]
    "INSERT INTO call_results (call_id, status, headers, body, truncated) \
     SELECT call_id, status, headers, substr($2, CAST(start AS INTEGER), CAST(length AS INTEGER)), \
     truncated FROM batch WHERE true ON CONFLICT (call_id) DO NOTHING");
const RESULT: &str = "SELECT status, headers, body, truncated FROM call_results WHERE call_id = $1";
const REQUEST: &str = "SELECT r.headers, r.body, s.document FROM call_requests r \
    JOIN call_snapshots s ON s.hash = r.snapshot WHERE r.call_id = $1";
pub(super) const REQUESTS: Sql = of_ids!(
    "SELECT r.call_id, r.headers, r.body FROM call_requests r",
    "r.call_id",
    ""
);

#[derive(Serialize)]
struct RequestRow<'a> {
    call_id: Text<'a>,
    headers: String,
    snapshot: &'a str,
    #[serde(flatten)]
    span: Span,
}

#[derive(Serialize)]
struct NewResult<'a> {
    call_id: Text<'a>,
    status: u16,
    headers: String,
    truncated: i64,
    #[serde(flatten)]
    span: Span,
}

/// The request of a call that is accepted.
pub(super) struct Request<'a> {
    pub(super) call_id: &'a CallId,
    pub(super) headers: &'a CallHeaders,
    pub(super) body: &'a Bytes,
    /// The hash of its snapshot.
    pub(super) snapshot: &'a str,
}

pub(super) async fn insert_requests(
    session: &mut impl Session,
    requests: impl IntoIterator<Item = Request<'_>>,
) -> Result<(), sqlx::Error> {
    insert_all(session, INSERT_REQUESTS, requests, |request, bodies| {
        RequestRow {
            call_id: Text(request.call_id.as_str()),
            headers: super::super::rows::to_json(request.headers),
            snapshot: request.snapshot,
            span: bodies.push(request.body),
        }
    })
    .await
}

/// Keeps what functions answered; the first answer of a call stays.
pub(super) async fn insert(
    session: &mut impl Session,
    results: impl IntoIterator<Item = (&CallId, &CallResult)>,
) -> Result<(), sqlx::Error> {
    insert_all(session, INSERT_RESULTS, results, |(id, result), bodies| {
        NewResult {
            call_id: Text(id.as_str()),
            status: result.status,
            headers: super::super::rows::to_json(&result.headers),
            truncated: result.truncated.into(),
            span: bodies.push(&result.body),
        }
    })
    .await
}

/// Inserts rows with their bytes, in as many statements as the bytes need.
async fn insert_all<T, R: Serialize>(
    session: &mut impl Session,
    sql: Sql,
    items: impl IntoIterator<Item = T>,
    row: impl Fn(T, &mut Bodies) -> R,
) -> Result<(), sqlx::Error> {
    // Made before anything is awaited: what is borrowed of the items need not outlive it.
    let mut statements = Vec::new();
    let (mut rows, mut bodies) = (Vec::new(), Bodies::default());
    for item in items {
        rows.push(row(item, &mut bodies));
        if bodies.is_enough() {
            let rows = batch::rows(std::mem::take(&mut rows));
            statements.push((rows, std::mem::take(&mut bodies)));
        }
    }
    if !rows.is_empty() {
        statements.push((batch::rows(rows), bodies));
    }
    for (rows, bodies) in statements {
        let args = [Arg::Text(&rows), Arg::Bytes(bodies.as_slice())];
        session.dialect_execute(sql, &args).await?;
    }
    Ok(())
}

pub(super) async fn by_id(
    session: &mut impl Session,
    id: &CallId,
) -> Result<Option<CallResult>, sqlx::Error> {
    let row: Option<ResultRow> = session.row(RESULT, &[Arg::Text(id.as_str())]).await?;
    row.map(rows::result).transpose()
}

/// Headers, body and the document of the snapshot.
pub(super) async fn request(
    session: &mut impl Session,
    id: &CallId,
) -> Result<Option<(CallHeaders, Bytes, String)>, sqlx::Error> {
    let row: Option<(String, Vec<u8>, String)> =
        session.row(REQUEST, &[Arg::Text(id.as_str())]).await?;
    let Some((headers, body, snapshot)) = row else {
        return Ok(None);
    };
    Ok(Some((rows::headers_of(headers)?, body.into(), snapshot)))
}

/// Headers and bodies of these calls, as far as they are kept.
pub(super) async fn requests(
    session: &mut impl Session,
    ids: impl IntoIterator<Item = &CallId>,
) -> Result<Vec<(CallId, CallHeaders, Bytes)>, sqlx::Error> {
    let ids = batch::ids(ids.into_iter().map(CallId::as_str));
    let found: Vec<(String, String, Vec<u8>)> =
        session.dialect_rows(REQUESTS, &[Arg::Text(&ids)]).await?;
    let read = found.into_iter().map(|(id, headers, body)| {
        Ok((
            CallId::from(id),
            rows::headers_of(headers)?,
            Bytes::from(body),
        ))
    });
    read.collect()
}
