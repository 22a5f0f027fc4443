//! What a client may ask for when it hands in a durable call, with the limits of each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorCode};
use crate::timestamp::Timestamp;

/// How long a call is kept going when its client does not say.
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(6 * 3600);
/// The shortest and the longest time.
pub const EXPIRY_SECONDS: std::ops::RangeInclusive<u64> = 1..=14 * 24 * 3600;
/// How far ahead the time may be at which a call may run. What a call needs is kept for as long as this
/// and the longest expiry together.
pub const MAX_DELAY: Duration = Duration::from_secs(14 * 24 * 3600);
/// Attempts when the client does not say.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
/// The fewest and the most.
pub const MAX_ATTEMPTS: std::ops::RangeInclusive<u32> = 1..=100;
/// Higher ones go first.
pub const PRIORITIES: std::ops::RangeInclusive<i32> = 0..=9;
/// The longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// Tags of one call, and the longest name and value of one, in bytes.
pub const MAX_TAGS: usize = 16;
const MAX_TAG_BYTES: usize = 128;
const MAX_URL_BYTES: usize = 2048;

/// What a client asks for. Absent fields have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallOptions {
    /// Seconds before it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1209600)]
    pub delay_seconds: Option<u64>,
    /// When it may run, at most 14 days ahead; not together with a delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Seconds, 1 to 1209600, after which it is given up; counted from when it may run; 21600 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1209600)]
    pub expiry_seconds: Option<u64>,
    /// 0 to 9; higher ones go first; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<i32>,
    /// 1 to 100; 3 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<u32>,
    /// Where its outcome is posted to: an `http` or `https` URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2048)]
    pub callback_url: Option<String>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Calls of one function with one key are one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub idempotency_key: Option<String>,
}

impl CallOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// `InvalidCallOption` with the name of the first field that is out of its limits.
    pub fn validate(&self) -> Result<(), ApiError> {
        if self.delay_seconds.is_some() && self.run_at.is_some() {
            return Err(invalid("run_at", "cannot be together with delay_seconds"));
        }
        if self
            .delay_seconds
            .is_some_and(|delay| delay > MAX_DELAY.as_secs())
        {
            return Err(invalid("delay_seconds", "must be at most 1209600"));
        }
        if self
            .expiry_seconds
            .is_some_and(|expiry| !EXPIRY_SECONDS.contains(&expiry))
        {
            return Err(invalid("expiry_seconds", "must be between 1 and 1209600"));
        }
        if self
            .priority
            .is_some_and(|priority| !PRIORITIES.contains(&priority))
        {
            return Err(invalid("priority", "must be between 0 and 9"));
        }
        if self
            .max_attempts
            .is_some_and(|max| !MAX_ATTEMPTS.contains(&max))
        {
            return Err(invalid("max_attempts", "must be between 1 and 100"));
        }
        if let Some(url) = &self.callback_url {
            let http = url.starts_with("http://") || url.starts_with("https://");
            if !http
                || url.len() > MAX_URL_BYTES
                || url.bytes().any(|byte| byte <= b' ' || byte == 0x7f)
            {
                return Err(invalid(
                    "callback_url",
                    "must be an http or https URL of at most 2048 bytes",
                ));
            }
        }
        let short = |text: &str| text.len() <= MAX_TAG_BYTES && !text.contains('\0');
        if self.tags.len() > MAX_TAGS
            || self
                .tags
                .iter()
                .any(|(name, value)| name.is_empty() || !short(name) || !short(value))
        {
            return Err(invalid(
                "tags",
                "must be at most 16, with names and values of at most 128 bytes",
            ));
        }
        if let Some(key) = &self.idempotency_key
            && (key.is_empty() || key.len() > MAX_KEY_BYTES || key.bytes().any(|byte| byte < b' '))
        {
            return Err(invalid(
                "idempotency_key",
                "must be 1 to 255 bytes without control characters",
            ));
        }
        Ok(())
    }

    /// Checks what only the time of acceptance tells.
    ///
    /// # Errors
    /// `InvalidCallOption` with the name of the field that is out of its limits.
    pub fn validate_at(&self, now: Timestamp) -> Result<(), ApiError> {
        let ahead = |at: Timestamp| at.unix_millis().saturating_sub(now.unix_millis());
        let too_late = |at| u128::try_from(ahead(at)).is_ok_and(|ms| ms > MAX_DELAY.as_millis());
        if self.run_at.is_some_and(too_late) {
            return Err(invalid("run_at", "must be at most 14 days ahead"));
        }
        Ok(())
    }

    /// When a call that is accepted at `now` may run, and when it is given up.
    pub fn times(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let later = |from: Timestamp, seconds: u64| {
            let millis = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
            Timestamp::from_unix_millis(from.unix_millis().saturating_add(millis))
        };
        let due = match (self.delay_seconds, self.run_at) {
            (Some(delay), _) => later(now, delay),
            (None, Some(at)) => at.max(now),
            (None, None) => now,
        };
        let expiry = self.expiry_seconds.unwrap_or(DEFAULT_EXPIRY.as_secs());
        (due, later(due, expiry))
    }
}

fn invalid(field: &str, rule: &str) -> ApiError {
    ApiError::with_message(ErrorCode::InvalidCallOption, format!("{field} {rule}"))
}
