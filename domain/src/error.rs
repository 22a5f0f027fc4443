//! The one table that maps what can go wrong to an HTTP status, a blame, whether a retry may help,
//! and the public text (spec/01 1.2–1.10).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Who caused an error: the caller or function (`User`), or the platform (`Service`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The request, the function or its image is at fault.
    User,
    /// The platform is at fault, or out of capacity.
    Service,
}

impl Blame {
    /// The value of the metric label `blame` (spec/10 10.2).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident: $status:literal, $blame:ident, $text:literal;)+) => {
        /// What went wrong. Each code has a fixed status, blame and default text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),+];

            /// The HTTP status of the answer.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Who is to blame.
            pub const fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame,)+ }
            }

            /// The public text, when the error carries no text of its own.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The name of the code, as it stands in logs and in `docs/errors.md`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

errors! {
    /// The body is not JSON of the expected shape.
    InvalidJson: 400, User, "Invalid JSON";
    /// A paging cursor that this server never gave out.
    InvalidCursor: 400, User, "Invalid cursor";

    /// spec/01 1.3
    AppIdProvided: 400, User, "App ID cannot be supplied on create";
    AppMissing: 400, User, "Missing app";
    AppMissingId: 400, User, "Missing app ID";
    AppMissingName: 400, User, "Missing Name";
    AppNameTooLong: 400, User, "App name must be 255 characters or less";
    AppInvalidName: 400, User, "Invalid app name";
    AppAlreadyExists: 409, User, "App already exists";
    AppNotFound: 404, User, "App not found";
    AppIdMismatch: 400, User, "App ID in path does not match ID in body";
    AppNameImmutable: 409, User, "Could not update - name is immutable";
    /// The text is built from the URL and the detail.
    AppInvalidSyslogUrl: 400, User, "invalid syslog url";
    AppInvalidShape: 400, User, "Invalid app shape";

    /// spec/01 1.4
    FnMissingAppId: 400, User, "Missing AppID on Fn";
    FnIdProvided: 400, User, "ID cannot be provided for Fn creation";
    FnMissingName: 400, User, "Missing Fn name";
    FnNameTooLong: 400, User, "Fn name must be 255 characters or less";
    FnInvalidName: 400, User, "name must be a valid string";
    FnMissingImage: 400, User, "Missing image on Fn";
    FnInvalidTimeout: 400, User, "timeout value is out of range, must be between 0 and 300";
    FnInvalidIdleTimeout: 400, User, "idle_timeout value is out of range, must be between 0 and 3600";
    FnInvalidMemory: 400, User, "memory value is out of range. It should be between 0 and 8192";
    FnAlreadyExists: 409, User, "Fn with specified name already exists";
    FnNotFound: 404, User, "Fn not found";
    FnIdMismatch: 400, User, "Fn ID in path does not match that in body";
    FnMissingId: 400, User, "Missing Fn ID";
    /// spec/07 7.6: the image of a runner's status is not for calls.
    FnInvalidImage: 400, User, "Invalid Fn image";

    /// spec/01 1.5
    TriggerMissingListAppId: 400, User, "Missing App ID on Trigger";
    TriggerIdProvided: 400, User, "ID cannot be provided for Trigger creation";
    TriggerCreatedAtProvided: 400, User, "Trigger Created At Provided for Create";
    TriggerUpdatedAtProvided: 400, User, "Trigger ID Provided for Create";
    TriggerMissingAppId: 400, User, "Missing App ID on Trigger";
    TriggerMissingName: 400, User, "Missing name on Trigger";
    TriggerNameTooLong: 400, User, "Trigger name must be 255 characters or less";
    TriggerInvalidName: 400, User, "Invalid name for Trigger";
    TriggerMissingFnId: 400, User, "Missing Fn ID on Trigger";
    TriggerFnNotOfApp: 400, User, "Invalid Fn ID - not owned by specified app";
    TriggerTypeUnsupported: 400, User, "Trigger Type Not Supported";
    TriggerMissingSource: 400, User, "Missing Trigger Source";
    TriggerSourceWithoutSlash: 400, User, "Missing Trigger Source Prefix '/'";
    /// The original has no limit of its own, and answers what its database says.
    TriggerSourceTooLong: 400, User, "Trigger source must be 2048 bytes or less";
    TriggerNotFound: 404, User, "Trigger not found";
    TriggerAlreadyExists: 409, User, "Trigger already exists";
    TriggerSourceTaken: 409, User, "Trigger with the same type and source exists on this app";
    TriggerIdMismatch: 400, User, "ID in path does not match ID in body";

    /// spec/01 1.6
    AnnotationInvalidKey: 400, User, "Invalid annotation key, annotation keys must be non-empty ascii strings excluding whitespace";
    AnnotationKeyTooLong: 400, User, "Invalid annotation key length, annotation keys may not be larger than 128 bytes";
    AnnotationInvalidValue: 400, User, "Invalid annotation value, annotation values may only be non-empty strings, numbers, objects, or arrays";
    AnnotationValueTooLong: 400, User, "Invalid annotation value length, annotation values may not be larger than 512 bytes when serialized as JSON";
    AnnotationTooMany: 400, User, "Invalid annotation change, new key(s) exceed maximum permitted number of annotations keys (100)";

    /// The original takes it, and no container of the function can be created.
    ConfigInvalidKey: 400, User, "Invalid config key, config keys must be non-empty and without '='";

    /// spec/01 1.7
    InvalidCpus: 400, User, "Cpus is invalid. Value should be either between [0.000 and 1024.000] or [0m and 1024000m] milliCPU units";

    /// spec/01 1.1; the text names the method and the path.
    PathNotFound: 404, User, "Path not found";
    /// spec/01 1.1; the text names the method and the path.
    MethodNotAllowed: 405, User, "Method not allowed";
    /// spec/01 1.5: the call records of a function are gone on a server that keeps none.
    CallsGone: 410, User, "Call records are not available on this server";
    CallNotFound: 404, User, "Call not found";
    CallLogNotFound: 404, User, "Call log not found";
    /// The client accepts neither of the two forms of a log.
    CallLogNotAcceptable: 406, User, "unable to respond within acceptable response content types";
    /// The call is not over yet, or has no answer.
    CallResultNotFound: 404, User, "Call has no result";
    /// The text names the option and its limits.
    InvalidCallOption: 400, User, "Invalid call option";
    /// The text names the filter.
    InvalidCallFilter: 400, User, "Invalid filter";
    /// Only calls that are over and were given up can be handed in again or purged.
    CallNotDead: 409, User, "Call is not a dead letter";
    /// A call that keeps its client waiting is cancelled by hanging up.
    CallNotCancellable: 409, User, "Call can not be cancelled";
    IdempotencyKeyReused: 422, User, "Idempotency-Key was used with another request";
    /// The same key's first call is not over yet.
    IdempotencyKeyInUse: 409, User, "A call with this Idempotency-Key is being made";
    /// The function is not run again for it.
    IdempotentAnswerNotKept: 409, User, "The call of this Idempotency-Key was made, and its answer was too large to be kept";
    /// The runner's lease of the call is gone.
    CallLeaseLost: 409, Service, "the lease of the call was lost";

    /// spec/01 1.10 from here on. Also sent when the node is shutting down.
    ServerBusy: 503, Service, "Timed out - server too busy";
    ResourcesImpossible: 400, Service, "Requested CPU/Memory cannot be allocated";
    ImagePullTimeout: 504, User, "Image pull timed out";
    /// The text names the image and the engine's message; a 4xx of the engine passes through.
    ImagePullFailed: 502, User, "Failed to pull image";
    ResponseBodyTooLarge: 502, User, "function response body too large";
    ResponseHeaderTooLarge: 502, User, "function response header too large";
    FunctionResponseError: 502, User, "error receiving function response";
    FunctionFailed: 502, User, "function failed";
    FunctionInvalidResponse: 502, User, "invalid function response";
    RequestTooLarge: 413, User, "Request content too large";
    /// The client's body stopped, stalled or broke before its end.
    RequestBodyBroken: 400, User, "Request body could not be read";
    RequestBodyTimeout: 408, User, "Request body was not received in time";
    CallTimeout: 504, User, "Timed out";
    ContainerInitFailed: 502, User, "Container failed to initialize, please ensure you are using the latest fdk and check the logs";
    ContainerInitTimeout: 504, User, "Container initialization timed out, please ensure you are using the latest fdk and check the logs";
    SyslogUnavailable: 500, User, "Syslog Unavailable";
    DetachedUnsupported: 501, Service, "Detach call functions are not supported on this server";
    ImageHasVolume: 400, Service, "image has Volume definition";
    OutOfMemory: 502, Service, "container out of memory, you may want to raise fn.memory for this function (default: 128MB)";
    ClientCancelled: 444, Service, "Client cancelled context";
    /// The store cannot be reached; nothing was changed.
    StoreUnavailable: 503, Service, "Datastore unavailable";
    Internal: 500, Service, "internal server error";
}

impl ErrorCode {
    /// The code with this [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// Whether the same request may succeed a little later without being changed.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::ServerBusy | Self::StoreUnavailable)
    }

    /// Seconds for the header `Retry-After`, where the answer carries one (spec/01 1.2).
    pub const fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::ServerBusy => Some(15),
            Self::StoreUnavailable => Some(1),
            _ => None,
        }
    }
}

/// An error that may be shown to a client. What must stay inside (driver messages, SQL) is kept in
/// a detail that only `Debug` prints.
#[derive(Clone)]
pub struct ApiError {
    code: ErrorCode,
    status: u16,
    message: Cow<'static, str>,
    detail: Option<Arc<str>>,
    retry_after: Option<u32>,
}

impl ApiError {
    /// The error `code` with a text built for this occasion.
    pub fn with_message(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            message: Cow::Owned(message.into()),
            ..Self::from(code)
        }
    }

    /// Answers with `status` instead of the table's, as for a registry's 4xx.
    pub fn status_override(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Tells the client to come back after so many seconds, instead of what the table says.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds what happened inside; it is logged and never sent.
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string().into());
        self
    }

    /// An internal error, whose cause is logged and never sent.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::from(ErrorCode::Internal).detail(detail)
    }

    /// What went wrong.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The public text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Seconds for the header `Retry-After`, where the answer carries one.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after.or(self.code.retry_after_seconds())
    }

    /// What happened inside, for logs only.
    pub fn internal_detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            status: code.status(),
            message: Cow::Borrowed(code.text()),
            detail: None,
            retry_after: None,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.code.name(), self.status, self.message)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_is_not_displayed() {
        let error = ApiError::internal("password=hunter2");
        assert_eq!(error.to_string(), "internal server error");
        assert!(format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn names_are_unique_and_statuses_are_errors() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        assert!(
            ErrorCode::ALL
                .iter()
                .all(|code| (400..600).contains(&code.status()))
        );
    }
}
