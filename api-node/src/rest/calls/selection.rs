//! The calls that something is to be done to: named by their ids, or by a filter, which is worked
//! through a bounded number at a time.

use domain::{ApiError, AppId, CallId, CallState, FnId, PageRequest, page};
use serde::Deserialize;
use utoipa::ToSchema;

use super::filter::{self, CallQuery};
use crate::calls::Calls;
use crate::rest::list::PageQuery;
use crate::store::CallFilter;

/// The most calls of one request, and how many there are when the client does not say.
const MAX: usize = 1000;
const DEFAULT: usize = 100;
/// The most pages that are looked at for one request: some hold less than they could.
const MAX_PAGES: usize = 50;

/// Which calls; either ids, or at least one filter, or `all`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CallSelection {
    /// These calls, at most 1000.
    #[schema(max_items = 1000)]
    ids: Vec<String>,
    /// Calls of this app.
    app_id: Option<String>,
    /// Calls of this function.
    fn_id: Option<String>,
    /// Calls with one of these states.
    #[schema(value_type = Vec<CallState>)]
    status: Vec<String>,
    /// Calls that were given up for this reason.
    #[schema(value_type = Option<domain::DeadReason>)]
    reason: Option<String>,
    /// Calls of exactly this path.
    path: Option<String>,
    /// Calls that were accepted after this time, in seconds since 1970.
    from_time: Option<i64>,
    /// Calls that were accepted before this time, in seconds since 1970.
    to_time: Option<i64>,
    /// Calls with this tag, as `name:value`.
    #[schema(example = "customer:4711")]
    tag: Option<String>,
    /// Every call, if there is no filter.
    all: bool,
    /// How many calls at most, of those that a filter finds; 100 when absent.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// `next_cursor` of the answer before.
    cursor: Option<String>,
}

/// A selection that was checked.
pub(super) enum Selected {
    /// These calls.
    Ids(Vec<CallId>),
    /// Those that the filter finds, so many of them.
    Filter {
        filter: Box<CallFilter>,
        after: Option<String>,
        limit: usize,
    },
    /// None: no call can match.
    Nothing,
}

impl CallSelection {
    /// Checks it.
    ///
    /// # Errors
    /// `InvalidCallFilter`, `InvalidCursor`.
    pub(super) fn selected(self) -> Result<Selected, ApiError> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let time = |seconds: Option<i64>| seconds.map(|seconds| seconds.to_string());
        let (from, to) = (time(self.from_time), time(self.to_time));
        let filter = CallFilter {
            app_id: some(self.app_id).map(AppId::from),
            fn_id: some(self.fn_id).map(FnId::from),
            states: filter::states(&self.status)?,
            reason: some(self.reason)
                .as_deref()
                .map(filter::reason)
                .transpose()?,
            kind: None,
            path: some(self.path),
            from: from.as_deref().map(filter::from_time).transpose()?,
            to: to.as_deref().map(filter::to_time).transpose()?,
            tag: some(self.tag).as_deref().map(filter::tag).transpose()?,
        };
        let page = PageQuery::after(some(self.cursor)).request()?;
        select(self.ids, Some(filter), self.all, self.limit, page)
    }
}

impl CallQuery {
    /// The selection that a query stands for.
    ///
    /// # Errors
    /// `InvalidCallFilter`, `InvalidCursor`.
    pub(super) fn selected(&self) -> Result<Selected, ApiError> {
        let page = self.page.request()?;
        let limit = match &self.limit {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| wrong_limit())?),
        };
        select(self.ids.clone(), self.filter()?, self.all, limit, page)
    }
}

fn select(
    ids: Vec<String>,
    filter: Option<CallFilter>,
    all: bool,
    limit: Option<i64>,
    page: PageRequest,
) -> Result<Selected, ApiError> {
    let limit = match limit {
        None => DEFAULT,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=MAX).contains(limit))
            .ok_or_else(wrong_limit)?,
    };
    let Some(filter) = filter else {
        return Ok(Selected::Nothing);
    };
    let filtered = filter != CallFilter::default();
    match (ids.is_empty(), filtered) {
        (false, true) => Err(filter::invalid("ids and filters cannot be together")),
        (false, false) if ids.len() > MAX => Err(filter::invalid("ids must be at most 1000")),
        (false, false) => {
            let mut ids: Vec<CallId> = ids
                .into_iter()
                .filter(|id| !id.contains('\0'))
                .map(CallId::from)
                .collect();
            ids.sort_unstable();
            ids.dedup();
            Ok(Selected::Ids(ids))
        }
        // What was meant to name a few calls must not mean all of them by a slip.
        (true, false) if !all => Err(filter::invalid("ids, a filter or all must be given")),
        (true, _) => Ok(Selected::Filter {
            filter: Box::new(filter),
            after: page.after,
            limit,
        }),
    }
}

fn wrong_limit() -> ApiError {
    filter::invalid("limit must be between 1 and 1000")
}

/// The ids of a selection, and the cursor that leads to the rest, if there may be one.
pub(super) struct Chosen {
    pub(super) ids: Vec<CallId>,
    pub(super) next_cursor: Option<String>,
}

impl Selected {
    /// Finds the calls; a filter is narrowed by `narrow` first.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn find(
        self,
        calls: &Calls,
        narrow: impl FnOnce(&mut CallFilter),
    ) -> Result<Chosen, ApiError> {
        let (mut filter, mut after, limit) = match self {
            Self::Nothing => {
                return Ok(Chosen {
                    ids: Vec::new(),
                    next_cursor: None,
                });
            }
            Self::Ids(ids) => {
                return Ok(Chosen {
                    ids,
                    next_cursor: None,
                });
            }
            Self::Filter {
                filter,
                after,
                limit,
            } => (filter, after, limit),
        };
        narrow(&mut filter);
        let mut ids: Vec<CallId> = Vec::new();
        let mut next_cursor = None;
        for _ in 0..MAX_PAGES {
            let page = PageRequest {
                after,
                per_page: (limit - ids.len()).min(page::MAX_PER_PAGE),
            };
            let found = calls.store().calls(&filter, &page).await?;
            ids.extend(found.items.into_iter().map(|call| call.id));
            next_cursor = found.next_cursor;
            if next_cursor.is_none() || ids.len() == limit {
                break;
            }
            after = PageRequest::from_query(next_cursor.as_deref(), None)?.after;
        }
        Ok(Chosen { ids, next_cursor })
    }
}
