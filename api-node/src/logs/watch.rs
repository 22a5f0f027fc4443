//! Telling those who follow a log that there is more of it.
//!
//! What another API node appends is not told: those who wait look again every second.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::CallId;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long what another API node appended may stay unseen.
const POLL: Duration = Duration::from_secs(1);

/// The calls whose logs are followed on this node.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<CallId, watch::Sender<()>>>>);

impl Watchers {
    /// Begins to follow the log of a call.
    pub fn watch(&self, id: &CallId) -> LogWatch {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = calls.entry(id.clone()).or_default().subscribe();
        LogWatch {
            id: id.clone(),
            news,
            watchers: self.clone(),
        }
    }

    /// Says that there may be more of the log of a call.
    pub fn changed(&self, id: &CallId) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = calls.get(id) {
            news.send_replace(());
        }
    }
}

/// Follows the log of one call.
#[derive(Debug)]
pub struct LogWatch {
    id: CallId,
    news: watch::Receiver<()>,
    watchers: Watchers,
}

impl LogWatch {
    /// Waits until there may be more of the log than when this was made, or last returned. Safe to
    /// cancel.
    pub async fn changed(&mut self) {
        // Whoever waited in vain looks, too.
        let _ = timeout(POLL, self.news.changed()).await;
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        let mut calls = self
            .watchers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(entry) = calls.entry(self.id.clone())
            && entry.get().receiver_count() <= 1
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_that_came_before_the_wait_are_not_missed() {
        let watchers = Watchers::default();
        let id = CallId::from("followed");
        let mut watch = watchers.watch(&id);
        watchers.changed(&id);
        assert!(watch.news.has_changed().expect("the sender is there"));
        watch.changed().await;
        assert!(!watch.news.has_changed().expect("the sender is there"));
        watchers.changed(&CallId::from("another"));
        assert!(!watch.news.has_changed().expect("the sender is there"));
    }

    #[test]
    fn nothing_stays_behind_when_nobody_follows() {
        let watchers = Watchers::default();
        let id = CallId::from("followed");
        let (first, second) = (watchers.watch(&id), watchers.watch(&id));
        drop(first);
        watchers.changed(&id);
        assert!(second.news.has_changed().expect("the sender is there"));
        drop(second);
        assert!(watchers.0.lock().expect("no panic").is_empty());
    }
}
