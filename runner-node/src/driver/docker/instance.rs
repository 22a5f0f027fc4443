//! Which runner a container belongs to, and whether that runner is alive.
//!
//! A restarted runner removes what its predecessor left, and must not touch what belongs to another
//! runner, even one with the same label tag on the same engine. So each start of a runner is an
//! *instance* with an id of its own and a file, `<state directory>/instances/<id>.lock`, that it
//! keeps locked. The kernel drops the lock when the process ends, however it ends. Containers bear
//! the classifier (tag), the instance, and the *home*: the id of the directory that holds the lock
//! file, so that two directories which happen to have one path are told apart.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The original's label for the tag.
pub(super) const CLASSIFIER_LABEL: &str = "fn-agent-classifier";
/// The original's label for the instance.
pub(super) const INSTANCE_LABEL: &str = "fn-agent-instance";
/// Our label for the directory with the lock file.
pub(super) const HOME_LABEL: &str = "fn-agent-home";

/// This start of the runner. Its lock is given up when it is dropped.
pub(super) struct Instance {
    classifier: String,
    id: String,
    home: Home,
    _lock: File,
}

/// The directory of the lock files.
#[derive(Debug, Clone)]
struct Home {
    path: PathBuf,
    id: String,
}

/// Whose a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// It is no concern of ours: another tag, or an instance that is alive, or ourselves.
    Leave,
    /// Its runner is dead.
    Dead,
    /// Its runner keeps its lock where we cannot see it.
    Unknown,
}

impl Instance {
    /// Begins an instance.
    ///
    /// # Errors
    /// The directory cannot be used, or belongs to another user.
    pub(super) fn begin(state_dir: &Path, tag: Option<&str>) -> io::Result<Self> {
        let home = Home::open(state_dir.join("instances"))?;
        let id = random_id();
        // Locked before it gets the name under which others look for it: it is never there unlocked.
        let hidden = home.path.join(format!(".{id}"));
        let lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&hidden)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&hidden, home.lock_path(&id))?;
        Ok(Self {
            classifier: tag.map_or_else(|| format!("hearth-{}", home.id), str::to_owned),
            id,
            home,
            _lock: lock,
        })
    }

    /// The id of this start.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The tag.
    pub(super) fn classifier(&self) -> &str {
        &self.classifier
    }

    /// The labels of this instance's containers.
    pub(super) fn labels(&self) -> HashMap<String, String> {
        [
            (CLASSIFIER_LABEL, &self.classifier),
            (INSTANCE_LABEL, &self.id),
            (HOME_LABEL, &self.home.id),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
    }

    /// Whose a container with these labels is.
    pub(super) fn ownership(&self, labels: &HashMap<String, String>) -> Ownership {
        let label = |name| labels.get(name).map(String::as_str);
        if label(CLASSIFIER_LABEL) != Some(&self.classifier) {
            return Ownership::Leave;
        }
        match (label(INSTANCE_LABEL), label(HOME_LABEL)) {
            (None, _) => Ownership::Leave,
            (Some(id), _) if id == self.id => Ownership::Leave,
            // The original's: there, one tag is one runner.
            (Some(_), None) => Ownership::Dead,
            (Some(id), Some(home)) if home == self.home.id => {
                if self.home.is_alive(id) {
                    Ownership::Leave
                } else {
                    Ownership::Dead
                }
            }
            (Some(_), Some(_)) => Ownership::Unknown,
        }
    }

    /// Removes the lock files of dead instances; to be called when their containers are gone.
    pub(super) fn forget_dead(&self) {
        let entries = match fs::read_dir(&self.home.path) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "the directory of instances cannot be read");
                return;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".lock")) else {
                continue;
            };
            if id != self.id && !self.home.is_alive(id) {
                // Another runner may have removed it just now.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes this instance's lock file: nothing of it is left.
    pub(super) fn end(&self) {
        let _ = fs::remove_file(self.home.lock_path(&self.id));
    }
}

impl Home {
    fn open(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        let owner = fs::symlink_metadata(&path)?;
        if !owner.is_dir() || owner.uid() != rustix::process::geteuid().as_raw() {
            let text = format!("{} is not a directory of this user", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let id_file = path.join("id");
        let id = match fs::read_to_string(&id_file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Complete before it is visible, and the first of two wins.
                let hidden = path.join(format!(".{}", random_id()));
                File::create_new(&hidden)?.write_all(random_id().as_bytes())?;
                let linked = fs::hard_link(&hidden, &id_file);
                fs::remove_file(&hidden)?;
                match linked {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    _ => fs::read_to_string(&id_file)?,
                }
            }
            other => other?,
        };
        Ok(Self { path, id })
    }

    fn lock_path(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}.lock"))
    }

    /// Whether someone holds the lock of `id`. When in doubt, yes.
    fn is_alive(&self, id: &str) -> bool {
        if !id.bytes().all(|letter| letter.is_ascii_alphanumeric()) {
            return false;
        }
        match File::open(self.lock_path(id)) {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => false,
                Err(Errno::WOULDBLOCK) => true,
                Err(_) => true,
            },
        }
    }
}

fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(dir: &Path) -> Instance {
        Instance::begin(dir, Some("tag")).expect("an instance")
    }

    #[test]
    fn only_dead_instances_of_one_tag_and_home_are_dead() {
        let dir = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        let (me, neighbour) = (begin(dir.path()), begin(dir.path()));
        let stranger = begin(elsewhere.path());
        let other_tag = Instance::begin(dir.path(), Some("other")).expect("an instance");
        assert_eq!(me.ownership(&me.labels()), Ownership::Leave);
        assert_eq!(me.ownership(&neighbour.labels()), Ownership::Leave);
        assert_eq!(me.ownership(&stranger.labels()), Ownership::Unknown);
        assert_eq!(me.ownership(&HashMap::new()), Ownership::Leave);

        let labels = neighbour.labels();
        let other_labels = other_tag.labels();
        drop((neighbour, other_tag));
        assert_eq!(me.ownership(&labels), Ownership::Dead);
        assert_eq!(me.ownership(&other_labels), Ownership::Leave);
        me.forget_dead();
        assert_eq!(me.ownership(&labels), Ownership::Dead);
        assert_eq!(begin(dir.path()).ownership(&me.labels()), Ownership::Leave);
    }

    #[test]
    fn the_originals_containers_go_by_the_tag_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let me = begin(dir.path());
        let mut labels = me.labels();
        labels.remove(HOME_LABEL);
        assert_eq!(me.ownership(&labels), Ownership::Leave);
        labels.insert(INSTANCE_LABEL.to_owned(), "0123".to_owned());
        assert_eq!(me.ownership(&labels), Ownership::Dead);
        labels.insert(HOME_LABEL.to_owned(), me.home.id.clone());
        labels.insert(INSTANCE_LABEL.to_owned(), "../../etc/passwd".to_owned());
        assert_eq!(me.ownership(&labels), Ownership::Dead);
    }

    #[test]
    fn the_default_tag_belongs_to_the_directory() {
        let [one, two] = [(), ()].map(|()| tempfile::tempdir().expect("a directory"));
        let classifier = |dir: &Path| {
            let instance = Instance::begin(dir, None).expect("an instance");
            instance.classifier().to_owned()
        };
        assert_eq!(classifier(one.path()), classifier(one.path()));
        assert_ne!(classifier(one.path()), classifier(two.path()));
    }

    #[test]
    fn an_ended_instance_leaves_nothing_but_the_id() {
        let dir = tempfile::tempdir().expect("a directory");
        begin(dir.path()).end();
        begin(dir.path()).end();
        let left: Vec<_> = fs::read_dir(dir.path().join("instances"))
            .expect("readable")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, ["id"]);
    }

    #[test]
    fn a_directory_that_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(target.path(), dir.path().join("instances")).expect("a link");
        assert!(Instance::begin(dir.path(), None).is_err());
    }
}
