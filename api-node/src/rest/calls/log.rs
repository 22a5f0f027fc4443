//! The log of a call: whole, in one of two forms (spec/02 2.5), or followed until the call is over.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use domain::{CallId, ErrorCode, FnId};
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Uri};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::Kept;
use crate::calls::Calls;
use crate::logs::{LogCursor, LogWatch};
use crate::rest::openapi::{ErrorBody, ServerErrors};
use crate::rest::path::PathParams;
use crate::rest::reply::{Failure, Json};
use crate::rest::state::ApiState;

/// A log in the original's envelope.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoadedLog {
    #[schema(example = "Successfully loaded log")]
    message: &'static str,
    log: CallLog,
}

/// The log of a call.
#[derive(Debug, Serialize, ToSchema)]
struct CallLog {
    call_id: CallId,
    /// What the function printed; bytes that are not UTF-8 are replaced.
    log: String,
}

/// Shows what the function of a call printed, one attempt after the other.
#[utoipa::path(
    get, path = "/v2/calls/{call_id}/log", tag = "calls", operation_id = "GetAnyCallLog",
    params(
        ("call_id" = String, Path, min_length = 1),
        ("follow" = Option<bool>, Query, description = "`true` sends what is there as text, and goes on until the call is over."),
    ),
    responses(
        (status = 200, description = "The log, as JSON, or as text if only that is accepted.", content((LoadedLog = "application/json"), (String = "text/plain"))),
        (status = 404, description = "There is no such call, or it has no log.", body = ErrorBody),
        (status = 406, description = "Neither JSON nor text is accepted.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn log(
    Kept(calls): Kept,
    State(state): State<ApiState>,
    PathParams(id): PathParams<CallId>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    answer(calls, None, id, &headers, &uri, &state.stop).await
}

/// Shows what the function of a call printed, one attempt after the other.
#[utoipa::path(
    get, path = "/v2/fns/{fn_id}/calls/{call_id}/log", tag = "calls", operation_id = "GetCallLog",
    params(
        ("fn_id" = String, Path, min_length = 1),
        ("call_id" = String, Path, min_length = 1),
        ("follow" = Option<bool>, Query, description = "`true` sends what is there as text, and goes on until the call is over."),
    ),
    responses(
        (status = 200, description = "The log, as JSON, or as text if only that is accepted.", content((LoadedLog = "application/json"), (String = "text/plain"))),
        (status = 404, description = "The function has no such call, or it has no log.", body = ErrorBody),
        (status = 406, description = "Neither JSON nor text is accepted.", body = ErrorBody),
        (status = 410, description = "This server keeps no calls."),
        ServerErrors,
    )
)]
pub(super) async fn log_of_fn(
    Kept(calls): Kept,
    State(state): State<ApiState>,
    PathParams((fn_id, id)): PathParams<(FnId, CallId)>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    answer(calls, Some(fn_id), id, &headers, &uri, &state.stop).await
}

async fn answer(
    calls: Calls,
    of_fn: Option<FnId>,
    id: CallId,
    headers: &HeaderMap,
    uri: &Uri,
    stop: &CancellationToken,
) -> Result<Response, Failure> {
    let known = match calls.store().call(&id).await {
        Ok(call) => of_fn.is_none_or(|fn_id| call.fn_id == fn_id),
        Err(error) if error.code() == ErrorCode::CallNotFound => false,
        Err(error) => return Err(error.into()),
    };
    if !known {
        return Err(ErrorCode::CallLogNotFound.into());
    }
    if wants_to_follow(uri) {
        return Ok(text(follow(calls, id, stop.clone())));
    }
    let log = calls.logs().read(&id).await?;
    let log = log.ok_or(ErrorCode::CallLogNotFound)?;
    Ok(match form(headers) {
        Some(Form::Json) => Json(LoadedLog {
            message: "Successfully loaded log",
            log: CallLog {
                call_id: id,
                log: String::from_utf8_lossy(&log).into_owned(),
            },
        })
        .into_response(),
        Some(Form::Text) => text(Body::from(log)),
        None => return Err(ErrorCode::CallLogNotAcceptable.into()),
    })
}

fn wants_to_follow(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, value)| name == "follow" && matches!(&*value, "true" | "1"))
}

fn text(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[derive(Debug, PartialEq, Eq)]
enum Form {
    Json,
    Text,
}

/// The form that a client accepts, by the original's rule: the first header that names one of them
/// decides, and in it JSON comes first.
fn form(headers: &HeaderMap) -> Option<Form> {
    let accepted = headers.get_all(ACCEPT);
    if accepted.iter().next().is_none() {
        return Some(Form::Json);
    }
    accepted.iter().find_map(|accepted| {
        let accepted = accepted.to_str().unwrap_or_default();
        if accepted.contains("application/json") {
            Some(Form::Json)
        } else if accepted.contains("text/plain") {
            Some(Form::Text)
        } else {
            accepted.contains("*/*").then_some(Form::Json)
        }
    })
}

/// A log that is being followed.
struct Following {
    calls: Calls,
    id: CallId,
    watch: LogWatch,
    cursor: LogCursor,
    stop: CancellationToken,
}

/// What is in the log, and what comes, until the call is over or this server ends.
fn follow(calls: Calls, id: CallId, stop: CancellationToken) -> Body {
    let following = Following {
        watch: calls.logs().watch(&id),
        calls,
        id,
        cursor: LogCursor::default(),
        stop,
    };
    Body::from_stream(stream::try_unfold(following, |mut following| async move {
        let more = following.next().await?;
        Ok::<_, domain::ApiError>(more.map(|data| (data, following)))
    }))
}

impl Following {
    async fn next(&mut self) -> Result<Option<Bytes>, domain::ApiError> {
        loop {
            // Asked first: what was printed before the end is in the log when the end is seen.
            let over = self.is_over().await?;
            if let Some(page) = self.calls.logs().read_from(&self.id, self.cursor).await? {
                self.cursor = page.next;
                if !page.data.is_empty() {
                    return Ok(Some(page.data));
                }
                if page.more {
                    continue;
                }
            }
            if over {
                return Ok(None);
            }
            let news = self.watch.changed();
            if self.stop.run_until_cancelled(news).await.is_none() {
                return Ok(None);
            }
        }
    }

    async fn is_over(&self) -> Result<bool, domain::ApiError> {
        match self.calls.store().call(&self.id).await {
            Ok(call) => Ok(call.status.is_final()),
            Err(error) if error.code() == ErrorCode::CallNotFound => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_chosen_as_the_original_does() {
        let chosen = |accepted: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in accepted {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            form(&headers)
        };
        assert_eq!(chosen(&[]), Some(Form::Json));
        assert_eq!(chosen(&["*/*"]), Some(Form::Json));
        assert_eq!(chosen(&["text/plain, application/json"]), Some(Form::Json));
        assert_eq!(chosen(&["text/plain, */*"]), Some(Form::Text));
        assert_eq!(chosen(&["image/png", "text/plain"]), Some(Form::Text));
        assert_eq!(chosen(&["*/*", "text/plain"]), Some(Form::Json));
        assert_eq!(chosen(&["image/png"]), None);
        assert_eq!(chosen(&[""]), None);
    }
}
