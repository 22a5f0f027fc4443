//! The query of list requests and the shape of their answers (spec/01 1.2).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use domain::{ApiError, ErrorCode, Page, PageRequest};
use http::request::Parts;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

/// What a list may be asked for. An empty value counts as absent; of a repeated name the first
/// value counts.
#[derive(Debug, Default)]
pub(super) struct ListQuery {
    pub(super) app_id: Option<String>,
    pub(super) fn_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) page: PageQuery,
}

/// Which page of a list.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Items per page; 30 when absent, at most 100.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 100, default = 30)]
    per_page: Option<String>,
}

impl ListQuery {
    fn parse(query: &str) -> Self {
        let mut list = Self {
            page: PageQuery::parse(query),
            ..Self::default()
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "app_id" => &mut list.app_id,
                "fn_id" => &mut list.fn_id,
                "name" => &mut list.name,
                _ => continue,
            };
            if !value.is_empty() && field.is_none() {
                *field = Some(value.into_owned());
            }
        }
        list
    }

    /// Whether a filter holds a NUL: it matches nothing, and PostgreSQL would refuse to look.
    pub(super) fn matches_nothing(&self) -> bool {
        [&self.app_id, &self.fn_id, &self.name]
            .into_iter()
            .flatten()
            .any(|value| value.contains('\0'))
    }
}

impl PageQuery {
    /// Reads the two parameters, and no other.
    pub(super) fn parse(query: &str) -> Self {
        let mut page = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "cursor" => &mut page.cursor,
                "per_page" => &mut page.per_page,
                _ => continue,
            };
            if !value.is_empty() && field.is_none() {
                *field = Some(value.into_owned());
            }
        }
        page
    }

    /// The page behind a cursor.
    pub(super) fn after(cursor: Option<String>) -> Self {
        Self {
            cursor,
            per_page: None,
        }
    }

    /// The page that is asked for.
    ///
    /// # Errors
    /// `InvalidCursor`.
    pub(super) fn request(&self) -> Result<PageRequest, ApiError> {
        let request = PageRequest::from_query(self.cursor.as_deref(), self.per_page.as_deref())?;
        match &request.after {
            Some(after) if after.contains('\0') => Err(ErrorCode::InvalidCursor.into()),
            _ => Ok(request),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    /// Where the next page starts; absent when this page is not full.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// Ordered by name; calls, newest first.
    items: Vec<T>,
}

impl<T> List<T> {
    /// A page without items.
    pub(super) fn empty() -> Self {
        Self::whole(Vec::new())
    }

    /// All that there is.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self {
            next_cursor: None,
            items,
        }
    }
}

impl<T> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        Self {
            next_cursor: page.next_cursor,
            items: page.items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_an_empty_one_is_none() {
        let query = ListQuery::parse("name=a%20b&name=c&app_id=&per_page&%ff=%ff&cursor=YQ");
        assert_eq!(query.name.as_deref(), Some("a b"));
        assert_eq!(query.app_id, None);
        assert_eq!(
            query.page.request().expect("a cursor").after.as_deref(),
            Some("a")
        );
    }

    #[test]
    fn nul_never_reaches_a_store() {
        assert!(ListQuery::parse("app_id=%00").matches_nothing());
        assert!(ListQuery::parse("cursor=AA").page.request().is_err());
    }
}
