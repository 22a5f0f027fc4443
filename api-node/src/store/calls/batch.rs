//! How one statement gets the values of many calls: as one JSON document, which each database reads
//! as a table, and one run of bytes beside it.

use domain::call::LeaseRef;
use serde::{Serialize, Serializer};

/// A statement on the table `batch`, whose columns are named here and come as parameter `$1`: once for
/// both databases, or in the words of each.
macro_rules! batch {
    ($columns:tt $sql:expr) => {
        batch!($columns $sql, $sql)
    };
    ([$($name:ident $kind:ident),+] $sqlite:expr, $postgres:expr) => {
        $crate::store::session::Sql {
            sqlite: concat!(
                "WITH batch AS (SELECT ",
                $("value ->> '", stringify!($name), "' AS ", stringify!($name), ", ",)+
                "0 AS no_column FROM json_each($1)) ",
                $sqlite
            ),
            postgres: concat!(
                "WITH batch AS (SELECT ",
                $(stringify!($name), ", ",)+
                "0 AS no_column FROM json_to_recordset(CAST($1 AS json)) AS given(",
                $(stringify!($name), " ", stringify!($kind), ", ",)+
                "no_column bigint)) ",
                $postgres
            ),
        }
    };
}
pub(in super::super) use batch;

/// A statement on the rows whose ids come in a table `batch` that has no other column: what stands
/// before and behind that condition, behind it in the words of each database if they differ.
///
/// PostgreSQL would make a join of it, and plan that by what it knows of the tables' sizes, which is
/// nothing as long as they are new; an array of ids can only be looked up.
macro_rules! of_ids {
    ($head:expr, $column:literal, $tail:expr) => {
        of_ids!($head, $column, $tail, $tail)
    };
    ($head:expr, $column:literal, $sqlite:expr, $postgres:expr) => {
        of_ids!($head, $head, $column, $sqlite, $postgres)
    };
    ($sqlite_head:expr, $postgres_head:expr, $column:literal, $sqlite:expr, $postgres:expr) => {
        batch!([id text]
            concat!($sqlite_head, " WHERE ", $column, " IN (SELECT id FROM batch) ", $sqlite),
            concat!($postgres_head, " WHERE ", $column, " = ANY(ARRAY(SELECT id FROM batch)) ", $postgres))
    };
}
pub(in super::super) use of_ids;

/// The document for a statement made by `batch!`.
pub(super) fn rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> String {
    let rows: Vec<T> = rows.into_iter().collect();
    serde_json::to_string(&rows).expect("rows of texts and numbers always serialise")
}

/// A row of which only the call is named.
#[derive(Serialize)]
pub(super) struct Id<'a> {
    pub(super) id: Text<'a>,
}

/// The document that names these calls, in their order.
pub(in super::super) fn ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    rows(ids.into_iter().map(|id| Id { id: Text(id) }))
}

/// A row of a claim.
#[derive(Serialize)]
struct Lease<'a> {
    call_id: Text<'a>,
    epoch: i64,
}

/// The document that names these claims, in the order of the ids, each once.
pub(super) fn leases<'a>(leases: impl IntoIterator<Item = &'a LeaseRef>) -> String {
    let mut leases: Vec<_> = leases
        .into_iter()
        .map(|lease| (lease.call_id.as_str(), lease.epoch))
        .collect();
    leases.sort_unstable();
    leases.dedup();
    rows(leases.into_iter().map(|(id, epoch)| Lease {
        call_id: Text(id),
        epoch,
    }))
}

/// A text from outside. PostgreSQL cannot keep a NUL: the character that stands for what cannot be
/// shown takes its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.contains('\0') {
            serializer.serialize_str(&without_nul(self.0))
        } else {
            serializer.serialize_str(self.0)
        }
    }
}

/// The same for a text that is kept in memory, too.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Bytes of many calls in one parameter: each call says where its own are.
#[derive(Default)]
pub(super) struct Bodies(Vec<u8>);

/// Where the bytes of one call are.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Span {
    start: usize,
    length: usize,
}

impl Bodies {
    /// So much goes into one parameter; more makes more statements.
    pub(super) const ENOUGH: usize = 32 << 20;

    pub(super) fn push(&mut self, body: &[u8]) -> Span {
        // A part of no bytes at all is null for SQLite.
        if self.0.is_empty() {
            self.0.push(0);
        }
        let span = Span {
            start: self.0.len() + 1,
            length: body.len(),
        };
        self.0.extend_from_slice(body);
        span
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_enough(&self) -> bool {
        self.0.len() >= Self::ENOUGH
    }
}
