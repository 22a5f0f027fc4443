//! Dead letters: durable calls that were given up. They are listed, handed in again, or deleted.

use domain::{CallId, CallRecord, CallState};
use serde::Serialize;
use utoipa::ToSchema;

use super::Kept;
use super::filter::CallQuery;
use super::list::page;
use super::selection::CallSelection;
use crate::rest::body::JsonObject;
use crate::rest::list::{List, PageQuery};
use crate::rest::openapi::{BodyErrors, ErrorBody, ServerErrors};
use crate::rest::reply::{Json, Reply};
use crate::store::CallFilter;

/// What became of dead letters that were to be handed in again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Redriven {
    /// One for each dead letter.
    items: Vec<RedrivenCall>,
    /// There may be more that the filter finds: ask again with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What became of a dead letter that was to be handed in again.
#[derive(Debug, Serialize, ToSchema)]
struct RedrivenCall {
    /// The dead letter.
    id: CallId,
    /// The new call, which may be one that was made of it before.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// What became of dead letters that were to be deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Purged {
    /// How many there were.
    purged: u64,
    /// There may be more that the filter finds: ask again with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Lists the durable calls that were given up, newest first.
#[utoipa::path(
    get, path = "/v2/dead-letters", tag = "calls", operation_id = "ListDeadLetters",
    params(CallQuery, PageQuery),
    responses(
        (status = 200, description = "A page of calls. Where the filters find little together, it may hold fewer than there are, or none: `next_cursor` leads on as long as there may be more.", body = List<CallRecord>),
        (status = 400, description = "A filter is not one, or the cursor is not one of this server's.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn list(Kept(calls): Kept, query: CallQuery) -> Reply<List<CallRecord>> {
    page(&calls, &query, |mut filter| {
        only_dead(&mut filter);
        filter
    })
    .await
}

/// Hands in dead letters again: each becomes a new call with the same request, of the function as it is
/// now. Doing so twice makes one call.
#[utoipa::path(
    post, path = "/v2/dead-letters/redrive", tag = "calls", operation_id = "RedriveDeadLetters",
    request_body = CallSelection,
    responses(
        (status = 200, description = "What became of them.", body = Redriven),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        BodyErrors, ServerErrors,
    )
)]
pub(super) async fn redrive(
    Kept(calls): Kept,
    JsonObject(selection): JsonObject<CallSelection>,
) -> Reply<Redriven> {
    let chosen = selection.selected()?.find(&calls, only_dead).await?;
    let outcomes = calls.redrive(chosen.ids.clone()).await?;
    let items = chosen
        .ids
        .into_iter()
        .zip(outcomes)
        .map(|(id, outcome)| match outcome {
            Ok(accepted) => RedrivenCall {
                id,
                call_id: Some(accepted.id),
                message: None,
            },
            Err(error) => RedrivenCall {
                id,
                call_id: None,
                message: Some(error.message().to_owned()),
            },
        })
        .collect();
    Ok(Json(Redriven {
        items,
        next_cursor: chosen.next_cursor,
    }))
}

/// Deletes dead letters with their requests, attempts and logs.
#[utoipa::path(
    delete, path = "/v2/dead-letters", tag = "calls", operation_id = "PurgeDeadLetters",
    params(
        ("id" = Option<String>, Query, description = "These dead letters: ids with commas between them, at most 1000; may be repeated."),
        ("all" = Option<bool>, Query, description = "`true` for every dead letter, if there is no filter."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "How many at most, of those that a filter finds; 100 when absent."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the answer before."),
        CallQuery,
    ),
    responses(
        (status = 200, description = "How many are gone.", body = Purged),
        (status = 400, description = "Neither ids, a filter nor `all` are given, or one of them is none.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn purge(Kept(calls): Kept, query: CallQuery) -> Reply<Purged> {
    let chosen = query.selected()?.find(&calls, only_dead).await?;
    let purged = calls.purge(chosen.ids).await?;
    Ok(Json(Purged {
        purged,
        next_cursor: chosen.next_cursor,
    }))
}

fn only_dead(filter: &mut CallFilter) {
    filter.states = vec![CallState::Dead];
}
