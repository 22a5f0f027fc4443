//! Apps: named groups of functions that share configuration (spec/01 1.3).

use serde::{Deserialize, Serialize};

use crate::annotations::Annotations;
use crate::env::{self, ConfigMap};
use crate::error::{ApiError, ErrorCode};
use crate::id::AppId;
use crate::timestamp::Timestamp;

/// The longest name of an app, function or trigger, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

const SYSLOG_SCHEMES: [&str; 5] = ["tcp", "udp", "unix", "unixgram", "tcp+tls"];

/// The processor architectures that the functions of an app may run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Shape {
    /// 64-bit x86 only.
    #[serde(rename = "GENERIC_X86")]
    X86,
    /// 64-bit ARM only.
    #[serde(rename = "GENERIC_ARM")]
    Arm,
    /// Either.
    #[serde(rename = "GENERIC_X86_ARM")]
    X86Arm,
}

impl Shape {
    /// Reads the API's name of a shape; an empty text is no shape.
    ///
    /// # Errors
    /// `AppInvalidShape` for a name that is not known.
    pub fn parse(text: &str) -> Result<Option<Self>, ApiError> {
        match text {
            "" => Ok(None),
            "GENERIC_X86" => Ok(Some(Self::X86)),
            "GENERIC_ARM" => Ok(Some(Self::Arm)),
            "GENERIC_X86_ARM" => Ok(Some(Self::X86Arm)),
            _ => Err(ErrorCode::AppInvalidShape.into()),
        }
    }

    /// The API's name of the shape.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86 => "GENERIC_X86",
            Self::Arm => "GENERIC_ARM",
            Self::X86Arm => "GENERIC_X86_ARM",
        }
    }
}

/// An app as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct App {
    /// Set by the server.
    pub id: AppId,
    /// Unique and immutable.
    pub name: String,
    /// Environment of every function of the app.
    #[serde(default, skip_serializing_if = "ConfigMap::is_empty")]
    pub config: ConfigMap,
    /// Free JSON values.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// Where the functions' output goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog_url: Option<String>,
    /// Processor architectures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// When the app was created.
    pub created_at: Timestamp,
    /// When a field last changed.
    pub updated_at: Timestamp,
}

/// What a client sends to create an app. Unknown fields are ignored, as the original does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct AppDraft {
    /// Must be absent or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Letters, digits, `_` and `-`; up to 255 bytes.
    #[schema(min_length = 1, max_length = 255, example = "shop")]
    pub name: String,
    /// Environment of every function of the app.
    pub config: ConfigMap,
    /// Free JSON values.
    pub annotations: Annotations,
    /// `tcp`, `udp`, `unix`, `unixgram` or `tcp+tls` URL.
    #[schema(example = "tcp://logs.example:514")]
    pub syslog_url: Option<String>,
    /// `GENERIC_X86`, `GENERIC_ARM` or `GENERIC_X86_ARM`.
    #[schema(pattern = "^(GENERIC_X86|GENERIC_ARM|GENERIC_X86_ARM)?$")]
    pub shape: String,
}

/// What a client sends to change an app: a merge patch. An absent or empty field is left alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct AppPatch {
    /// Must be absent, or the id in the path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Must be absent, or the name the app has.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Entries to set; an empty value deletes its key.
    pub config: ConfigMap,
    /// Entries to set; `""` and `null` delete their key.
    pub annotations: Annotations,
    /// A new URL; `""` clears it.
    pub syslog_url: Option<String>,
}

impl App {
    /// Checks a draft and makes the app of it.
    ///
    /// # Errors
    /// The first rule of spec/01 1.3 that the draft breaks, in the order that is fixed there.
    pub fn create(draft: AppDraft, id: AppId, now: Timestamp) -> Result<Self, ApiError> {
        if !draft.id.is_empty() {
            return Err(ErrorCode::AppIdProvided.into());
        }
        check_name(&draft.name)?;
        draft.annotations.validate()?;
        let syslog_url = draft.syslog_url.filter(|url| !url.is_empty());
        if let Some(url) = &syslog_url {
            check_syslog_url(url)?;
        }
        Ok(Self {
            id,
            name: draft.name,
            config: env::patched(&ConfigMap::new(), &draft.config)?,
            annotations: draft.annotations,
            syslog_url,
            shape: Shape::parse(&draft.shape)?,
            created_at: now,
            updated_at: now,
        })
    }

    /// The app after `patch`; `updated_at` moves only if something changed.
    ///
    /// # Errors
    /// The rule of spec/01 1.3 that the patch breaks.
    pub fn patched(&self, patch: &AppPatch, now: Timestamp) -> Result<Self, ApiError> {
        if !patch.id.is_empty() && patch.id != self.id.as_str() {
            return Err(ErrorCode::AppIdMismatch.into());
        }
        if !patch.name.is_empty() && patch.name != self.name {
            return Err(ErrorCode::AppNameImmutable.into());
        }
        let mut next = self.clone();
        next.config = env::patched(&self.config, &patch.config)?;
        next.annotations = self.annotations.patched(&patch.annotations)?;
        match patch.syslog_url.as_deref() {
            None => {}
            Some("") => next.syslog_url = None,
            Some(url) => {
                check_syslog_url(url)?;
                next.syslog_url = Some(url.to_owned());
            }
        }
        if next != *self {
            next.updated_at = now;
        }
        Ok(next)
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ErrorCode::AppMissingName.into());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(ErrorCode::AppNameTooLong.into());
    }
    if !is_plain_name(name) {
        return Err(ErrorCode::AppInvalidName.into());
    }
    Ok(())
}

/// Whether `name` has only letters and digits of any script, `_` and `-`.
pub(crate) fn is_plain_name(name: &str) -> bool {
    name.chars()
        .all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '-')
}

fn check_syslog_url(url: &str) -> Result<(), ApiError> {
    let invalid = |detail: &str| {
        ApiError::with_message(
            ErrorCode::AppInvalidSyslogUrl,
            format!("invalid syslog url: \"{url}\" {detail}"),
        )
    };
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if !SYSLOG_SCHEMES.contains(&scheme) {
        return Err(invalid(
            "invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported",
        ));
    }
    if url
        .chars()
        .any(|letter| letter.is_control() || letter.is_whitespace())
    {
        return Err(invalid(
            "a URL may not hold white space or control characters",
        ));
    }
    let rest = url
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"));
    if rest.is_none_or(str::is_empty) {
        return Err(invalid("an address must follow the scheme"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(name: &str) -> AppDraft {
        AppDraft {
            name: name.to_owned(),
            ..AppDraft::default()
        }
    }

    fn create(draft: AppDraft) -> Result<App, ApiError> {
        App::create(draft, AppId::from("id"), Timestamp::from_unix_millis(1))
    }

    #[track_caller]
    fn refused(draft: AppDraft, code: ErrorCode) -> ApiError {
        let error = create(draft).expect_err("must be refused");
        assert_eq!(error.code(), code);
        error
    }

    #[test]
    fn names() {
        refused(draft(""), ErrorCode::AppMissingName);
        refused(draft(&"a".repeat(256)), ErrorCode::AppNameTooLong);
        // The limit counts bytes.
        refused(draft(&"ü".repeat(128)), ErrorCode::AppNameTooLong);
        refused(draft("&&%@!#$#@$"), ErrorCode::AppInvalidName);
        create(draft("Größe_1-Ⅷ")).expect("letters and digits of any script");
        create(draft(&"a".repeat(255))).expect("255 bytes");
    }

    #[test]
    fn a_refused_syslog_url_is_quoted() {
        let with = |url: &str| AppDraft {
            syslog_url: Some(url.to_owned()),
            ..draft("a")
        };
        let error = refused(with("yo://sup.com:1"), ErrorCode::AppInvalidSyslogUrl);
        assert_eq!(
            error.message(),
            "invalid syslog url: \"yo://sup.com:1\" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported"
        );
        refused(with("yo"), ErrorCode::AppInvalidSyslogUrl);
        refused(with("tcp://"), ErrorCode::AppInvalidSyslogUrl);
        create(with("tcp://localhost:514")).expect("a syslog URL");
        assert_eq!(create(with("")).expect("no URL").syslog_url, None);
    }

    #[test]
    fn shapes() {
        let with = |shape: &str| AppDraft {
            shape: shape.to_owned(),
            ..draft("a")
        };
        refused(with("GENERIC_Z80"), ErrorCode::AppInvalidShape);
        assert_eq!(
            create(with("GENERIC_ARM")).expect("known").shape,
            Some(Shape::Arm)
        );
    }

    #[test]
    fn the_id_comes_before_the_name() {
        let both = AppDraft {
            id: "x".to_owned(),
            ..draft("")
        };
        refused(both, ErrorCode::AppIdProvided);
    }

    #[test]
    fn only_a_change_moves_updated_at() {
        let mut with_url = draft("a");
        with_url.syslog_url = Some("tcp://h:1".to_owned());
        let app = create(with_url).expect("valid");
        let later = Timestamp::from_unix_millis(2);
        let same = AppPatch {
            syslog_url: Some("tcp://h:1".to_owned()),
            name: "a".to_owned(),
            ..AppPatch::default()
        };
        assert_eq!(app.patched(&same, later).expect("no change"), app);
        let clear = AppPatch {
            syslog_url: Some(String::new()),
            ..AppPatch::default()
        };
        let cleared = app.patched(&clear, later).expect("a change");
        assert_eq!((cleared.syslog_url, cleared.updated_at), (None, later));
    }

    #[test]
    fn id_and_name_cannot_change() {
        let app = create(draft("a")).expect("valid");
        let now = Timestamp::from_unix_millis(2);
        let renamed = AppPatch {
            name: "b".to_owned(),
            ..AppPatch::default()
        };
        assert_eq!(
            app.patched(&renamed, now).expect_err("immutable").code(),
            ErrorCode::AppNameImmutable
        );
        let other = AppPatch {
            id: "other".to_owned(),
            ..AppPatch::default()
        };
        assert_eq!(
            app.patched(&other, now).expect_err("other id").code(),
            ErrorCode::AppIdMismatch
        );
    }
}
