//! Which callback is made next. Pure: it is told what happens and what time it is.
//!
//! A receiver that hangs keeps what is meant for it waiting, and nobody else: each host has a share of
//! the tries that are made at once.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

/// One host gets so many-th of all that is made at once.
const SHARE: usize = 4;
/// So many times its share may wait for one host; what exceeds that is left to its lease.
const WAITING_SHARES: usize = 8;
/// So many times what is made at once may wait in all.
const WAITING: usize = 16;

/// Callbacks that wait and that are under way.
#[derive(Debug)]
pub(super) struct Pool<T> {
    parallel: usize,
    running: usize,
    hosts: HashMap<String, Host>,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug, Default)]
struct Host {
    running: usize,
    waiting: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    host: String,
    /// Then it is somebody else's.
    until: Instant,
    delivery: T,
}

impl<T> Pool<T> {
    /// Makes at most `parallel` at once.
    pub(super) fn new(parallel: u32) -> Self {
        Self {
            parallel: usize::try_from(parallel).unwrap_or(usize::MAX).max(1),
            running: 0,
            hosts: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// One that is to be made before `until`; whether there is room for it.
    pub(super) fn add(&mut self, host: String, until: Instant, delivery: T) -> bool {
        let most = WAITING_SHARES * self.share();
        let of = self.hosts.entry(host.clone()).or_default();
        if of.waiting >= most || self.waiting.len() >= WAITING * self.parallel {
            return false;
        }
        of.waiting += 1;
        self.waiting.push_back(Waiting {
            host,
            until,
            delivery,
        });
        true
    }

    /// The next one to be made, at `now`, and its host; it is under way then.
    pub(super) fn next(&mut self, now: Instant) -> Option<(String, T)> {
        let Self { hosts, waiting, .. } = self;
        waiting.retain(|one| {
            let fresh = now < one.until;
            if !fresh && let Some(host) = hosts.get_mut(&one.host) {
                host.waiting -= 1;
            }
            fresh
        });
        if self.running >= self.parallel {
            return None;
        }
        let share = self.share();
        let place = self.waiting.iter().position(|one| {
            let host = self.hosts.get(&one.host);
            host.is_none_or(|host| host.running < share)
        })?;
        let next = self.waiting.remove(place)?;
        let host = self.hosts.entry(next.host.clone()).or_default();
        host.waiting -= 1;
        host.running += 1;
        self.running += 1;
        Some((next.host, next.delivery))
    }

    /// One for `host` is over.
    pub(super) fn ended(&mut self, host: &str) {
        self.running -= 1;
        if let Some(of) = self.hosts.get_mut(host) {
            of.running -= 1;
            if of.running == 0 && of.waiting == 0 {
                self.hosts.remove(host);
            }
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn share(&self) -> usize {
        (self.parallel / SHARE).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_host_that_hangs_keeps_nobody_else_waiting() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let mut pool = Pool::new(8);
        let kept = (0..100).filter(|n| pool.add("hangs".to_owned(), until, *n));
        assert_eq!(kept.count(), 16);
        assert!(pool.add("works".to_owned(), until, 100));
        let mut made = vec![];
        while let Some((_, n)) = pool.next(now) {
            made.push(n);
        }
        assert_eq!(made, [0, 1, 100]);
        // The pool is filled as soon as one ends, without those that still hang.
        pool.ended("works");
        assert!(pool.add("works".to_owned(), until, 101));
        assert_eq!(pool.next(now), Some(("works".to_owned(), 101)));
        assert_eq!(pool.next(now), None);
        pool.ended("hangs");
        assert_eq!(pool.next(now), Some(("hangs".to_owned(), 2)));
    }

    #[test]
    fn what_waited_too_long_is_left_to_others() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let mut pool = Pool::new(1);
        assert!(pool.add("a".to_owned(), until, 1));
        assert!(pool.add("a".to_owned(), until, 2));
        assert!(pool.next(now).is_some());
        pool.ended("a");
        assert_eq!(pool.next(until), None);
        assert_eq!(pool.waiting(), 0);
        assert!(pool.add("a".to_owned(), until + (until - now), 3));
        assert_eq!(pool.next(until), Some(("a".to_owned(), 3)));
        pool.ended("a");
        assert!(pool.hosts.is_empty());
    }
}
