//! Functions: an image with its limits and configuration (spec/01 1.4).

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::annotations::Annotations;
use crate::app::{MAX_NAME_BYTES, Shape};
use crate::env::{self, ConfigMap};
use crate::error::{ApiError, ErrorCode};
use crate::id::{AppId, FnId};
use crate::timestamp::Timestamp;

const DEFAULT_MEMORY_MB: u64 = 128;
const DEFAULT_TIMEOUT_SECONDS: i64 = 30;
const DEFAULT_IDLE_TIMEOUT_SECONDS: i64 = 30;
const MEMORY_MB: RangeInclusive<u64> = 1..=8192;
const TIMEOUT_SECONDS: RangeInclusive<i64> = 1..=300;
const IDLE_TIMEOUT_SECONDS: RangeInclusive<i64> = 1..=3600;

/// A function as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Fn)]
pub struct Func {
    /// Set by the server.
    pub id: FnId,
    /// Unique within the app.
    pub name: String,
    /// The app it belongs to.
    pub app_id: AppId,
    /// The container image.
    pub image: String,
    /// Memory limit in MiB.
    pub memory: u64,
    /// The longest execution, in seconds.
    pub timeout: i64,
    /// How long an idle container is kept, in seconds.
    pub idle_timeout: i64,
    /// Environment, on top of the app's.
    #[serde(default, skip_serializing_if = "ConfigMap::is_empty")]
    pub config: ConfigMap,
    /// Free JSON values.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// When the function was created.
    pub created_at: Timestamp,
    /// When a field last changed.
    pub updated_at: Timestamp,
    /// Copied from the app when the function was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
}

/// What a client sends to create a function. A number that is zero or absent gets its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = FnDraft)]
pub struct FuncDraft {
    /// Must be absent or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Up to 255 bytes that need no escaping in a URL path.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[A-Za-z0-9_.~$&+=:@-]*$",
        example = "resize"
    )]
    pub name: String,
    /// The app it will belong to.
    #[schema(min_length = 1)]
    pub app_id: String,
    /// The container image.
    #[schema(min_length = 1, example = "registry.example/shop/resize:1")]
    pub image: String,
    /// MiB, 1 to 8192; 128 when absent.
    #[schema(minimum = 0, maximum = 8192, example = 256)]
    pub memory: u64,
    /// Seconds, 1 to 300; 30 when absent.
    #[schema(minimum = 0, maximum = 300, example = 30)]
    pub timeout: i64,
    /// Seconds, 1 to 3600; 30 when absent.
    #[schema(minimum = 0, maximum = 3600, example = 30)]
    pub idle_timeout: i64,
    /// Environment, on top of the app's.
    pub config: ConfigMap,
    /// Free JSON values.
    pub annotations: Annotations,
}

/// What a client sends to change a function: a merge patch. Absent, empty and zero fields are left
/// alone; name and app cannot change and are ignored (spec/A).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = FnPatch)]
pub struct FuncPatch {
    /// Must be absent, or the id in the path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The container image.
    pub image: String,
    /// MiB, 1 to 8192.
    #[schema(minimum = 0, maximum = 8192)]
    pub memory: u64,
    /// Seconds, 1 to 300.
    #[schema(minimum = 0, maximum = 300)]
    pub timeout: i64,
    /// Seconds, 1 to 3600.
    #[schema(minimum = 0, maximum = 3600)]
    pub idle_timeout: i64,
    /// Entries to set; an empty value deletes its key.
    pub config: ConfigMap,
    /// Entries to set; `""` and `null` delete their key.
    pub annotations: Annotations,
}

impl FuncDraft {
    /// Checks everything that can be checked without the app, in the order of spec/01 1.4.
    ///
    /// # Errors
    /// The first rule that the draft breaks.
    pub fn validate(&self) -> Result<(), ApiError> {
        if !self.id.is_empty() {
            return Err(ErrorCode::FnIdProvided.into());
        }
        if self.app_id.is_empty() {
            return Err(ErrorCode::FnMissingAppId.into());
        }
        check_name(&self.name)?;
        check_values(
            &self.image,
            default_when_zero(self.timeout, DEFAULT_TIMEOUT_SECONDS),
            default_when_zero(self.idle_timeout, DEFAULT_IDLE_TIMEOUT_SECONDS),
            default_when_zero(self.memory, DEFAULT_MEMORY_MB),
        )?;
        self.annotations.validate()
    }
}

impl Func {
    /// Checks a draft and makes the function of it; `shape` is that of its app.
    ///
    /// # Errors
    /// The first rule of spec/01 1.4 that the draft breaks.
    pub fn create(
        draft: FuncDraft,
        shape: Option<Shape>,
        id: FnId,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        draft.validate()?;
        Ok(Self {
            id,
            name: draft.name,
            app_id: AppId::from(draft.app_id),
            image: draft.image,
            memory: default_when_zero(draft.memory, DEFAULT_MEMORY_MB),
            timeout: default_when_zero(draft.timeout, DEFAULT_TIMEOUT_SECONDS),
            idle_timeout: default_when_zero(draft.idle_timeout, DEFAULT_IDLE_TIMEOUT_SECONDS),
            config: env::patched(&ConfigMap::new(), &draft.config)?,
            annotations: draft.annotations,
            created_at: now,
            updated_at: now,
            shape,
        })
    }

    /// The function after `patch`; `updated_at` moves only if something changed.
    ///
    /// # Errors
    /// The rule of spec/01 1.4 that the patch breaks.
    pub fn patched(&self, patch: &FuncPatch, now: Timestamp) -> Result<Self, ApiError> {
        if !patch.id.is_empty() && patch.id != self.id.as_str() {
            return Err(ErrorCode::FnIdMismatch.into());
        }
        let mut next = self.clone();
        if !patch.image.is_empty() {
            next.image.clone_from(&patch.image);
        }
        next.memory = default_when_zero(patch.memory, self.memory);
        next.timeout = default_when_zero(patch.timeout, self.timeout);
        next.idle_timeout = default_when_zero(patch.idle_timeout, self.idle_timeout);
        next.config = env::patched(&self.config, &patch.config)?;
        check_values(&next.image, next.timeout, next.idle_timeout, next.memory)?;
        next.annotations = self.annotations.patched(&patch.annotations)?;
        if next != *self {
            next.updated_at = now;
        }
        Ok(next)
    }
}

fn default_when_zero<N: Default + PartialEq>(value: N, default: N) -> N {
    if value == N::default() {
        default
    } else {
        value
    }
}

fn check_values(image: &str, timeout: i64, idle_timeout: i64, memory: u64) -> Result<(), ApiError> {
    if image.is_empty() {
        return Err(ErrorCode::FnMissingImage.into());
    }
    if !TIMEOUT_SECONDS.contains(&timeout) {
        return Err(ErrorCode::FnInvalidTimeout.into());
    }
    if !IDLE_TIMEOUT_SECONDS.contains(&idle_timeout) {
        return Err(ErrorCode::FnInvalidIdleTimeout.into());
    }
    if !MEMORY_MB.contains(&memory) {
        return Err(ErrorCode::FnInvalidMemory.into());
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ErrorCode::FnMissingName.into());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(ErrorCode::FnNameTooLong.into());
    }
    // What stands unescaped in one segment of a URL path.
    let unescaped = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte);
    if !name.bytes().all(unescaped) {
        return Err(ErrorCode::FnInvalidName.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> FuncDraft {
        FuncDraft {
            app_id: "app".into(),
            name: "f".into(),
            image: "x/y:1".into(),
            ..FuncDraft::default()
        }
    }

    fn func() -> Func {
        Func::create(
            draft(),
            Some(Shape::Arm),
            FnId::from("id"),
            Timestamp::from_unix_millis(1),
        )
        .expect("valid")
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut FuncDraft), code: ErrorCode) {
        let mut draft = draft();
        change(&mut draft);
        assert_eq!(draft.validate().expect_err("must be refused").code(), code);
    }

    #[test]
    fn defaults_and_shape() {
        let func = func();
        assert_eq!(
            (func.memory, func.timeout, func.idle_timeout),
            (128, 30, 30)
        );
        assert_eq!(func.shape, Some(Shape::Arm));
    }

    #[test]
    fn each_rule_refuses() {
        refused(|f| f.id = "x".into(), ErrorCode::FnIdProvided);
        refused(|f| f.app_id.clear(), ErrorCode::FnMissingAppId);
        refused(|f| f.name.clear(), ErrorCode::FnMissingName);
        refused(|f| f.name = "a".repeat(256), ErrorCode::FnNameTooLong);
        for name in [" ", "a/b", "a;b", "a,b", "ü", "%41"] {
            refused(|f| f.name = name.into(), ErrorCode::FnInvalidName);
        }
        refused(|f| f.image.clear(), ErrorCode::FnMissingImage);
        for timeout in [-1, 301, 3601] {
            refused(|f| f.timeout = timeout, ErrorCode::FnInvalidTimeout);
        }
        for idle_timeout in [-1, 3601] {
            refused(
                |f| f.idle_timeout = idle_timeout,
                ErrorCode::FnInvalidIdleTimeout,
            );
        }
        for memory in [8193, 100_000_000_000_000] {
            refused(|f| f.memory = memory, ErrorCode::FnInvalidMemory);
        }
    }

    #[test]
    fn a_patch_leaves_zero_and_empty_alone() {
        let func = func();
        let later = Timestamp::from_unix_millis(2);
        assert_eq!(
            func.patched(&FuncPatch::default(), later)
                .expect("no change"),
            func
        );
        let patch = FuncPatch {
            memory: 256,
            ..FuncPatch::default()
        };
        let changed = func.patched(&patch, later).expect("a change");
        assert_eq!(
            (changed.memory, changed.timeout, changed.updated_at),
            (256, 30, later)
        );
        let bad = FuncPatch {
            timeout: 3601,
            ..FuncPatch::default()
        };
        assert_eq!(
            func.patched(&bad, later).expect_err("too long").code(),
            ErrorCode::FnInvalidTimeout
        );
    }
}
