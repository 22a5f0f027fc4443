//! What a place for logs has to do: keep parts of them by call, attempt and position.

use async_trait::async_trait;
use bytes::Bytes;
use domain::{ApiError, CallId};

/// A part of the log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The attempt.
    pub epoch: i64,
    /// Where it begins in the log of that attempt.
    pub start: u64,
    /// The bytes; there are some.
    pub data: Bytes,
}

impl Part {
    /// What tells it from others of the same call.
    pub fn key(&self) -> PartKey {
        PartKey {
            epoch: self.epoch,
            start: self.start,
            len: self.data.len() as u64,
        }
    }
}

/// What tells a part from others of the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartKey {
    /// The attempt.
    pub epoch: i64,
    /// Where it begins in the log of that attempt.
    pub start: u64,
    /// How long it is.
    pub len: u64,
}

impl PartKey {
    /// Where it ends in the log of its attempt.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// A place for parts of logs. The ids of calls are checked by the caller, and operations that take
/// too long are given up by it. Errors are `StoreUnavailable` and `Internal`.
#[async_trait]
pub trait LogParts: Send + Sync + 'static {
    /// Keeps parts. One that begins where another does may take its place if it is longer; otherwise it
    /// is kept beside it, or not at all if it is as long.
    async fn put_parts(&self, parts: Vec<(CallId, Part)>) -> Result<(), ApiError>;

    /// The parts of a call's log, in any order.
    async fn list_parts(&self, id: &CallId) -> Result<Vec<PartKey>, ApiError>;

    /// These parts of a call's log, which stand in the order of the log; those that are gone are left
    /// out.
    async fn get_parts(&self, id: &CallId, keys: &[PartKey]) -> Result<Vec<Part>, ApiError>;

    /// Deletes all parts of these calls.
    async fn delete_parts(&self, ids: &[CallId]) -> Result<(), ApiError>;

    /// Parts of how many calls are deleted at once, well within the time that an operation may take.
    fn deletes_at_once(&self) -> usize {
        32
    }

    /// Deletes parts of calls that were made before `unix_millis`, of at most about `limit` calls;
    /// returns of how many.
    async fn prune_parts(&self, unix_millis: u64, limit: usize) -> Result<usize, ApiError>;
}
