//! Opening a queue by its URL.

use std::path::PathBuf;
use std::sync::Arc;

use super::amqp::{self, AmqpQueue};
use super::{EmbeddedQueue, Queue, QueueMetrics};

pub use amqp::AddressError;

/// What a queue is opened with.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The name of the broker's queue (`FN_MQ_QUEUE`); what has to do with it is named after it.
    pub queue: String,
    /// The authority that the broker's certificate is checked against, besides those that browsers
    /// trust (`FN_MQ_CERT_AUTHORITY`): a PEM file.
    pub authority: Option<PathBuf>,
    /// What is counted.
    pub metrics: QueueMetrics,
}

/// Why a queue cannot be opened. The text holds no password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no queue.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The name is none for a queue.
    #[error("FN_MQ_QUEUE: a queue's name has from 1 to 200 bytes")]
    Name,
    /// The authority cannot be read.
    #[error("FN_MQ_CERT_AUTHORITY: cannot read {}: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

/// Opens the queue that `url` names: `amqp://` or `amqps://` a RabbitMQ, and nothing the queue of
/// this process. Does not wait for the broker, which is looked for until the queue is closed.
///
/// # Errors
/// [`OpenError`]: the settings are wrong.
///
/// # Panics
/// Outside a tokio runtime.
pub fn open(url: &str, options: OpenOptions) -> Result<Arc<dyn Queue>, OpenError> {
    if url.is_empty() {
        return Ok(Arc::new(EmbeddedQueue::new(options.metrics)));
    }
    let address = amqp::Address::parse(url)?;
    // What is named after it has to fit into the 255 bytes that a name may have.
    if !(1..=200).contains(&options.queue.len()) {
        return Err(OpenError::Name);
    }
    let authority = match options.authority {
        Some(path) => Some(
            std::fs::read_to_string(&path)
                .map_err(|source| OpenError::Authority { path, source })?,
        ),
        None => None,
    };
    Ok(Arc::new(AmqpQueue::new(
        address.trusting(authority),
        &options.queue,
        options.metrics,
    )))
}
