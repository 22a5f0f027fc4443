//! The table of snapshots: functions and apps as calls found them, once for all that found the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use domain::Timestamp;
use domain::call::lease::Snapshot;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::rows::{json, to_json};
use super::super::session::{Arg, Session, Sql};
use super::batch::{self, batch};

/// How often the use of a snapshot is noted: once in that many milliseconds.
const NOTED_EVERY: i64 = 24 * 3600 * 1000;
/// So many are remembered in memory.
const REMEMBERED: usize = 1024;

const FRESH: Sql = batch!([id text]
    "SELECT s.hash, s.used_at FROM batch JOIN call_snapshots s ON s.hash = batch.id WHERE s.used_at > $2");
const PUT: Sql = batch!([hash text, document text]
    "INSERT INTO call_snapshots (hash, document, used_at) \
     SELECT hash, document, CAST($2 AS BIGINT) FROM batch WHERE true ORDER BY hash \
     ON CONFLICT (hash) DO UPDATE SET used_at = excluded.used_at");
const READ: Sql = batch!([id text]
    "SELECT s.hash, s.document FROM batch JOIN call_snapshots s ON s.hash = batch.id");

#[derive(Serialize)]
struct Row<'a> {
    hash: &'a str,
    document: &'a str,
}

/// The documents of some calls' snapshots.
pub(super) struct Documents {
    /// One for each snapshot that was given.
    hashes: Vec<Arc<str>>,
    by_hash: BTreeMap<Arc<str>, String>,
}

impl Documents {
    /// Calls of one moment share one snapshot, which is hashed once.
    pub(super) fn of<'a>(snapshots: impl IntoIterator<Item = &'a Arc<Snapshot>>) -> Self {
        let mut seen: HashMap<usize, Arc<str>> = HashMap::new();
        let mut by_hash = BTreeMap::new();
        let mut hashes = Vec::new();
        for snapshot in snapshots {
            let hash = seen.entry(Arc::as_ptr(snapshot).addr()).or_insert_with(|| {
                let document = to_json(&**snapshot);
                let hash: Arc<str> = hex(&Sha256::digest(document.as_bytes())).into();
                by_hash.insert(Arc::clone(&hash), document);
                hash
            });
            hashes.push(Arc::clone(hash));
        }
        Self { hashes, by_hash }
    }

    /// The hash of the snapshot at this place.
    pub(super) fn hash(&self, at: usize) -> &str {
        &self.hashes[at]
    }

    /// Keeps those that are not kept yet, and notes that they are in use.
    pub(super) async fn keep(
        &self,
        session: &mut impl Session,
        snapshots: &Snapshots,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        let now = now.unix_millis();
        let oldest = now - NOTED_EVERY;
        let unsure = snapshots.not_noted_since(oldest, self.by_hash.keys());
        if unsure.is_empty() {
            return Ok(());
        }
        let ids = batch::ids(unsure.iter().map(|hash| &***hash));
        let args = [Arg::Text(&ids), Arg::Int(oldest)];
        let fresh: Vec<(String, i64)> = session.dialect_rows(FRESH, &args).await?;
        snapshots.note(&fresh);
        let stale = self.by_hash.iter().filter(|(hash, _)| {
            unsure.contains(hash) && !fresh.iter().any(|(fresh, _)| **fresh == ***hash)
        });
        let stale: Vec<_> = stale
            .map(|(hash, document)| Row { hash, document })
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        let rows = batch::rows(stale);
        session
            .dialect_execute(PUT, &[Arg::Text(&rows), Arg::Int(now)])
            .await
    }
}

/// What is known of the table.
#[derive(Debug, Default)]
pub(in super::super) struct Snapshots {
    /// Those that were read, by hash: what a hash stands for never changes.
    read: Mutex<HashMap<String, Arc<Snapshot>>>,
    /// When the use of some was noted last, as it was read: what was committed, and is kept for long
    /// after that time.
    noted: Mutex<HashMap<Arc<str>, i64>>,
}

impl Snapshots {
    /// Those of which it is not known that their use was noted since.
    fn not_noted_since<'a>(
        &self,
        since: i64,
        hashes: impl Iterator<Item = &'a Arc<str>>,
    ) -> BTreeSet<&'a Arc<str>> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        hashes
            .filter(|hash| noted.get(*hash).is_none_or(|used_at| *used_at <= since))
            .collect()
    }

    fn note(&self, found: &[(String, i64)]) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() + found.len() > REMEMBERED {
            noted.clear();
        }
        noted.extend(
            found
                .iter()
                .map(|(hash, used_at)| (hash.as_str().into(), *used_at)),
        );
    }

    /// Those with these hashes that there are; each is read once, however many calls share it.
    pub(super) async fn read(
        &self,
        session: &mut impl Session,
        hashes: impl IntoIterator<Item = &str>,
    ) -> Result<HashMap<String, Arc<Snapshot>>, sqlx::Error> {
        let mut found = HashMap::new();
        let mut missing = BTreeSet::new();
        {
            let known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            for hash in hashes {
                match known.get(hash) {
                    Some(snapshot) => drop(found.insert(hash.to_owned(), Arc::clone(snapshot))),
                    None => drop(missing.insert(hash)),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let ids = batch::ids(missing);
        let rows: Vec<(String, String)> = session.dialect_rows(READ, &[Arg::Text(&ids)]).await?;
        for (hash, document) in rows {
            found.insert(hash.clone(), self.remember(hash, document)?);
        }
        Ok(found)
    }

    fn remember(&self, hash: String, document: String) -> Result<Arc<Snapshot>, sqlx::Error> {
        let snapshot: Arc<Snapshot> = Arc::new(parse(document)?);
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(hash, Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

/// The snapshot of a document.
pub(super) fn parse(document: String) -> Result<Snapshot, sqlx::Error> {
    json("document", document)
}

/// Bytes as a text of a column.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
        text
    })
}
