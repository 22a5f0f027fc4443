//! What came of an attempt, in the words of its record.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::call::{AttemptOutcome, CallHeaders, CallResult, Fault};
use domain::{ApiError, ErrorCode};
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderMap, HeaderName};
use http_body_util::BodyExt as _;
use nodekit::body::Body;
use nodekit::exchange::CallResponse;
use nodekit::{hop, trigger_headers};

use crate::agent::{Witness, output_error};
use crate::driver::Exit;

static FN_HTTP_H_RETRY_AFTER: HeaderName = HeaderName::from_static("fn-http-h-retry-after");

/// What the record says of a call that had room, and for which no container could be started.
const NO_CONTAINER: &str = "the runner could not start a container";

/// The outcome of a call whose function answered; its body is read to the end, and kept up to
/// `most` bytes.
///
/// # Errors
/// The answer is none, or breaks off.
pub(super) async fn answered(
    response: CallResponse,
    trigger: bool,
    most: usize,
) -> Result<AttemptOutcome, ApiError> {
    let CallResponse { headers, body, .. } = response;
    let (body, truncated) = read(body, most).await?;
    let retry_after = retry_after(&headers);
    let (status, headers) = if trigger {
        let status = trigger_headers::status(&headers)?.as_u16();
        (status, trigger_headers::response_headers(&headers))
    } else {
        let mut headers = headers;
        hop::strip(&mut headers);
        headers.remove(CONTENT_LENGTH);
        (200, headers)
    };
    let mut kept = CallHeaders::default();
    for (name, value) in &headers {
        kept.push(name.as_str(), value.as_bytes());
    }
    Ok(AttemptOutcome::Answered {
        status,
        retry_after,
        result: CallResult {
            status,
            headers: kept,
            body,
            truncated,
        },
    })
}

/// Reads a body to its end, so that the function can write it, and keeps the first `most` bytes.
async fn read(mut body: Body, most: usize) -> Result<(Bytes, bool), ApiError> {
    let (mut kept, mut truncated) = (BytesMut::new(), false);
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(output_error)?.into_data() else {
            continue;
        };
        let room = most - kept.len();
        if data.len() > room {
            data.truncate(room);
            truncated = true;
        }
        kept.extend_from_slice(&data);
    }
    Ok((kept.freeze(), truncated))
}

/// How long the function wants to be left alone, in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let told = headers
        .get(&FN_HTTP_H_RETRY_AFTER)
        .or_else(|| headers.get(RETRY_AFTER))?;
    let seconds = told.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The outcome of a call without an answer. `witness` tells of the container in which it ran, if it
/// did.
pub(super) async fn failed(error: ApiError, witness: Option<&Witness>) -> AttemptOutcome {
    let exit = match witness {
        Some(witness) if error.code() == ErrorCode::FunctionResponseError => witness.exit().await,
        _ => None,
    };
    outcome_of(error, exit)
}

fn outcome_of(error: ApiError, exit: Option<Exit>) -> AttemptOutcome {
    let error = match exit {
        Some(exit) if exit.out_of_memory => ErrorCode::OutOfMemory.into(),
        _ => error,
    };
    AttemptOutcome::Failed {
        fault: Fault::of(&error),
        crashed: exit.is_some(),
        retry_after: None,
        error: match error.code() {
            ErrorCode::ServerBusy => NO_CONTAINER.to_owned(),
            _ => error.message().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use nodekit::body;
    use nodekit::exchange::CallTimings;

    use super::*;

    fn response(headers: &[(&'static str, &'static str)], body: Body) -> CallResponse {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, value.parse().expect("a value"))
        });
        CallResponse {
            headers: headers.collect(),
            body,
            timings: CallTimings::default(),
        }
    }

    #[tokio::test]
    async fn a_triggers_answer_is_kept_as_its_client_would_get_it() {
        let told = [
            ("fn-http-status", "503"),
            ("fn-http-h-retry-after", "7"),
            ("fn-http-h-x-a", "1"),
            ("x-inner", "2"),
            ("content-type", "text/plain"),
        ];
        let outcome = answered(response(&told, body::full("hello")), true, 100).await;
        let AttemptOutcome::Answered {
            status,
            retry_after,
            result,
        } = outcome.expect("an answer")
        else {
            panic!("answered");
        };
        assert_eq!((status, result.status), (503, 503));
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
        assert_eq!(result.headers.get("x-a"), Some("1"));
        assert_eq!(result.headers.get("content-type"), Some("text/plain"));
        assert_eq!(result.headers.get("x-inner"), None);
        assert_eq!((&*result.body, result.truncated), (&b"hello"[..], false));
    }

    #[tokio::test]
    async fn an_invoked_function_is_taken_at_its_word_but_for_the_status() {
        let told = [
            ("fn-http-status", "503"),
            ("content-length", "5"),
            ("retry-after", "soon"),
        ];
        let outcome = answered(response(&told, body::full("hello")), false, 100).await;
        let AttemptOutcome::Answered {
            status,
            retry_after,
            result,
        } = outcome.expect("an answer")
        else {
            panic!("answered");
        };
        assert_eq!((status, retry_after), (200, None));
        assert_eq!(result.headers.get("fn-http-status"), Some("503"));
        assert_eq!(result.headers.get("content-length"), None);
    }

    #[tokio::test]
    async fn a_long_answer_is_read_to_its_end_and_kept_in_part() {
        let pieces =
            ["abc", "def", "ghi"].map(|piece| Ok::<_, Infallible>(Frame::data(piece.into())));
        let stream = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
        let (kept, truncated) = read(body::stream(stream), 4).await.expect("a body");
        assert_eq!((&*kept, truncated), (&b"abcd"[..], true));
        let (kept, truncated) = read(body::full("abcd"), 4).await.expect("a body");
        assert_eq!((&*kept, truncated), (&b"abcd"[..], false));
    }

    #[test]
    fn a_dead_container_counts_as_a_crash_and_its_memory_limit_is_told() {
        let lost = || ApiError::from(ErrorCode::FunctionResponseError).detail("inner");
        let exit = |out_of_memory| Exit {
            code: 137,
            out_of_memory,
        };
        let told = |outcome| match outcome {
            AttemptOutcome::Failed {
                fault,
                crashed,
                error,
                ..
            } => (fault, crashed, error),
            other => panic!("{other:?}"),
        };
        let text = |code: ErrorCode| code.text().to_owned();
        assert_eq!(
            told(outcome_of(lost(), Some(exit(true)))),
            (Fault::Function, true, text(ErrorCode::OutOfMemory))
        );
        assert_eq!(
            told(outcome_of(lost(), Some(exit(false)))),
            (
                Fault::Function,
                true,
                text(ErrorCode::FunctionResponseError)
            )
        );
        assert_eq!(
            told(outcome_of(lost(), None)),
            (
                Fault::Function,
                false,
                text(ErrorCode::FunctionResponseError)
            )
        );
        assert_eq!(
            told(outcome_of(ErrorCode::CallTimeout.into(), None)).0,
            Fault::Timeout
        );
    }

    #[tokio::test]
    async fn an_engine_that_is_away_is_the_platforms_fault() {
        let outcome = failed(ErrorCode::ServerBusy.into(), None).await;
        let AttemptOutcome::Failed { fault, error, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((fault, &*error), (Fault::Platform, NO_CONTAINER));
    }
}
