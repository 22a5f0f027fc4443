//! The stages of a call, told to a client who asks for them.
//!
//! A request with `Fn-Timings: 1` gets them in the header `Server-Timing`, in milliseconds:
//! `scheduling;dur=0.041, image-pull;dur=0.000, container-create;dur=0.000, container-init;dur=0.000,
//! execution;dur=1.250`. Each is described at [`CallTimings`].

use http::{HeaderMap, HeaderName, HeaderValue};
use nodekit::exchange::CallTimings;

use crate::go_duration;

static FN_TIMINGS: HeaderName = HeaderName::from_static("fn-timings");
static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

static XXX_FXLB_WAIT: HeaderName = HeaderName::from_static("xxx-fxlb-wait");

/// Tells how long the call waited, in the original's header (spec/07 7.3).
pub(super) fn tell_wait(headers: &mut HeaderMap, timings: &CallTimings) {
    if let Ok(value) = HeaderValue::try_from(go_duration::format(timings.scheduling)) {
        // A full map has no room for what is only information.
        let _ = headers.try_insert(&XXX_FXLB_WAIT, value);
    }
}

/// Whether the client asks for them.
pub(super) fn asked(headers: &HeaderMap) -> bool {
    headers.get(&FN_TIMINGS).is_some_and(|value| value == "1")
}

/// Adds the stages to an answer, beside those that the function may tell of itself.
pub(super) fn tell(headers: &mut HeaderMap, timings: &CallTimings) {
    let stages = [
        ("scheduling", timings.scheduling),
        ("image-pull", timings.image_pull),
        ("container-create", timings.container_create),
        ("container-init", timings.container_init),
        ("execution", timings.execution),
    ];
    let stages =
        stages.map(|(name, took)| format!("{name};dur={:.3}", took.as_secs_f64() * 1000.0));
    if let Ok(value) = HeaderValue::try_from(stages.join(", ")) {
        // A full map has no room for what is only information.
        let _ = headers.try_append(&SERVER_TIMING, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_stages_are_told_in_milliseconds() {
        let timings = CallTimings {
            scheduling: Duration::from_micros(41),
            execution: Duration::from_micros(1250),
            ..CallTimings::default()
        };
        let mut headers = HeaderMap::new();
        tell(&mut headers, &timings);
        let expected = "scheduling;dur=0.041, image-pull;dur=0.000, container-create;dur=0.000, \
                        container-init;dur=0.000, execution;dur=1.250";
        assert_eq!(headers[&SERVER_TIMING], expected);
    }
}
