//! Which images may be removed, and when: the state of the image cleaner, without any I/O
//! (spec/05 5.5).

use std::collections::{HashMap, HashSet};

use super::reference::ImageReference;

/// The images that the engine holds. Images with an exempt tag are never here.
#[derive(Debug)]
pub(crate) struct ImageCache {
    max_size: u64,
    exempt: HashSet<String>,
    /// By the engine's id.
    images: HashMap<String, Entry>,
    /// The ids of images by the names that functions use.
    names: HashMap<String, String>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    tags: Vec<String>,
    users: usize,
    used_at: u64,
    /// Whether its removal is under way.
    leaving: bool,
}

/// An image that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) id: String,
    /// Its tags; all must go before the image does.
    pub(crate) tags: Vec<String>,
}

/// How much there is (spec/10 10.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheSize {
    pub(crate) busy_count: u64,
    pub(crate) busy_size: u64,
    pub(crate) idle_count: u64,
    pub(crate) idle_size: u64,
}

impl ImageCache {
    /// No images yet, and at most `max_size` bytes wanted.
    pub(crate) fn new(max_size: u64, exempt_tags: &[String]) -> Self {
        Self {
            max_size,
            exempt: exempt_tags.iter().map(|tag| canonical(tag)).collect(),
            images: HashMap::new(),
            names: HashMap::new(),
            clock: 0,
        }
    }

    /// The image is there, and was used just now.
    pub(crate) fn add(&mut self, id: &str, size: u64, tags: &[String]) {
        if tags.iter().any(|tag| self.exempt.contains(&canonical(tag))) {
            self.forget(id);
            return;
        }
        self.clock += 1;
        let entry = self.images.entry(id.to_owned()).or_insert(Entry {
            size,
            tags: Vec::new(),
            users: 0,
            used_at: 0,
            leaving: false,
        });
        entry.size = size;
        entry.tags = tags.to_vec();
        entry.used_at = self.clock;
        // It may be on its way out, but it is there: it was pulled again.
        entry.leaving = false;
    }

    /// Functions call the image by this name.
    pub(crate) fn name(&mut self, name: &str, id: &str) {
        if self.images.contains_key(id) {
            self.names.insert(name.to_owned(), id.to_owned());
        }
    }

    /// A container of the image begins; the id is to be given to [`ImageCache::release`] when it
    /// has gone.
    pub(crate) fn acquire(&mut self, name: &str) -> Option<String> {
        let id = self.names.get(name)?.clone();
        self.images.get_mut(&id)?.users += 1;
        Some(id)
    }

    /// A container of the image has gone.
    pub(crate) fn release(&mut self, id: &str) {
        self.clock += 1;
        if let Some(entry) = self.images.get_mut(id) {
            entry.users = entry.users.saturating_sub(1);
            entry.used_at = self.clock;
        }
    }

    /// Whether an image should be removed.
    pub(crate) fn is_over(&self) -> bool {
        let size = self.size();
        size.idle_size > 0 && size.idle_size.saturating_add(size.busy_size) >= self.max_size
    }

    /// The least recently used idle image, if one should be removed.
    pub(crate) fn victim(&mut self) -> Option<Victim> {
        if !self.is_over() {
            return None;
        }
        let (id, entry) = self
            .images
            .iter_mut()
            .filter(|(_, entry)| entry.users == 0 && !entry.leaving)
            .min_by_key(|(_, entry)| entry.used_at)?;
        entry.leaving = true;
        Some(Victim {
            id: id.clone(),
            tags: entry.tags.clone(),
        })
    }

    /// The removal failed. The image goes to the other end of the queue, so that one which cannot
    /// be removed does not keep the others.
    pub(crate) fn put_back(&mut self, id: &str) {
        self.clock += 1;
        if let Some(entry) = self.images.get_mut(id) {
            entry.leaving = false;
            entry.used_at = self.clock;
        }
    }

    /// The victim is gone, unless it was pulled again in the meantime.
    pub(crate) fn removed(&mut self, id: &str) {
        if self.images.get(id).is_some_and(|entry| entry.leaving) {
            self.forget(id);
        }
    }

    /// How much there is.
    pub(crate) fn size(&self) -> CacheSize {
        let mut size = CacheSize::default();
        for entry in self.images.values().filter(|entry| !entry.leaving) {
            let (count, bytes) = match entry.users {
                0 => (&mut size.idle_count, &mut size.idle_size),
                _ => (&mut size.busy_count, &mut size.busy_size),
            };
            *count += 1;
            *bytes = bytes.saturating_add(entry.size);
        }
        size
    }

    fn forget(&mut self, id: &str) {
        self.images.remove(id);
        self.names.retain(|_, named| named != id);
    }
}

/// One spelling for all names of one tag.
fn canonical(tag: &str) -> String {
    ImageReference::parse(tag).map_or_else(|_| tag.to_owned(), |reference| reference.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(max_size: u64) -> ImageCache {
        ImageCache::new(max_size, &["exempt:v1".to_owned(), "other".to_owned()])
    }

    fn add(cache: &mut ImageCache, name: &str, size: u64) {
        cache.add(name, size, &[format!("{name}:latest")]);
        cache.name(name, name);
    }

    fn victim(cache: &mut ImageCache) -> Option<String> {
        cache.victim().map(|victim| victim.id)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = cache(20);
        for name in ["a", "b", "c"] {
            add(&mut cache, name, 10);
        }
        add(&mut cache, "a", 10);
        let first = cache.victim().expect("30 of 20");
        assert_eq!(first.tags, ["b:latest"]);
        cache.removed("b");
        assert_eq!(victim(&mut cache).as_deref(), Some("c"));
        cache.removed("c");
        assert_eq!(victim(&mut cache), None);
        assert_eq!(cache.size().idle_size, 10);
    }

    #[test]
    fn busy_images_stay_and_count() {
        let mut cache = cache(20);
        add(&mut cache, "a", 10);
        add(&mut cache, "b", 10);
        let ids = [cache.acquire("a"), cache.acquire("a")];
        assert_eq!(ids, [Some("a".to_owned()), Some("a".to_owned())]);
        assert!(cache.is_over());
        assert_eq!(victim(&mut cache).as_deref(), Some("b"));
        cache.removed("b");
        cache.release("a");
        add(&mut cache, "c", 10);
        assert_eq!(victim(&mut cache).as_deref(), Some("c"));
        cache.put_back("c");
        cache.release("a");
        // Both are idle now, and "a" was in use longer.
        assert_eq!(victim(&mut cache).as_deref(), Some("c"));
    }

    #[test]
    fn nothing_idle_is_never_over() {
        let mut cache = cache(1);
        assert!(!cache.is_over());
        add(&mut cache, "a", 10);
        assert!(cache.is_over());
        cache.acquire("a");
        assert!(!cache.is_over());
    }

    #[test]
    fn exempt_tags_are_not_tracked_however_they_are_spelt() {
        let mut cache = cache(1);
        add(&mut cache, "other", 10);
        cache.add("e", 10, &["exempt:v1".to_owned(), "more:v1".to_owned()]);
        cache.name("exempt:v1", "e");
        assert_eq!(cache.acquire("exempt:v1"), None);
        assert_eq!(cache.size(), CacheSize::default());
        assert_eq!(victim(&mut cache), None);
        cache.add("e2", 10, &["exempt:v2".to_owned()]);
        assert_eq!(victim(&mut cache).as_deref(), Some("e2"));
    }

    #[test]
    fn a_failed_removal_does_not_keep_the_others() {
        let mut cache = cache(1);
        add(&mut cache, "a", 10);
        add(&mut cache, "b", 10);
        assert_eq!(victim(&mut cache).as_deref(), Some("a"));
        cache.put_back("a");
        assert_eq!(victim(&mut cache).as_deref(), Some("b"));
        cache.removed("b");
        assert_eq!(victim(&mut cache).as_deref(), Some("a"));
        // No victim twice.
        assert_eq!(victim(&mut cache), None);
    }

    #[test]
    fn an_image_that_is_pulled_again_while_it_leaves_stays() {
        let mut cache = cache(1);
        add(&mut cache, "a", 10);
        assert_eq!(victim(&mut cache).as_deref(), Some("a"));
        add(&mut cache, "a", 10);
        cache.removed("a");
        assert_eq!(cache.size().idle_count, 1);
        assert_eq!(cache.acquire("a").as_deref(), Some("a"));
    }

    #[test]
    fn the_same_image_is_counted_once() {
        let mut cache = cache(100);
        add(&mut cache, "a", 10);
        add(&mut cache, "a", 12);
        let expected = CacheSize {
            idle_count: 1,
            idle_size: 12,
            ..CacheSize::default()
        };
        assert_eq!(cache.size(), expected);
    }
}
