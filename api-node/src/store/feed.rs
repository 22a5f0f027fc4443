//! Who is told of what was committed: those who read in this process at once, and before the one
//! who made the change is answered; those of other processes through the database.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{AppId, Change, FnId};
use tokio::sync::{broadcast, watch};

/// Changes that a slow reader may be behind before it has to assume that everything changed.
const CHANGES_KEPT: usize = 1024;
/// PostgreSQL takes less than 8000 bytes in one notification.
const MAX_PAYLOAD: usize = 7000;
/// Batches that are remembered because only one of their two ways here has come to its end. More
/// are never under way at once; what a lost connection leaves behind is forgotten beyond it, which
/// at worst tells of a change twice.
const MAX_REMEMBERED: usize = 4096;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// A change of apps, functions or triggers.
    Change(Change),
    /// Another set of runners, or one of them has changed.
    Runners,
}

/// News of one transaction, or a part of them.
#[derive(Debug)]
pub(super) struct Batch {
    serial: u64,
    news: Vec<News>,
    /// As it travels through the database.
    payload: String,
}

impl Batch {
    pub(super) fn payload(&self) -> &str {
        &self.payload
    }
}

/// Where changes are told of. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells this store's own notifications from those of others.
    origin: Arc<str>,
    changes: broadcast::Sender<Change>,
    runners: watch::Sender<u64>,
    own: Mutex<Own>,
}

/// What has become of the batches of this store. Each comes back through the database, before or
/// after its commit is known here, and is told of once.
#[derive(Debug, Default)]
struct Own {
    serial: u64,
    /// Told of when their commit was known; still to come from the database.
    committed: HashSet<u64>,
    /// Told of when they came from the database; the commit is not known yet, and never will be if
    /// the connection broke or the caller went away.
    received: HashSet<u64>,
}

impl Feed {
    /// A feed of the store that is named `origin`, unlike every other one, without spaces.
    pub(super) fn new(origin: Arc<str>) -> Self {
        Self(Arc::new(Shared {
            origin,
            changes: broadcast::Sender::new(CHANGES_KEPT),
            runners: watch::Sender::new(0),
            own: Mutex::default(),
        }))
    }

    /// What changes from now on.
    pub(super) fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Changes its value whenever runners may have changed.
    pub(super) fn runners(&self) -> watch::Receiver<u64> {
        self.0.runners.subscribe()
    }

    /// Prepares to tell of `news`, each part small enough for one notification.
    pub(super) fn batches(&self, news: Vec<News>) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        for item in news {
            let word = word_of(&item);
            match batches.last_mut() {
                Some(batch) if batch.payload.len() + word.len() < MAX_PAYLOAD => {
                    batch.payload.push_str(&word);
                    batch.news.push(item);
                }
                _ => batches.push(self.batch(item, &word)),
            }
        }
        batches
    }

    fn batch(&self, item: News, word: &str) -> Batch {
        let mut own = self.own();
        own.serial += 1;
        let serial = own.serial;
        Batch {
            serial,
            payload: format!("{} {serial}{word}", self.0.origin),
            news: vec![item],
        }
    }

    /// Tells of a batch that was committed, unless the database was faster. `echoed`: whether the
    /// batch will come back through the database.
    pub(super) fn committed(&self, batch: &Batch, echoed: bool) {
        {
            let mut own = self.own();
            if own.received.remove(&batch.serial) {
                return;
            }
            if echoed {
                own.committed.insert(batch.serial);
                own.forget();
            }
        }
        self.tell(&batch.news);
    }

    /// Tells of a batch of which it is not known whether it was committed; if it is, or will be,
    /// the database tells of it once more.
    pub(super) fn uncertain(&self, batch: &Batch) {
        self.tell(&batch.news);
    }

    /// Takes in a notification of the database.
    pub(super) fn received(&self, payload: &str) {
        let Some((origin, serial, news)) = parse(payload) else {
            return self.missed();
        };
        if origin == &*self.0.origin {
            let mut own = self.own();
            if own.committed.remove(&serial) {
                return;
            }
            own.received.insert(serial);
            own.forget();
        }
        self.tell(&news);
    }

    /// Says that anything may have changed.
    pub(super) fn missed(&self) {
        let mut own = self.own();
        own.committed.clear();
        own.received.clear();
        drop(own);
        self.tell(&[News::Change(Change::Everything), News::Runners]);
    }

    fn tell(&self, news: &[News]) {
        for item in news {
            match item {
                News::Change(change) => {
                    // Without a reader nothing is cached.
                    let _ = self.0.changes.send(change.clone());
                }
                News::Runners => self.0.runners.send_modify(|count| *count += 1),
            }
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        // Every change of it is one step: it is whole even after a panic elsewhere.
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    fn forget(&mut self) {
        for set in [&mut self.committed, &mut self.received] {
            if set.len() > MAX_REMEMBERED {
                set.clear();
            }
        }
    }
}

/// A word with the space before it. Ids hold no space: they are the store's own.
fn word_of(news: &News) -> String {
    let mut word = String::from(" ");
    let (kind, id) = match news {
        News::Change(Change::App(id)) => ('a', id.as_str()),
        News::Change(Change::Fn(id)) => ('f', id.as_str()),
        News::Change(Change::Triggers(app)) => ('t', app.as_str()),
        News::Change(Change::Everything) => ('e', ""),
        News::Runners => ('r', ""),
    };
    // A text takes whatever is written to it.
    let _ = write!(word, "{kind}{id}");
    word
}

fn parse(payload: &str) -> Option<(&str, u64, Vec<News>)> {
    let mut words = payload.split(' ');
    let origin = words.next()?;
    let serial = words.next()?.parse().ok()?;
    let news = words.map(|word| {
        let kind = word.chars().next()?;
        let id = &word[kind.len_utf8()..];
        Some(match kind {
            'a' => News::Change(Change::App(AppId::from(id))),
            'f' => News::Change(Change::Fn(FnId::from(id))),
            't' => News::Change(Change::Triggers(AppId::from(id))),
            'e' => News::Change(Change::Everything),
            'r' => News::Runners,
            _ => return None,
        })
    });
    Some((origin, serial, news.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(receiver: &mut broadcast::Receiver<Change>) -> Vec<Change> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    fn a_change() -> Change {
        Change::Fn(FnId::from("f"))
    }

    fn one_batch(feed: &Feed) -> Batch {
        let mut batches = feed.batches(vec![News::Change(a_change())]);
        assert_eq!(batches.len(), 1);
        batches.remove(0)
    }

    #[test]
    fn own_news_are_told_once_whichever_way_is_faster() {
        let feed = Feed::new("me".into());
        let mut receiver = feed.changes();
        let batch = one_batch(&feed);
        feed.committed(&batch, true);
        feed.received(batch.payload());
        assert_eq!(told(&mut receiver), [a_change()]);

        let batch = one_batch(&feed);
        feed.received(batch.payload());
        feed.committed(&batch, true);
        assert_eq!(told(&mut receiver), [a_change()]);
    }

    #[test]
    fn a_commit_that_shows_late_is_told_of_then() {
        let feed = Feed::new("me".into());
        let mut receiver = feed.changes();
        let batch = one_batch(&feed);
        feed.uncertain(&batch);
        assert_eq!(told(&mut receiver), [a_change()]);
        feed.received(batch.payload());
        assert_eq!(told(&mut receiver), [a_change()]);
    }

    #[test]
    fn the_news_of_others_are_told_and_what_is_not_understood_is_everything() {
        let (me, other) = (Feed::new("me".into()), Feed::new("other".into()));
        let (mut receiver, mut runners) = (me.changes(), me.runners());
        runners.mark_unchanged();
        let news = [
            News::Change(Change::App(AppId::from("a"))),
            News::Change(a_change()),
            News::Change(Change::Triggers(AppId::from("a"))),
            News::Change(Change::Everything),
            News::Runners,
        ];
        for batch in other.batches(news.to_vec()) {
            me.received(batch.payload());
        }
        assert_eq!(
            told(&mut receiver),
            [
                Change::App(AppId::from("a")),
                a_change(),
                Change::Triggers(AppId::from("a")),
                Change::Everything
            ]
        );
        assert!(runners.has_changed().expect("the feed is there"));
        for payload in [
            "",
            "other",
            "other x fF",
            "other 1 ",
            "other 1 zZ",
            "other 1  fF",
        ] {
            me.received(payload);
            assert_eq!(told(&mut receiver), [Change::Everything], "{payload:?}");
        }
    }

    #[test]
    fn many_news_fit_into_notifications() {
        let (me, other) = (Feed::new("me".into()), Feed::new("other".into()));
        let mut receiver = me.changes();
        let ids: Vec<_> = (0..1000)
            .map(|n| Change::Fn(FnId::from(format!("{n:026}"))))
            .collect();
        let batches = other.batches(ids.iter().cloned().map(News::Change).collect());
        assert!(batches.len() < 10);
        for batch in &batches {
            assert!(batch.payload().len() < 8000);
            me.received(batch.payload());
        }
        assert_eq!(told(&mut receiver), ids);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let feed = Feed::new("me".into());
        for _ in 0..2 * MAX_REMEMBERED {
            feed.committed(&one_batch(&feed), true);
            feed.received(one_batch(&feed).payload());
        }
        let own = feed.own();
        assert!(own.committed.len() <= MAX_REMEMBERED && own.received.len() <= MAX_REMEMBERED);
    }
}
