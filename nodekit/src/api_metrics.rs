//! The metrics of HTTP requests (spec/10 10.2), shared by everything that answers on one listener: a
//! registry takes each name once.

use std::borrow::Cow;
use std::time::Duration;

use crate::metrics::{Counter, Family, Histogram, Metrics, buckets};

crate::label_set! {
    /// The labels of a request.
    pub struct RequestLabels {
        /// The route's template, never the path that a client sent.
        path: Cow<'static, str>,
        /// The verb; [`method_label`] bounds it.
        method: &'static str,
    }
}

crate::label_set! {
    /// The labels of an answer.
    pub struct ResponseLabels {
        /// The route's template.
        path: Cow<'static, str>,
        /// The verb.
        method: &'static str,
        /// The HTTP status.
        status: u16,
        /// `user` or `service` for an error, else empty.
        blame: &'static str,
        /// The version that the function's FDK tells, else empty.
        fn_fdk_version: String,
    }
}

/// Counts requests and answers. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ApiMetrics {
    requests: Family<RequestLabels, Counter>,
    responses: Family<ResponseLabels, Counter>,
    latency: Family<ResponseLabels, Histogram>,
}

impl ApiMetrics {
    /// Registers the three metrics; once per registry.
    pub fn new(metrics: &mut Metrics) -> Self {
        Self {
            requests: metrics.counters("fn_api_request_count", "HTTP requests received"),
            responses: metrics.counters("fn_api_response_count", "HTTP requests answered"),
            latency: metrics.histograms(
                "fn_api_latency",
                "From a request to the head of its answer, in milliseconds",
                buckets::LATENCY_MILLIS,
            ),
        }
    }

    /// Counts a request.
    pub fn request(&self, labels: &RequestLabels) {
        self.requests.handle(labels).inc();
    }

    /// Counts an answer whose head took `elapsed`.
    pub fn response(&self, labels: &ResponseLabels, elapsed: Duration) {
        self.answers(labels).count(elapsed);
    }

    /// The metrics of answers with these labels, for those who answer often: they need no lookup.
    pub fn answers(&self, labels: &ResponseLabels) -> AnswerMetrics {
        AnswerMetrics {
            responses: self.responses.handle(labels),
            latency: self.latency.handle(labels),
        }
    }
}

/// The metrics of answers with the same labels.
#[derive(Debug, Clone)]
pub struct AnswerMetrics {
    responses: Counter,
    latency: Histogram,
}

impl AnswerMetrics {
    /// Counts an answer whose head took `elapsed`.
    pub fn count(&self, elapsed: Duration) {
        self.responses.inc();
        self.latency.observe(elapsed.as_secs_f64() * 1000.0);
    }
}

/// The verb as a label; verbs that HTTP does not define count as one.
pub fn method_label(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_and_labels_are_the_originals() {
        let mut metrics = Metrics::new();
        let api = ApiMetrics::new(&mut metrics);
        let method = method_label(&http::Method::GET);
        api.request(&RequestLabels {
            path: "/v2/apps".into(),
            method,
        });
        let labels = ResponseLabels {
            path: "/v2/apps".into(),
            method,
            status: 404,
            blame: "user",
            fn_fdk_version: String::new(),
        };
        api.response(&labels, Duration::from_millis(7));
        let text = metrics.render();
        let response =
            "{path=\"/v2/apps\",method=\"GET\",status=\"404\",blame=\"user\",fn_fdk_version=\"\"";
        for line in [
            "fn_api_request_count{path=\"/v2/apps\",method=\"GET\"} 1".to_owned(),
            format!("fn_api_response_count{response}}} 1"),
            format!("fn_api_latency_sum{response}}} 7"),
        ] {
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn clients_cannot_invent_labels() {
        let invented = http::Method::from_bytes(b"BREW").expect("a token");
        assert_eq!(method_label(&invented), "other");
        assert_eq!(method_label(&http::Method::TRACE), "TRACE");
    }
}
