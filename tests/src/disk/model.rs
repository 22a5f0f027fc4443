//! The files and directories of the disk, as programs see them and as a loss of power leaves them.
//!
//! Changes of directories are a journal, as file systems have one: a sync of a file or of a directory makes
//! those durable that concern it, and all before them; a loss of power undoes the others, from some point
//! on. A file whose name was synced and whose content was not is empty, or has holes. Only what replaces a
//! file, by its name or after the old content was cut off, is written first, as ext4 (`auto_da_alloc`) and
//! others do for programs that rely on it: RabbitMQ does, and would not start again.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use super::content::Content;
use crate::random::Random;

/// The number of a file or directory.
pub(super) type Id = u64;

/// The directory of all others.
pub(super) const ROOT: Id = 1;

/// What is known of a file or directory beside what is in it. It is durable at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u16,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) modified: SystemTime,
}

/// A file or a directory; the entries of directories are in the trees.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) attributes: Attributes,
    /// None for a directory.
    pub(super) content: Option<Content>,
}

/// The names in a directory.
pub(super) type Entries = BTreeMap<OsString, Id>;

/// All directories with their entries.
#[derive(Debug, Default, Clone)]
struct Tree(HashMap<Id, Entries>);

/// Names that come, go, or get another meaning, all at once.
#[derive(Debug, Clone)]
pub(super) struct Change(Vec<(Id, OsString, Option<Id>)>);

impl Change {
    /// In a directory, a name means this from now on, or nothing.
    pub(super) fn new(directory: Id, name: &OsStr, id: Option<Id>) -> Self {
        Self(vec![(directory, name.to_owned(), id)])
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    fn concerns(&self, id: Id) -> bool {
        let of = |(directory, _, named): &(Id, OsString, Option<Id>)| {
            *directory == id || *named == Some(id)
        };
        self.0.iter().any(of)
    }
}

impl Tree {
    fn apply(&mut self, change: Change) {
        for (directory, name, id) in change.0 {
            let entries = self.0.entry(directory).or_default();
            match id {
                Some(id) => entries.insert(name, id),
                None => entries.remove(&name),
            };
        }
    }
}

/// Everything on a disk.
#[derive(Debug)]
pub(super) struct Model {
    nodes: BTreeMap<Id, Node>,
    next: Id,
    now: Tree,
    durable: Tree,
    /// Changes of `now` that `durable` does not have.
    journal: Vec<Change>,
    /// Whether syncs are heeded.
    honest: bool,
}

impl Model {
    /// An empty disk; its root has these attributes.
    pub(super) fn new(root: Attributes) -> Self {
        let mut model = Self {
            nodes: BTreeMap::new(),
            next: ROOT,
            now: Tree::default(),
            durable: Tree::default(),
            journal: Vec::new(),
            honest: true,
        };
        model.add(root, None);
        model
    }

    /// From now on syncs are answered, and not heeded.
    pub(super) fn lie(&mut self) {
        self.honest = false;
    }

    /// A new file or directory, which has no name yet.
    pub(super) fn add(&mut self, attributes: Attributes, content: Option<Content>) -> Id {
        let id = self.next;
        self.next += 1;
        let node = Node {
            attributes,
            content,
        };
        self.nodes.insert(id, node);
        id
    }

    pub(super) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub(super) fn node_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    pub(super) fn find(&self, directory: Id, name: &OsStr) -> Option<Id> {
        self.now.0.get(&directory)?.get(name).copied()
    }

    /// What is in a directory.
    pub(super) fn entries(&self, directory: Id) -> Entries {
        self.now.0.get(&directory).cloned().unwrap_or_default()
    }

    pub(super) fn is_empty(&self, directory: Id) -> bool {
        self.now.0.get(&directory).is_none_or(BTreeMap::is_empty)
    }

    pub(super) fn change(&mut self, change: Change) {
        for (directory, name, id) in &change.0 {
            if id.is_some() && self.find(*directory, name).is_some() {
                self.sync_content(*id);
            }
        }
        self.journal.push(change.clone());
        self.now.apply(change);
    }

    /// What `fsync` promises of a file or directory.
    pub(super) fn sync(&mut self, id: Id) {
        if !self.honest {
            return;
        }
        self.sync_content(Some(id));
        let concerns = |change: &Change| change.concerns(id);
        if let Some(last) = self.journal.iter().rposition(concerns) {
            self.commit(last + 1);
        }
    }

    fn sync_content(&mut self, id: Option<Id>) {
        let node = id.and_then(|id| self.nodes.get_mut(&id));
        if let Some(content) = node.and_then(|node| node.content.as_mut()) {
            content.sync();
        }
    }

    fn commit(&mut self, count: usize) {
        for change in self.journal.drain(..count) {
            self.durable.apply(change);
        }
    }

    /// Makes everything durable.
    pub(super) fn settle(&mut self) {
        self.commit(self.journal.len());
        let nodes = self.nodes.values_mut();
        for content in nodes.filter_map(|node| node.content.as_mut()) {
            content.sync();
        }
    }

    /// Goes back to what is durable; of all else, so many of a hundred changes happen to be there.
    pub(super) fn lose_power(&mut self, random: &mut Random, survivors: u64) {
        let pending = self.journal.len() as u64;
        let begun = random.within(0, pending * survivors / 100 + 1);
        self.commit(usize::try_from(begun).expect("no more than there are"));
        self.journal.clear();
        self.now = self.durable.clone();
        self.forget_nameless();
        let nodes = self.nodes.values_mut();
        for content in nodes.filter_map(|node| node.content.as_mut()) {
            content.lose_power(random, survivors);
        }
    }

    /// Files without a name were kept for those that had them open.
    fn forget_nameless(&mut self) {
        let mut found = vec![ROOT];
        let mut next = 0;
        while let Some(directory) = found.get(next) {
            if let Some(entries) = self.now.0.get(directory) {
                found.extend(entries.values());
            }
            next += 1;
        }
        found.sort_unstable();
        let is_found = |id: &Id| found.binary_search(id).is_ok();
        self.nodes.retain(|id, _| is_found(id));
        self.now.0.retain(|id, _| is_found(id));
        self.durable.0.retain(|id, _| is_found(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTES: Attributes = Attributes {
        mode: 0o700,
        user: 0,
        group: 0,
        modified: SystemTime::UNIX_EPOCH,
    };

    fn disk() -> Model {
        Model::new(ATTRIBUTES)
    }

    fn create(disk: &mut Model, directory: Id, name: &str, text: &str) -> Id {
        let id = disk.add(ATTRIBUTES, Some(Content::default()));
        disk.change(Change::new(directory, name.as_ref(), Some(id)));
        write(disk, id, text);
        id
    }

    fn write(disk: &mut Model, id: Id, text: &str) {
        let node = disk.node_mut(id).expect("a file");
        let content = node.content.as_mut().expect("a file");
        content.write(0, text.as_bytes());
    }

    fn directory(disk: &mut Model, name: &str) -> Id {
        let id = disk.add(ATTRIBUTES, None);
        disk.change(Change::new(ROOT, name.as_ref(), Some(id)));
        id
    }

    fn rename(disk: &mut Model, from: &str, to: &str) {
        let id = disk.find(ROOT, from.as_ref()).expect("a file");
        let gone = Change::new(ROOT, from.as_ref(), None);
        disk.change(gone.and(Change::new(ROOT, to.as_ref(), Some(id))));
    }

    /// What is there after a loss of power, of which nothing survives that was not synced.
    fn after_power_loss(disk: &mut Model) -> Vec<(String, String)> {
        disk.lose_power(&mut Random::new(1), 0);
        let named = |(name, id): (OsString, Id)| {
            let content = disk.node(id)?.content.as_ref()?.read(0, u32::MAX);
            let content = String::from_utf8(content).expect("text");
            Some((name.into_string().expect("text"), content))
        };
        disk.entries(ROOT).into_iter().filter_map(named).collect()
    }

    fn found(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn a_file_that_was_not_synced_is_gone() {
        let mut disk = disk();
        create(&mut disk, ROOT, "a", "text");
        assert_eq!(after_power_loss(&mut disk), []);
    }

    #[test]
    fn a_file_that_was_synced_is_there_with_its_directory() {
        let mut disk = disk();
        let inner = directory(&mut disk, "inner");
        let file = create(&mut disk, inner, "a", "text");
        disk.sync(file);
        after_power_loss(&mut disk);
        let inner = disk.find(ROOT, "inner".as_ref()).expect("a directory");
        assert!(disk.find(inner, "a".as_ref()).is_some());
    }

    #[test]
    fn a_synced_directory_has_its_names_and_not_their_content() {
        let mut disk = disk();
        create(&mut disk, ROOT, "a", "text");
        disk.sync(ROOT);
        assert_eq!(after_power_loss(&mut disk), [found("a", "")]);
    }

    #[test]
    fn a_file_has_its_old_name_until_the_directory_is_synced() {
        for (synced, name) in [(false, "old"), (true, "new")] {
            let mut disk = disk();
            let file = create(&mut disk, ROOT, "old", "text");
            disk.sync(file);
            rename(&mut disk, "old", "new");
            if synced {
                disk.sync(ROOT);
            }
            assert_eq!(after_power_loss(&mut disk), [found(name, "text")]);
        }
    }

    #[test]
    fn a_file_that_replaces_another_is_whole() {
        for (synced, text) in [(false, "old"), (true, "new")] {
            let mut disk = disk();
            let file = create(&mut disk, ROOT, "a", "old");
            disk.sync(file);
            create(&mut disk, ROOT, "b", "new");
            rename(&mut disk, "b", "a");
            if synced {
                disk.sync(ROOT);
            }
            assert_eq!(after_power_loss(&mut disk), [found("a", text)]);
        }
    }

    #[test]
    fn a_removed_file_comes_back_until_the_directory_is_synced() {
        let mut disk = disk();
        let file = create(&mut disk, ROOT, "a", "text");
        disk.sync(file);
        disk.change(Change::new(ROOT, "a".as_ref(), None));
        assert_eq!(after_power_loss(&mut disk), [found("a", "text")]);
        disk.change(Change::new(ROOT, "a".as_ref(), None));
        disk.sync(ROOT);
        assert_eq!(after_power_loss(&mut disk), []);
    }

    #[test]
    fn changes_survive_in_their_order() {
        for state in 0..50 {
            let mut disk = disk();
            for number in 0..10 {
                create(&mut disk, ROOT, &number.to_string(), "");
            }
            disk.lose_power(&mut Random::new(state), 100);
            let names = disk.entries(ROOT).into_keys().collect::<Vec<_>>();
            let expected: Vec<_> = (0..names.len())
                .map(|number| OsString::from(number.to_string()))
                .collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn a_disk_that_lies_keeps_what_it_had_before() {
        let mut disk = disk();
        let file = create(&mut disk, ROOT, "a", "old");
        disk.settle();
        disk.lie();
        write(&mut disk, file, "new");
        disk.sync(file);
        assert_eq!(after_power_loss(&mut disk), [found("a", "old")]);
    }
}
