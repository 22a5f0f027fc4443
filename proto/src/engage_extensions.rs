//! Entries of `TryCall.extensions` between a Hearth load balancer and a Hearth runner. An original
//! one does not look at them.

/// How many milliseconds the call may wait for a container before the runner gives it back.
pub const MAX_WAIT_MILLIS: &str = "hearth-max-wait-millis";
/// With the value `1`, the function may answer before it has all of its input. An original runner
/// never allows that (spec/08 8.4).
pub const EARLY_ANSWER: &str = "hearth-early-answer";
