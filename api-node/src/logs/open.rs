//! Opening the store of logs that a URL names.

use std::path::PathBuf;
use std::sync::Arc;

use super::gather::GatheredParts;
use super::parts::LogParts;
use super::url::{LogUrlError, Target};
use super::{CallLogs, LogStore, directory, s3};

/// Why a store of logs could not be opened. The text holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    /// The URL names no store.
    #[error(transparent)]
    Url(#[from] LogUrlError),
    /// The directory can not be used.
    #[error("can not use the directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The bucket does not exist and can not be created.
    #[error("failed to create bucket {bucket}: {reason}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// What the server said.
        reason: String,
    },
    /// The client can not be built.
    #[error("the client of the log store: {0}")]
    Client(String),
}

impl From<object_store::Error> for LogStoreError {
    fn from(error: object_store::Error) -> Self {
        Self::Client(error.to_string())
    }
}

/// Opens the store of logs that `url` names: `file:///<directory>`,
/// `s3://<key>:<secret>@<host>/<region>/<bucket>?ssl=<bool>`, or, when it is empty, `database`.
/// Directory and bucket are created when missing. A bucket's server that does not answer is no error:
/// logs are kept as soon as it does.
///
/// # Errors
/// [`LogStoreError`].
pub async fn open(
    url: &str,
    database: Arc<dyn LogParts>,
) -> Result<Arc<dyn LogStore>, LogStoreError> {
    let parts: Arc<dyn LogParts> = match Target::parse(url)? {
        Target::Database => Arc::new(GatheredParts::new(database)),
        Target::Directory(path) => {
            let opened = directory::open(&path);
            Arc::new(opened.map_err(|source| LogStoreError::Directory { path, source })?)
        }
        Target::S3(target) => Arc::new(s3::open(&target).await?),
    };
    Ok(Arc::new(CallLogs::new(parts)))
}
