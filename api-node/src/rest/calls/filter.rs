//! Which calls a client asks for: the query of lists, and the same words in documents.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use domain::{ApiError, AppId, CallKind, CallState, DeadReason, ErrorCode, FnId, Timestamp};
use http::request::Parts;
use utoipa::IntoParams;

use crate::rest::list::PageQuery;
use crate::store::CallFilter;

/// The query of a list of calls. An empty value counts as absent; of a repeated name the first value
/// counts, but for `status` and `id`.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CallQuery {
    /// Calls of this app.
    app_id: Option<String>,
    /// Calls of this function.
    fn_id: Option<String>,
    /// Calls with one of these states: words with commas between them; may be repeated.
    #[param(value_type = Option<String>, example = "queued,running")]
    status: Vec<String>,
    /// Calls that were given up for this reason.
    #[param(value_type = Option<DeadReason>)]
    reason: Option<String>,
    /// Calls whose clients wait (`sync`), or durable ones (`async`).
    #[param(rename = "type", value_type = Option<CallKind>)]
    kind: Option<String>,
    /// Calls of exactly this path.
    path: Option<String>,
    /// Calls that were accepted after this time, in seconds since 1970.
    #[param(value_type = Option<i64>)]
    from_time: Option<String>,
    /// Calls that were accepted before this time, in seconds since 1970.
    #[param(value_type = Option<i64>)]
    to_time: Option<String>,
    /// Calls with this tag, as `name:value`.
    #[param(example = "customer:4711")]
    tag: Option<String>,
    #[param(ignore)]
    pub(super) ids: Vec<String>,
    #[param(ignore)]
    pub(super) all: bool,
    #[param(ignore)]
    pub(super) limit: Option<String>,
    #[param(ignore)]
    pub(super) page: PageQuery,
}

impl CallQuery {
    fn parse(query: &str) -> Self {
        let mut parsed = Self {
            page: PageQuery::parse(query),
            ..Self::default()
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "status" => {
                    parsed.status.extend(words(&value));
                    continue;
                }
                "id" => {
                    parsed.ids.extend(words(&value));
                    continue;
                }
                "all" => {
                    parsed.all |= value == "true";
                    continue;
                }
                "app_id" => &mut parsed.app_id,
                "fn_id" => &mut parsed.fn_id,
                "reason" => &mut parsed.reason,
                "type" => &mut parsed.kind,
                "path" => &mut parsed.path,
                "from_time" => &mut parsed.from_time,
                "to_time" => &mut parsed.to_time,
                "tag" => &mut parsed.tag,
                "limit" => &mut parsed.limit,
                _ => continue,
            };
            if !value.is_empty() && field.is_none() {
                *field = Some(value.into_owned());
            }
        }
        parsed
    }

    /// The filter; none if nothing can match it.
    ///
    /// # Errors
    /// `InvalidCallFilter` that names the parameter.
    pub(super) fn filter(&self) -> Result<Option<CallFilter>, ApiError> {
        let filter = CallFilter {
            app_id: self.app_id.as_deref().map(AppId::from),
            fn_id: self.fn_id.as_deref().map(FnId::from),
            states: states(&self.status)?,
            reason: match &self.reason {
                Some(word) => Some(reason(word)?),
                None => None,
            },
            kind: match &self.kind {
                Some(word) => Some(kind(word)?),
                None => None,
            },
            path: self.path.clone(),
            from: self.from_time.as_deref().map(from_time).transpose()?,
            to: self.to_time.as_deref().map(to_time).transpose()?,
            tag: self.tag.as_deref().map(tag).transpose()?,
        };
        let texts = [&self.app_id, &self.fn_id, &self.path, &self.tag];
        // PostgreSQL would refuse to look.
        let impossible = texts.into_iter().flatten().any(|text| text.contains('\0'));
        Ok((!impossible).then_some(filter))
    }
}

impl<S: Sync> FromRequestParts<S> for CallQuery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

/// States by their words.
pub(super) fn states(words: &[String]) -> Result<Vec<CallState>, ApiError> {
    words
        .iter()
        .map(|word| {
            let states = CallState::ALL.iter().map(|state| state.as_str());
            CallState::parse(word).ok_or_else(|| not_one_of("status", states))
        })
        .collect()
}

/// A reason by its word.
pub(super) fn reason(word: &str) -> Result<DeadReason, ApiError> {
    let reasons = DeadReason::ALL.iter().map(|reason| reason.as_str());
    DeadReason::parse(word).ok_or_else(|| not_one_of("reason", reasons))
}

fn kind(word: &str) -> Result<CallKind, ApiError> {
    let kinds = CallKind::ALL.iter().map(|kind| kind.as_str());
    CallKind::parse(word).ok_or_else(|| not_one_of("type", kinds))
}

fn not_one_of(name: &str, words: impl Iterator<Item = &'static str>) -> ApiError {
    let words: Vec<_> = words.collect();
    invalid(&format!("{name} must be one of {}", words.join(", ")))
}

/// The lower bound of the time of acceptance, in the original's words.
pub(super) fn from_time(text: &str) -> Result<Timestamp, ApiError> {
    epoch_seconds(text).ok_or_else(|| invalid("from_time is not an epoch time"))
}

/// The upper bound.
pub(super) fn to_time(text: &str) -> Result<Timestamp, ApiError> {
    epoch_seconds(text).ok_or_else(|| invalid("to_time is not an epoch time"))
}

fn epoch_seconds(text: &str) -> Option<Timestamp> {
    let seconds: i64 = text.parse().ok()?;
    Some(Timestamp::from_unix_millis(seconds.checked_mul(1000)?))
}

/// Name and value of a tag.
pub(super) fn tag(text: &str) -> Result<(String, String), ApiError> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(invalid("tag must be name:value")),
    }
}

/// The error that says what is wrong with a filter.
pub(super) fn invalid(message: &str) -> ApiError {
    ApiError::with_message(ErrorCode::InvalidCallFilter, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_may_be_repeated_or_have_commas_between_them() {
        let query = CallQuery::parse("status=queued,running&status=dead&status=&type=async");
        let filter = query.filter().expect("valid").expect("possible");
        let expected = [CallState::Queued, CallState::Running, CallState::Dead];
        assert_eq!(filter.states, expected);
        assert_eq!(filter.kind, Some(CallKind::Async));
        assert_eq!(filter.reason, None);
    }

    #[test]
    fn nul_matches_nothing() {
        for query in ["app_id=%00", "path=%00", "tag=a:%00"] {
            assert_eq!(CallQuery::parse(query).filter().expect("valid"), None);
        }
    }
}
