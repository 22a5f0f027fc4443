//! The front door's metrics (spec/10 10.2).
//!
//! Labels that clients and functions choose are bounded, so that nobody can fill the registry: verbs by
//! a list, FDK versions and the sum of all series by number.

mod placer;
mod recorder;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use domain::{ApiError, ErrorCode};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use nodekit::api_metrics::{AnswerMetrics, ApiMetrics, RequestLabels, ResponseLabels};
use nodekit::exchange::CallTimings;
use nodekit::metrics::{Histogram, Metrics, buckets};

pub use placer::PlacerMetrics;
pub use recorder::RecorderMetrics;

static FN_FDK_VERSION: HeaderName = HeaderName::from_static("fn-fdk-version");

/// FDK versions with a label of their own; the longest of them in bytes.
const MAX_FDK_VERSIONS: usize = 32;
const MAX_FDK_VERSION_BYTES: usize = 64;
const OTHER_FDK: &str = "other";

/// Series beyond which statuses are rounded and FDK versions are not told apart.
const MAX_SERIES: usize = 512;

nodekit::label_set! {
    /// The label of `fn_lb_call_latency`.
    struct CallLabels {
        /// How the call ended, by the names of the original's counters.
        call_status: &'static str,
    }
}

/// What is measured of calls.
#[derive(Debug)]
pub struct FrontDoorMetrics {
    api: ApiMetrics,
    answers: RwLock<Answers>,
    scheduling: Histogram,
    execution: Histogram,
    completed: Histogram,
    canceled: Histogram,
    timeouts: Histogram,
    errors: Histogram,
    server_busy: Histogram,
}

/// The handles of the series in use.
#[derive(Debug, Default)]
struct Answers {
    series: HashMap<SeriesKey, AnswerMetrics>,
    fdk_versions: Vec<HeaderValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SeriesKey {
    path: &'static str,
    method: &'static str,
    status: u16,
    blame: &'static str,
    fdk_version: Option<HeaderValue>,
}

/// What an answer is counted under.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `user` or `service` for an error, else empty.
    pub(crate) blame: &'static str,
    pub(crate) fdk_version: Option<HeaderValue>,
}

impl Answer {
    /// A success with the function's headers.
    pub(crate) fn success(status: StatusCode, function: &HeaderMap) -> Self {
        Self {
            status,
            blame: "",
            fdk_version: function.get(&FN_FDK_VERSION).cloned(),
        }
    }

    /// An answer without a function's.
    pub(crate) fn bare(status: StatusCode) -> Self {
        Self {
            status,
            blame: "",
            fdk_version: None,
        }
    }

    pub(crate) fn error(error: &ApiError) -> Self {
        Self {
            status: StatusCode::from_u16(error.status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            blame: error.code().blame().as_str(),
            fdk_version: None,
        }
    }
}

impl FrontDoorMetrics {
    /// Registers the metrics of calls; `api` is shared with whatever else answers on the listener.
    pub fn new(metrics: &mut Metrics, api: ApiMetrics) -> Self {
        let calls = metrics.histograms::<CallLabels>(
            "fn_lb_call_latency",
            "From the arrival of a call to the head of its answer, without its execution, in milliseconds",
            buckets::LATENCY_MILLIS,
        );
        let call = |call_status| calls.handle(&CallLabels { call_status });
        Self {
            api,
            answers: RwLock::default(),
            completed: call("completed"),
            canceled: call("canceled"),
            timeouts: call("timeouts"),
            errors: call("errors"),
            server_busy: call("server_busy"),
            scheduling: metrics.histogram(
                "fn_lb_runner_sched_latency",
                "From the arrival of a call to the start of its execution, in milliseconds",
                buckets::LATENCY_MILLIS,
            ),
            execution: metrics.histogram(
                "fn_lb_runner_exec_latency",
                "From the start of an execution to the head of its answer, in milliseconds",
                buckets::LATENCY_MILLIS,
            ),
        }
    }

    pub(crate) fn request(&self, path: &'static str, method: &'static str) {
        self.api.request(&RequestLabels {
            path: path.into(),
            method,
        });
    }

    pub(crate) fn answer(
        &self,
        path: &'static str,
        method: &'static str,
        answer: Answer,
        elapsed: Duration,
    ) {
        let mut key = SeriesKey {
            path,
            method,
            status: answer.status.as_u16(),
            blame: answer.blame,
            fdk_version: answer.fdk_version,
        };
        {
            let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = answers.series.get(&key) {
                return series.count(elapsed);
            }
        }
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.bound(&mut key);
        answers.series(&self.api, key).count(elapsed);
    }

    pub(crate) fn call_succeeded(&self, elapsed: Duration, timings: &CallTimings) {
        self.scheduling.observe(millis(timings.scheduling));
        self.execution.observe(millis(timings.execution));
        self.completed
            .observe(millis(elapsed.saturating_sub(timings.execution)));
    }

    pub(crate) fn call_failed(&self, code: ErrorCode, elapsed: Duration) {
        let ended = match code {
            ErrorCode::ServerBusy => &self.server_busy,
            ErrorCode::ClientCancelled => &self.canceled,
            ErrorCode::CallTimeout
            | ErrorCode::ImagePullTimeout
            | ErrorCode::ContainerInitTimeout => &self.timeouts,
            _ => &self.errors,
        };
        ended.observe(millis(elapsed));
    }
}

impl Answers {
    /// Makes `key` one that may have a series.
    fn bound(&mut self, key: &mut SeriesKey) {
        key.fdk_version = key
            .fdk_version
            .take()
            .map(|version| self.known_version(&version));
        if self.series.len() >= MAX_SERIES && !self.series.contains_key(key) {
            key.status = key.status / 100 * 100;
            key.fdk_version = key
                .fdk_version
                .take()
                .map(|_| HeaderValue::from_static(OTHER_FDK));
        }
    }

    /// The label of this version: itself while there are few, in a copy of its own, because a header
    /// keeps the buffer of its whole message alive.
    fn known_version(&mut self, version: &HeaderValue) -> HeaderValue {
        let other = HeaderValue::from_static(OTHER_FDK);
        if self.fdk_versions.contains(version) {
            return version.clone();
        }
        let text = version.as_bytes();
        let fit = text.len() <= MAX_FDK_VERSION_BYTES
            && text.iter().all(|byte| (b' '..=b'~').contains(byte));
        if !fit || self.fdk_versions.len() >= MAX_FDK_VERSIONS {
            return other;
        }
        match HeaderValue::from_bytes(text) {
            Ok(copy) => {
                self.fdk_versions.push(copy.clone());
                copy
            }
            Err(_) => other,
        }
    }

    fn series(&mut self, api: &ApiMetrics, key: SeriesKey) -> &AnswerMetrics {
        self.series.entry(key).or_insert_with_key(|key| {
            let version = key
                .fdk_version
                .as_ref()
                .and_then(|version| version.to_str().ok());
            api.answers(&ResponseLabels {
                path: key.path.into(),
                method: key.method,
                status: key.status,
                blame: key.blame,
                fn_fdk_version: version.unwrap_or_default().to_owned(),
            })
        })
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> (Metrics, FrontDoorMetrics) {
        let mut registry = Metrics::new();
        let api = ApiMetrics::new(&mut registry);
        let metrics = FrontDoorMetrics::new(&mut registry, api);
        (registry, metrics)
    }

    fn answer(status: u16, version: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(
            &FN_FDK_VERSION,
            HeaderValue::from_str(version).expect("a value"),
        );
        Answer::success(StatusCode::from_u16(status).expect("a status"), &headers)
    }

    #[test]
    fn answers_are_counted_under_their_labels() {
        let (registry, metrics) = metrics();
        metrics.request("/invoke/:fn_id", "POST");
        for _ in 0..3 {
            metrics.answer(
                "/invoke/:fn_id",
                "POST",
                answer(200, "fdk/1"),
                Duration::from_millis(2),
            );
        }
        let error = Answer::error(&ErrorCode::ServerBusy.into());
        metrics.answer("/t/:app_name", "GET", error, Duration::ZERO);
        let text = registry.render();
        for line in [
            r#"fn_api_request_count{path="/invoke/:fn_id",method="POST"} 1"#,
            r#"fn_api_response_count{path="/invoke/:fn_id",method="POST",status="200",blame="",fn_fdk_version="fdk/1"} 3"#,
            r#"fn_api_latency_sum{path="/invoke/:fn_id",method="POST",status="200",blame="",fn_fdk_version="fdk/1"} 6"#,
            r#"fn_api_response_count{path="/t/:app_name",method="GET",status="503",blame="service",fn_fdk_version=""} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn calls_are_counted_by_how_they_ended() {
        let (registry, metrics) = metrics();
        let timings = CallTimings {
            scheduling: Duration::from_millis(3),
            execution: Duration::from_millis(40),
            ..CallTimings::default()
        };
        metrics.call_succeeded(Duration::from_millis(45), &timings);
        for code in [
            ErrorCode::ServerBusy,
            ErrorCode::ClientCancelled,
            ErrorCode::CallTimeout,
            ErrorCode::FunctionFailed,
        ] {
            metrics.call_failed(code, Duration::from_millis(1));
        }
        let text = registry.render();
        for line in [
            "fn_lb_runner_sched_latency_sum 3",
            "fn_lb_runner_exec_latency_sum 40",
            r#"fn_lb_call_latency_sum{call_status="completed"} 5"#,
            r#"fn_lb_call_latency_sum{call_status="server_busy"} 1"#,
            r#"fn_lb_call_latency_sum{call_status="canceled"} 1"#,
            r#"fn_lb_call_latency_sum{call_status="timeouts"} 1"#,
            r#"fn_lb_call_latency_sum{call_status="errors"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn functions_cannot_fill_the_registry() {
        let (registry, metrics) = metrics();
        for status in 200..600 {
            for version in 0..40 {
                let version = format!("fdk/{version}");
                metrics.answer(
                    "/t/:app_name",
                    "GET",
                    answer(status, &version),
                    Duration::ZERO,
                );
            }
        }
        metrics.answer(
            "/t/:app_name",
            "GET",
            answer(200, &"x".repeat(65)),
            Duration::ZERO,
        );
        let text = registry.render();
        let series = text
            .lines()
            .filter(|line| line.starts_with("fn_api_response_count{"))
            .count();
        assert!(series <= MAX_SERIES + 10, "{series}");
        assert!(text.contains(r#"status="500",blame="",fn_fdk_version="other""#));
        assert!(!text.contains("xxxx"));
    }
}
