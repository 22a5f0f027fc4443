//! The table of snapshots: functions and apps as calls found them, once for all that found the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use domain::Timestamp;
use domain::call::lease::Snapshot;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::rows::{json, to_json};
use super::super::session::{Arg, Session, Sql, now};
use super::batch::{self, batch};

/// How often the use of a snapshot is noted: once in that many milliseconds.
const NOTED_EVERY: i64 = 24 * 3600 * 1000;
/// So many are remembered in memory.
const REMEMBERED: usize = 1024;

/// The time, whatever is there of the snapshots.
macro_rules! look {
    ($now:expr) => {
        concat!(
            "SELECT ",
            $now,
            " AS now, s.hash, s.used_at FROM batch LEFT JOIN call_snapshots s ON s.hash = batch.id"
        )
    };
}
const LOOK: Sql = batch!([id text] look!(now!(sqlite)), look!(now!(postgres)));
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

/// The documents of some calls' snapshots. Calls of one moment share one snapshot.
pub(super) struct Documents {
    /// By the addresses of the snapshots.
    hashes: HashMap<usize, Arc<str>>,
    by_hash: BTreeMap<Arc<str>, String>,
    /// Those that are kept, and when the use of each was noted last.
    kept: HashMap<String, i64>,
}

impl Documents {
    /// Of these, which must live as long as they are asked for here.
    pub(super) fn of<'a>(snapshots: impl IntoIterator<Item = &'a Arc<Snapshot>>) -> Self {
        let mut hashes: HashMap<usize, Arc<str>> = HashMap::new();
        let mut by_hash = BTreeMap::new();
        for snapshot in snapshots {
            hashes.entry(address(snapshot)).or_insert_with(|| {
                let document = to_json(&**snapshot);
                let hash: Arc<str> = hex(&Sha256::digest(document.as_bytes())).into();
                by_hash.insert(Arc::clone(&hash), document);
                hash
            });
        }
        Self {
            hashes,
            by_hash,
            kept: HashMap::new(),
        }
    }

    /// The hash of one of them.
    pub(super) fn hash(&self, snapshot: &Arc<Snapshot>) -> &str {
        &self.hashes[&address(snapshot)]
    }

    /// Finds out which are kept, and answers what time it is. There must be one at least.
    pub(super) async fn look(
        &mut self,
        session: &mut impl Session,
    ) -> Result<Timestamp, sqlx::Error> {
        let ids = batch::ids(self.by_hash.keys().map(|hash| &**hash));
        let found: Vec<(i64, Option<String>, Option<i64>)> =
            session.dialect_rows(LOOK, &[Arg::Text(&ids)]).await?;
        let now = found.iter().map(|(now, ..)| *now).max();
        let kept = found
            .into_iter()
            .filter_map(|(_, hash, used_at)| hash.zip(used_at));
        self.kept = kept.collect();
        now.map(Timestamp::from_unix_millis)
            .ok_or(sqlx::Error::RowNotFound)
    }

    /// Keeps those of `hashes` that are not kept yet, and notes that they are in use.
    pub(super) async fn keep<'a>(
        &self,
        session: &mut impl Session,
        now: Timestamp,
        hashes: impl Iterator<Item = &'a str>,
    ) -> Result<(), sqlx::Error> {
        let now = now.unix_millis();
        let noted = |hash: &str| {
            let used_at = self.kept.get(hash);
            used_at.is_some_and(|used_at| *used_at > now - NOTED_EVERY)
        };
        let stale: BTreeSet<&str> = hashes.filter(|hash| !noted(hash)).collect();
        if stale.is_empty() {
            return Ok(());
        }
        let rows = batch::rows(stale.into_iter().map(|hash| Row {
            hash,
            document: &self.by_hash[hash],
        }));
        session
            .dialect_execute(PUT, &[Arg::Text(&rows), Arg::Int(now)])
            .await
    }
}

fn address(snapshot: &Arc<Snapshot>) -> usize {
    Arc::as_ptr(snapshot).addr()
}

/// Snapshots that were read, by hash: what a hash stands for never changes.
#[derive(Debug, Default)]
pub(in super::super) struct Snapshots(Mutex<HashMap<String, Arc<Snapshot>>>);

impl Snapshots {
    /// Those with these hashes that there are; each is read once, however many calls share it.
    pub(super) async fn read(
        &self,
        session: &mut impl Session,
        hashes: impl IntoIterator<Item = &str>,
    ) -> Result<HashMap<String, Arc<Snapshot>>, sqlx::Error> {
        let mut found = HashMap::new();
        let mut missing = BTreeSet::new();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
