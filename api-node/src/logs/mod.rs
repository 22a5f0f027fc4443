//! The logs of calls: what functions printed while a runner held the lease of a call (spec/02 2.5).
//!
//! A log is kept in parts as runners sent them, in the database of the calls, in a directory, or in
//! an S3 bucket (`FN_LOGSTORE_URL`). All of them keep the same rules, which
//! are in [`assembly`].

mod assembly;
mod bucket;
mod call_logs;
mod directory;
mod gather;
mod layout;
mod objects;
mod open;
mod parts;
mod s3;
#[cfg(test)]
mod tests;
mod url;
mod watch;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{ApiError, CallId};
use hybrid_client::LogChunk;

pub use call_logs::CallLogs;
pub use open::{LogStoreError, open};
pub use parts::{LogParts, Part, PartKey};
pub use url::LogUrlError;
pub use watch::{LogWatch, Watchers};

/// How much is kept of what one attempt printed, in bytes. A line says so where more was cut off.
pub const ATTEMPT_LIMIT: u64 = 1024 * 1024;
/// How much of a log [`LogStore::read`] returns, in bytes: that of many attempts.
pub const READ_LIMIT: usize = 32 * 1024 * 1024;

/// Where logs are kept. Every operation ends within ten seconds; an error is `StoreUnavailable` when
/// the store cannot be reached, and `Internal`. No call waits for its log.
#[async_trait]
pub trait LogStore: Send + Sync + 'static {
    /// Appends. What was appended before at the same place is not appended again, so that a chunk whose
    /// answer was lost can be sent once more, alone or with what followed it. Chunks may come in any
    /// order: what is missing between two of them is replaced by a line that says so, until it comes.
    /// What exceeds [`ATTEMPT_LIMIT`] is dropped.
    ///
    /// On an error some of the chunks may have been appended.
    ///
    /// # Errors
    /// `CallNotFound` for an id that is none.
    async fn append(&self, chunks: Vec<LogChunk>) -> Result<(), ApiError>;

    /// What is in the log behind `cursor`, about one attempt at most; none if the call has no log.
    /// An empty page says that nothing new has come yet.
    async fn read_from(&self, id: &CallId, cursor: LogCursor) -> Result<Option<LogPage>, ApiError>;

    /// The whole log, one attempt after the other, up to [`READ_LIMIT`]; none if the call has no log.
    async fn read(&self, id: &CallId) -> Result<Option<Bytes>, ApiError>;

    /// Tells when there may be more of a log; to be had before the log is read.
    fn watch(&self, id: &CallId) -> LogWatch;

    /// Deletes the logs of calls; those that have none do no harm.
    async fn delete(&self, ids: &[CallId]) -> Result<(), ApiError>;

    /// The logs of how many calls [`LogStore::delete`] deletes well within its time.
    fn deletes_at_once(&self) -> usize;

    /// Deletes logs of calls that were made before `unix_millis`, whether or not anything else is
    /// known of these calls, at most about `limit` of them; returns how many.
    ///
    /// The net below [`LogStore::delete`]. A call runs as late as it expires: the time must be before
    /// now by the retention of logs and the longest expiry
    /// ([`EXPIRY_SECONDS`](domain::call::options::EXPIRY_SECONDS)) together.
    async fn prune(&self, unix_millis: u64, limit: usize) -> Result<usize, ApiError>;
}

/// A place in a log. The default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogCursor {
    /// The attempt.
    pub epoch: i64,
    /// How many bytes of its log are before this place.
    pub offset: u64,
}

impl fmt::Display for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

/// A text is not a place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a log")]
pub struct NoCursor;

impl FromStr for LogCursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (epoch, offset) = text.split_once('.').ok_or(NoCursor)?;
        let cursor = Self {
            epoch: epoch.parse().map_err(|_| NoCursor)?,
            offset: offset.parse().map_err(|_| NoCursor)?,
        };
        // One spelling for each place.
        if cursor.to_string() != text || cursor.epoch < 0 {
            return Err(NoCursor);
        }
        Ok(cursor)
    }
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// What functions printed.
    pub data: Bytes,
    /// The place behind it.
    pub next: LogCursor,
    /// Whether there is more already.
    pub more: bool,
}
