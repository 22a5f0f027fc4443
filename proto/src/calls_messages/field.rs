//! What the fields of a message must be.

use std::borrow::Cow;
use std::time::Duration;

use domain::FnId;

/// The longest id, in bytes.
const MAX_ID: usize = 255;

/// A field of a message is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct Malformed {
    field: Cow<'static, str>,
    rule: Cow<'static, str>,
}

impl Malformed {
    /// `field` breaks `rule`.
    pub fn new(field: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: Cow::Borrowed(field),
            rule: rule.into(),
        }
    }

    /// `field` is not there.
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "missing")
    }

    /// The field is one of the message `outer`.
    pub(super) fn within(self, outer: &str) -> Self {
        Self {
            field: format!("{outer}.{}", self.field).into(),
            ..self
        }
    }
}

/// `value`, which must be there.
///
/// # Errors
/// It is not.
pub fn present<T>(field: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::missing(field))
}

/// `value`, which must be an id: printable, not empty and not too long.
///
/// # Errors
/// It is none.
pub fn id(field: &'static str, value: String) -> Result<String, Malformed> {
    if value.is_empty() {
        return Err(Malformed::missing(field));
    }
    if value.len() > MAX_ID || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        let rule = "must be up to 255 printable ASCII characters without spaces";
        return Err(Malformed::new(field, rule));
    }
    Ok(value)
}

/// The function that `fn_id` names.
///
/// # Errors
/// It is no id.
pub fn fn_id_of(fn_id: String) -> Result<FnId, Malformed> {
    id("fn_id", fn_id).map(FnId::from)
}

/// A time in whole milliseconds.
pub fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Text that every store can keep.
pub(super) fn text(field: &'static str, value: &str) -> Result<(), Malformed> {
    if value.contains('\0') {
        return Err(Malformed::new(field, "must not contain NUL"));
    }
    Ok(())
}

/// The document `json`.
pub(super) fn document<T: serde::de::DeserializeOwned>(
    field: &'static str,
    json: &[u8],
) -> Result<T, Malformed> {
    if json.is_empty() {
        return Err(Malformed::missing(field));
    }
    serde_json::from_slice(json).map_err(|error| Malformed::new(field, error.to_string()))
}
