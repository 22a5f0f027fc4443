//! Triggers: HTTP paths that lead to a function (spec/01 1.5).

use serde::{Deserialize, Serialize};

use crate::annotations::Annotations;
use crate::app::{MAX_NAME_BYTES, is_plain_name};
use crate::error::{ApiError, ErrorCode};
use crate::id::{AppId, FnId, TriggerId};
use crate::timestamp::Timestamp;

/// The longest source, in bytes: what the index of every store can hold.
pub const MAX_SOURCE_BYTES: usize = 2048;

/// The kinds of trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TriggerKind {
    /// A request to `/t/<app name><source>`.
    Http,
}

impl TriggerKind {
    /// The API's name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
        }
    }

    /// Reads the API's name.
    ///
    /// # Errors
    /// `TriggerTypeUnsupported` for any other text.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "http" => Ok(Self::Http),
            _ => Err(ErrorCode::TriggerTypeUnsupported.into()),
        }
    }
}

/// A trigger as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Trigger {
    /// Set by the server.
    pub id: TriggerId,
    /// Unique within the function.
    pub name: String,
    /// The app it belongs to.
    pub app_id: AppId,
    /// The function it leads to.
    pub fn_id: FnId,
    /// When the trigger was created.
    pub created_at: Timestamp,
    /// When a field last changed.
    pub updated_at: Timestamp,
    /// The kind of trigger.
    #[serde(rename = "type")]
    pub kind: TriggerKind,
    /// The path; unique within app and kind.
    pub source: String,
    /// Free JSON values.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

/// What a client sends to create a trigger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct TriggerDraft {
    /// Must be absent or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Letters, digits, `_` and `-`; up to 255 bytes.
    #[schema(min_length = 1, max_length = 255, example = "thumbnails")]
    pub name: String,
    /// The app it will belong to.
    #[schema(min_length = 1)]
    pub app_id: String,
    /// A function of that app.
    #[schema(min_length = 1)]
    pub fn_id: String,
    /// Must be absent.
    #[serde(skip_serializing_if = "Timestamp::is_unset_ref")]
    pub created_at: Timestamp,
    /// Must be absent.
    #[serde(skip_serializing_if = "Timestamp::is_unset_ref")]
    pub updated_at: Timestamp,
    /// Must be `http`.
    #[serde(rename = "type")]
    #[schema(pattern = "^http$", example = "http")]
    pub kind: String,
    /// A path with a leading slash.
    #[schema(pattern = "^/", example = "/thumbnails")]
    pub source: String,
    /// Free JSON values.
    pub annotations: Annotations,
}

/// What a client sends to change a trigger: a merge patch. Absent and empty fields are left alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct TriggerPatch {
    /// Must be absent, or the id in the path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Letters, digits, `_` and `-`; up to 255 bytes.
    #[schema(max_length = 255)]
    pub name: String,
    /// A function of the same app.
    pub fn_id: String,
    /// A path with a leading slash.
    #[schema(pattern = "^(/|$)")]
    pub source: String,
    /// Entries to set; `""` and `null` delete their key.
    pub annotations: Annotations,
}

impl TriggerDraft {
    /// Checks everything that can be checked without app and function, in the order of spec/01 1.5.
    ///
    /// # Errors
    /// The first rule that the draft breaks.
    pub fn validate(&self) -> Result<(), ApiError> {
        if !self.id.is_empty() {
            return Err(ErrorCode::TriggerIdProvided.into());
        }
        if !self.created_at.is_unset() {
            return Err(ErrorCode::TriggerCreatedAtProvided.into());
        }
        if !self.updated_at.is_unset() {
            return Err(ErrorCode::TriggerUpdatedAtProvided.into());
        }
        if self.app_id.is_empty() {
            return Err(ErrorCode::TriggerMissingAppId.into());
        }
        check_name(&self.name)?;
        if self.fn_id.is_empty() {
            return Err(ErrorCode::TriggerMissingFnId.into());
        }
        TriggerKind::parse(&self.kind)?;
        check_source(&self.source)?;
        self.annotations.validate()
    }
}

impl Trigger {
    /// Checks a draft and makes the trigger of it.
    ///
    /// # Errors
    /// The first rule of spec/01 1.5 that the draft breaks. Whether app and function exist, and
    /// belong together, is for the store to check.
    pub fn create(draft: TriggerDraft, id: TriggerId, now: Timestamp) -> Result<Self, ApiError> {
        draft.validate()?;
        Ok(Self {
            id,
            name: draft.name,
            app_id: AppId::from(draft.app_id),
            fn_id: FnId::from(draft.fn_id),
            created_at: now,
            updated_at: now,
            kind: TriggerKind::parse(&draft.kind)?,
            source: draft.source,
            annotations: draft.annotations,
        })
    }

    /// The trigger after `patch`; `updated_at` moves only if something changed.
    ///
    /// # Errors
    /// The rule of spec/01 1.5 that the patch breaks. Whether a new function belongs to the app is
    /// for the store to check.
    pub fn patched(&self, patch: &TriggerPatch, now: Timestamp) -> Result<Self, ApiError> {
        if !patch.id.is_empty() && patch.id != self.id.as_str() {
            return Err(ErrorCode::TriggerIdMismatch.into());
        }
        let mut next = self.clone();
        if !patch.name.is_empty() {
            check_name(&patch.name)?;
            next.name.clone_from(&patch.name);
        }
        if !patch.fn_id.is_empty() {
            next.fn_id = FnId::from(patch.fn_id.as_str());
        }
        if !patch.source.is_empty() {
            check_source(&patch.source)?;
            next.source.clone_from(&patch.source);
        }
        next.annotations = self.annotations.patched(&patch.annotations)?;
        if next != *self {
            next.updated_at = now;
        }
        Ok(next)
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ErrorCode::TriggerMissingName.into());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(ErrorCode::TriggerNameTooLong.into());
    }
    if !is_plain_name(name) {
        return Err(ErrorCode::TriggerInvalidName.into());
    }
    Ok(())
}

fn check_source(source: &str) -> Result<(), ApiError> {
    if source.is_empty() {
        return Err(ErrorCode::TriggerMissingSource.into());
    }
    if !source.starts_with('/') {
        return Err(ErrorCode::TriggerSourceWithoutSlash.into());
    }
    if source.len() > MAX_SOURCE_BYTES {
        return Err(ErrorCode::TriggerSourceTooLong.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> TriggerDraft {
        TriggerDraft {
            app_id: "app".into(),
            fn_id: "fn".into(),
            name: "t".into(),
            kind: "http".into(),
            source: "/s".into(),
            ..TriggerDraft::default()
        }
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut TriggerDraft), code: ErrorCode) {
        let mut draft = draft();
        change(&mut draft);
        assert_eq!(draft.validate().expect_err("must be refused").code(), code);
    }

    #[test]
    fn each_rule_refuses() {
        refused(|t| t.id = "x".into(), ErrorCode::TriggerIdProvided);
        refused(
            |t| t.created_at = Timestamp::from_unix_millis(0),
            ErrorCode::TriggerCreatedAtProvided,
        );
        refused(
            |t| t.updated_at = Timestamp::from_unix_millis(0),
            ErrorCode::TriggerUpdatedAtProvided,
        );
        refused(|t| t.app_id.clear(), ErrorCode::TriggerMissingAppId);
        refused(|t| t.name.clear(), ErrorCode::TriggerMissingName);
        refused(|t| t.name = "a".repeat(256), ErrorCode::TriggerNameTooLong);
        refused(|t| t.name = "a b".into(), ErrorCode::TriggerInvalidName);
        refused(|t| t.fn_id.clear(), ErrorCode::TriggerMissingFnId);
        refused(
            |t| t.kind = "queue".into(),
            ErrorCode::TriggerTypeUnsupported,
        );
        refused(|t| t.source.clear(), ErrorCode::TriggerMissingSource);
        refused(
            |t| t.source = "s".into(),
            ErrorCode::TriggerSourceWithoutSlash,
        );
        refused(
            |t| t.source = format!("/{}", "s".repeat(MAX_SOURCE_BYTES)),
            ErrorCode::TriggerSourceTooLong,
        );
    }

    #[test]
    fn the_order_is_app_name_fn_type_source() {
        let mut empty = TriggerDraft::default();
        let mut expect = |code, change: fn(&mut TriggerDraft)| {
            assert_eq!(empty.validate().expect_err("incomplete").code(), code);
            change(&mut empty);
        };
        expect(ErrorCode::TriggerMissingAppId, |t| t.app_id = "a".into());
        expect(ErrorCode::TriggerMissingName, |t| t.name = "n".into());
        expect(ErrorCode::TriggerMissingFnId, |t| t.fn_id = "f".into());
        expect(ErrorCode::TriggerTypeUnsupported, |t| {
            t.kind = "http".into()
        });
        expect(ErrorCode::TriggerMissingSource, |t| t.source = "/".into());
        empty.validate().expect("complete");
    }

    #[test]
    fn a_patch_is_validated() {
        let trigger = Trigger::create(
            draft(),
            TriggerId::from("id"),
            Timestamp::from_unix_millis(1),
        )
        .expect("valid");
        let later = Timestamp::from_unix_millis(2);
        let bad = TriggerPatch {
            source: "s".into(),
            ..TriggerPatch::default()
        };
        assert_eq!(
            trigger.patched(&bad, later).expect_err("bad").code(),
            ErrorCode::TriggerSourceWithoutSlash
        );
        let renamed = TriggerPatch {
            name: "u".into(),
            ..TriggerPatch::default()
        };
        assert_eq!(
            trigger.patched(&renamed, later).expect("good").updated_at,
            later
        );
        assert_eq!(
            trigger
                .patched(&TriggerPatch::default(), later)
                .expect("none"),
            trigger
        );
    }
}
