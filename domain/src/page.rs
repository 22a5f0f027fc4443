//! Paging by name: page sizes, cursors, and when a page says that there may be more (spec/01 1.2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{ApiError, ErrorCode};

/// Items on a page when the client does not say.
pub const DEFAULT_PER_PAGE: usize = 30;
/// The most items on a page.
pub const MAX_PER_PAGE: usize = 100;

/// Which page a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Only names strictly greater than this one; the first page has none.
    pub after: Option<String>,
    /// How many items at most: 1 to [`MAX_PER_PAGE`].
    pub per_page: usize,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            after: None,
            per_page: DEFAULT_PER_PAGE,
        }
    }
}

impl PageRequest {
    /// Reads the query values `cursor` and `per_page`. A page size that is missing, not a number
    /// or below one means the default.
    ///
    /// # Errors
    /// `InvalidCursor` when the cursor is not one that [`Page::new`] makes.
    pub fn from_query(cursor: Option<&str>, per_page: Option<&str>) -> Result<Self, ApiError> {
        let after = match cursor {
            None | Some("") => None,
            Some(cursor) => Some(decode(cursor).ok_or(ErrorCode::InvalidCursor)?),
        };
        let per_page = match per_page.and_then(|text| text.parse::<i64>().ok()) {
            Some(size) if size > 0 => usize::try_from(size)
                .unwrap_or(MAX_PER_PAGE)
                .min(MAX_PER_PAGE),
            _ => DEFAULT_PER_PAGE,
        };
        Ok(Self { after, per_page })
    }
}

/// The cursor that leads behind `after`.
pub fn cursor(after: &str) -> String {
    URL_SAFE_NO_PAD.encode(after)
}

fn decode(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// One page of a list, and the cursor of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, ordered by name.
    pub items: Vec<T>,
    /// Present exactly when the page is full, even if nothing follows.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page that holds `items`, which were asked for by `request`.
    pub fn new(request: &PageRequest, items: Vec<T>, name: impl Fn(&T) -> &str) -> Self {
        let next_cursor = match items.last() {
            Some(last) if items.len() == request.per_page => Some(cursor(name(last))),
            _ => None,
        };
        Self { items, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> usize {
        PageRequest::from_query(None, Some(text))
            .expect("no cursor, no error")
            .per_page
    }

    #[test]
    fn page_sizes_are_clamped() {
        assert_eq!(size(""), 30);
        assert_eq!(size("0"), 30);
        assert_eq!(size("-1"), 30);
        assert_eq!(size("many"), 30);
        assert_eq!(size("1"), 1);
        assert_eq!(size("101"), 100);
    }

    #[test]
    fn a_cursor_leads_behind_the_last_name() {
        let request = PageRequest {
            after: None,
            per_page: 1,
        };
        let page = Page::new(&request, vec!["läuft".to_owned()], |name| name);
        let cursor = page.next_cursor.expect("the page is full");
        let next = PageRequest::from_query(Some(&cursor), Some("1")).expect("our own cursor");
        assert_eq!(next.after.as_deref(), Some("läuft"));
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        for cursor in ["***", "_w", "a=b"] {
            let error = PageRequest::from_query(Some(cursor), None).expect_err(cursor);
            assert_eq!(error.code(), ErrorCode::InvalidCursor);
        }
    }
}
