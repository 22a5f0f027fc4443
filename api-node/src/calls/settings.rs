//! How the service of calls behaves; made of [`CallsConfig`](crate::config::CallsConfig).

use std::time::Duration;

use super::Network;
use crate::store::Retention;

/// How the service of calls behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallsSettings {
    /// Largest input of a durable call, in bytes.
    pub max_body: usize,
    /// How much is kept of a function's answer, in bytes.
    pub max_result: usize,
    /// How long a runner holds a call without a sign of life.
    pub lease: Duration,
    /// Doorbells of one function that are published and not answered, at most.
    pub window: u32,
    /// Whether a call that was just accepted may go to a runner without the queue.
    pub direct: bool,
    /// How long a waiting call gains one step of priority.
    pub ageing: Duration,
    /// How long nothing may happen to a call that is due before its doorbell rings again.
    pub silence: Duration,
    /// How long things are kept.
    pub retention: Retention,
    /// How outcomes are posted.
    pub callbacks: CallbackSettings,
}

/// How outcomes are posted to callback URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackSettings {
    /// How long one try may take.
    pub timeout: Duration,
    /// How long after the end of a call it is tried.
    pub retry_for: Duration,
    /// How many are made at once.
    pub parallel: u32,
    /// Networks that may be reached although they are refused otherwise.
    pub allow: Vec<Network>,
}

impl Default for CallsSettings {
    fn default() -> Self {
        crate::config::CallsConfig::default().calls_settings()
    }
}
