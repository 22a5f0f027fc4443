//! What is in a file: as its readers see it, and as it would be found after a loss of power.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::random::Random;

/// What a disk takes at once, and what may be torn.
const PAGE: usize = 4096;
/// What a disk never tears.
const SECTOR: usize = 512;

/// A page; both states of a file share those that are the same.
type Page = Arc<[u8; PAGE]>;

/// One state of a file. Pages that were never written are zeros.
#[derive(Debug, Default, Clone)]
struct State {
    size: u64,
    pages: Vec<Option<Page>>,
}

impl State {
    fn resize(&mut self, size: u64) {
        let is_smaller = size < self.size;
        self.size = size;
        self.pages.resize(pages(size), None);
        let rest = usize::try_from(size % PAGE as u64).expect("less than a page");
        if is_smaller && rest > 0 {
            // What was there does not come back when the file grows.
            self.last_page_mut()[rest..].fill(0);
        }
    }

    fn last_page_mut(&mut self) -> &mut [u8; PAGE] {
        self.page_mut(self.pages.len() - 1)
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE] {
        let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(page)
    }
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct Content {
    now: State,
    durable: State,
    /// Pages of `now` that `durable` does not have.
    dirty: BTreeSet<usize>,
    /// The smallest size since the last sync, if the file has shrunk since.
    shrunk_to: Option<u64>,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.now.size
    }

    pub(super) fn read(&self, offset: u64, size: u32) -> Vec<u8> {
        let end = self.now.size.min(offset.saturating_add(size.into()));
        let mut read = Vec::new();
        for (page, within) in spans(offset, end) {
            match &self.now.pages[page] {
                Some(page) => read.extend_from_slice(&page[within]),
                None => read.resize(read.len() + within.len(), 0),
            }
        }
        read
    }

    pub(super) fn write(&mut self, offset: u64, mut data: &[u8]) {
        let end = offset + data.len() as u64;
        self.resize(self.now.size.max(end));
        for (page, within) in spans(offset, end) {
            let (first, rest) = data.split_at(within.len());
            self.now.page_mut(page)[within].copy_from_slice(first);
            self.dirty.insert(page);
            data = rest;
        }
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.now.size {
            let least = self.shrunk_to.map_or(size, |least| least.min(size));
            self.shrunk_to = Some(least);
            // The page that is cut through has changed, too.
            let first = usize::try_from(size / PAGE as u64).expect("it is in memory");
            self.dirty.extend(first..self.now.pages.len());
        }
        self.now.resize(size);
    }

    /// Makes what is there durable.
    pub(super) fn sync(&mut self) {
        self.durable.size = self.now.size;
        self.durable.pages.resize(self.now.pages.len(), None);
        for page in std::mem::take(&mut self.dirty) {
            if let Some(written) = self.now.pages.get(page) {
                self.durable.pages[page].clone_from(written);
            }
        }
        self.shrunk_to = None;
    }

    /// Goes back to what is durable; of the pages that are not, so many of a hundred are there
    /// nevertheless, some of them in part.
    pub(super) fn lose_power(&mut self, random: &mut Random, survivors: u64) {
        let mut written = std::mem::take(&mut self.now);
        let mut dirty = std::mem::take(&mut self.dirty);
        if let Some(size) = self.shrunk_to.take() {
            let has_shrunk = random.within(0, 100) < survivors;
            if has_shrunk && size > 0 {
                self.durable.resize(size.min(self.durable.size));
            } else if has_shrunk {
                // What is written to a file that was emptied is written before the old content goes.
                self.durable = written.clone();
            }
            if !has_shrunk || size == 0 {
                dirty.clear();
            }
        }
        for page in dirty {
            let Some(new) = written.pages.get_mut(page).and_then(Option::take) else {
                continue;
            };
            if random.within(0, 100) >= survivors {
                continue;
            }
            let end = written.size.min((page as u64 + 1) * PAGE as u64);
            self.durable.resize(self.durable.size.max(end));
            match random.within(0, 4) {
                0 => tear(self.durable.page_mut(page), &new, random),
                _ => self.durable.pages[page] = Some(new),
            }
        }
        self.now = self.durable.clone();
    }
}

/// Some sectors are the new ones.
fn tear(kept: &mut [u8; PAGE], new: &[u8; PAGE], random: &mut Random) {
    let sectors = kept.chunks_mut(SECTOR).zip(new.chunks(SECTOR));
    for (kept, new) in sectors {
        if random.within(0, 2) == 0 {
            kept.copy_from_slice(new);
        }
    }
}

/// How many pages a file of this size has.
fn pages(size: u64) -> usize {
    usize::try_from(size.div_ceil(PAGE as u64)).expect("it is in memory")
}

/// The pages between two offsets, each with what of it is between them.
fn spans(from: u64, to: u64) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let page = PAGE as u64;
    let first = usize::try_from(from / page).expect("it is in memory");
    (first..pages(to)).map(move |number| {
        let start = number as u64 * page;
        let within = |offset: u64| {
            let offset = offset.clamp(start, start + page) - start;
            usize::try_from(offset).expect("within a page")
        };
        (number, within(from)..within(to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Content {
        let mut file = Content::default();
        file.write(0, text.as_bytes());
        file.sync();
        file
    }

    fn text(file: &Content) -> String {
        String::from_utf8(file.read(0, u32::MAX)).expect("text")
    }

    fn random() -> Random {
        Random::new(1)
    }

    #[test]
    fn what_was_written_is_read_over_the_edges_of_pages() {
        let mut file = Content::default();
        let data: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        file.write(5_000, &data);
        assert_eq!(file.size(), 15_000);
        assert_eq!(file.read(0, 5_000), vec![0; 5_000]);
        assert_eq!(file.read(5_000, 10_000), data);
        assert_eq!(file.read(8_191, 2), data[3_191..3_193]);
        assert_eq!(file.read(14_999, 100), data[9_999..]);
        assert_eq!(file.read(20_000, 100), [0; 0]);
    }

    #[test]
    fn what_was_not_synced_is_lost() {
        let mut file = file("kept");
        file.write(4, b" and lost");
        assert_eq!(text(&file), "kept and lost");
        file.lose_power(&mut random(), 0);
        assert_eq!(text(&file), "kept");
    }

    #[test]
    fn what_was_synced_is_kept() {
        let mut file = file("old");
        file.write(0, b"new, and longer");
        file.sync();
        file.lose_power(&mut random(), 0);
        assert_eq!(text(&file), "new, and longer");
    }

    #[test]
    fn a_file_that_shrank_is_the_old_one_or_has_shrunk() {
        for (survivors, expected) in [(0, "a long text"), (100, "a")] {
            let mut file = file("a long text");
            file.resize(1);
            file.lose_power(&mut random(), survivors);
            assert_eq!(text(&file), expected);
        }
    }

    #[test]
    fn a_file_that_is_written_anew_is_the_old_one_or_the_new_one() {
        for state in 0..50 {
            let (old, new) = ("old ".repeat(5_000), "new ".repeat(10_000));
            let mut file = file(&old);
            file.resize(0);
            file.write(0, new.as_bytes());
            file.lose_power(&mut Random::new(state), 50);
            assert!([old, new].contains(&text(&file)));
        }
    }

    #[test]
    fn what_a_file_had_before_it_shrank_does_not_come_back() {
        let mut file = file("secret");
        file.resize(2);
        file.resize(6);
        assert_eq!(text(&file), "se\0\0\0\0");
        file.sync();
        file.lose_power(&mut random(), 0);
        assert_eq!(text(&file), "se\0\0\0\0");
    }

    #[test]
    fn some_pages_survive_and_some_are_torn() {
        let mut file = Content::default();
        file.write(0, &vec![1; 100 * PAGE]);
        file.sync();
        file.write(0, &vec![2; 100 * PAGE]);
        file.lose_power(&mut random(), 50);
        let found = file.read(0, u32::MAX);
        let news = found.chunks(PAGE).map(|page| {
            let sectors = page.chunks(SECTOR);
            sectors.filter(|sector| **sector == [2; SECTOR]).count()
        });
        let news: Vec<_> = news.collect();
        assert!(news.contains(&0) && news.contains(&(PAGE / SECTOR)));
        assert!(news.iter().any(|new| (1..PAGE / SECTOR).contains(new)));
        // It is on the disk now.
        file.lose_power(&mut random(), 0);
        assert_eq!(file.read(0, u32::MAX), found);
    }
}
