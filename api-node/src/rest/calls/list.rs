//! Lists of calls, newest first.

use domain::{CallRecord, FnId};

use super::Kept;
use super::filter::CallQuery;
use crate::calls::Calls;
use crate::rest::list::{List, PageQuery};
use crate::rest::openapi::{ErrorBody, ServerErrors};
use crate::rest::path::PathParams;
use crate::rest::reply::{Json, Reply};
use crate::store::CallFilter;

/// Lists calls, newest first.
#[utoipa::path(
    get, path = "/v2/calls", tag = "calls", operation_id = "ListAllCalls",
    params(CallQuery, PageQuery),
    responses(
        (status = 200, description = "A page of calls. Where the filters find little together, it may hold fewer than there are, or none: `next_cursor` leads on as long as there may be more.", body = List<CallRecord>),
        (status = 400, description = "A filter is not one, or the cursor is not one of this server's.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn list(Kept(calls): Kept, query: CallQuery) -> Reply<List<CallRecord>> {
    page(&calls, &query, |filter| filter).await
}

/// Lists the calls of a function, newest first. A function that does not exist may have had calls.
#[utoipa::path(
    get, path = "/v2/fns/{fn_id}/calls", tag = "calls", operation_id = "ListCalls",
    params(("fn_id" = String, Path, min_length = 1), CallQuery, PageQuery),
    responses(
        (status = 200, description = "A page of calls. Where the filters find little together, it may hold fewer than there are, or none: `next_cursor` leads on as long as there may be more.", body = List<CallRecord>),
        (status = 400, description = "A filter is not one, or the cursor is not one of this server's.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls."),
        ServerErrors,
    )
)]
pub(super) async fn list_of_fn(
    Kept(calls): Kept,
    PathParams(fn_id): PathParams<FnId>,
    query: CallQuery,
) -> Reply<List<CallRecord>> {
    page(&calls, &query, |filter| CallFilter {
        fn_id: Some(fn_id),
        ..filter
    })
    .await
}

/// The page of calls that is asked for, of those to which the filter is narrowed.
pub(super) async fn page(
    calls: &Calls,
    query: &CallQuery,
    narrow: impl FnOnce(CallFilter) -> CallFilter,
) -> Reply<List<CallRecord>> {
    let page = query.page.request()?;
    let Some(filter) = query.filter()? else {
        return Ok(Json(List::empty()));
    };
    let found = calls.store().calls(&narrow(filter), &page).await?;
    Ok(Json(found.into()))
}
