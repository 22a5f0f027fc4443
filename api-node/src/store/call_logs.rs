//! The statements on the table of logs of calls, and the place for logs that it is.

use async_trait::async_trait;
use bytes::Bytes;
use domain::{ApiError, CallId, IdSource};

use super::calls::batch::{self, batch, of_ids};
use super::session::{Arg, Database, Session, Sql};
use super::sql_store::SqlStore;
use crate::logs::{LogParts, Part, PartKey};

/// A part that came once more, with what followed it, takes the place of the first one.
const PUT: &str = "INSERT INTO call_logs (call_id, epoch, start, data) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (call_id, epoch, start) DO UPDATE SET data = excluded.data \
    WHERE octet_length(excluded.data) > octet_length(call_logs.data)";
const LIST: &str = "SELECT epoch, start, CAST(octet_length(data) AS BIGINT) FROM call_logs \
    WHERE call_id = $1";
const GET: &str = "SELECT epoch, start, data FROM call_logs WHERE call_id = $1 \
    AND (epoch, start) >= ($2, $3) AND (epoch, start) <= ($4, $5) ORDER BY epoch, start";
pub(super) const DELETE: Sql = of_ids!("DELETE FROM call_logs", "call_id", "");
/// A statement deletes of all of them, in an instant.
const DELETES_AT_ONCE: usize = 1024;
/// The ids of calls are read in their order from the primary key.
const OLD: &str = "SELECT DISTINCT call_id FROM call_logs WHERE call_id < $1 \
    ORDER BY call_id LIMIT $2";

#[async_trait]
impl<D: Database> LogParts for SqlStore<D> {
    async fn put_parts(&self, parts: Vec<(CallId, Part)>) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            for (id, part) in &parts {
                let args = [
                    Arg::Text(id.as_str()),
                    Arg::Int(part.epoch),
                    Arg::Int(number(part.start)),
                    Arg::Bytes(&part.data),
                ];
                tx.execute(PUT, &args).await?;
            }
            Ok(self.commit(tx, Vec::new()).await?)
        })
        .await
    }

    async fn list_parts(&self, id: &CallId) -> Result<Vec<PartKey>, ApiError> {
        let rows: Vec<(i64, i64, i64)> = self
            .run(|| async {
                let mut reader = self.database.reader().await?;
                Ok(reader.rows(LIST, &[Arg::Text(id.as_str())]).await?)
            })
            .await?;
        let key = |(epoch, start, len)| PartKey {
            epoch,
            start: position(start),
            len: position(len),
        };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn get_parts(&self, id: &CallId, keys: &[PartKey]) -> Result<Vec<Part>, ApiError> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return Ok(Vec::new());
        };
        let args = [
            Arg::Text(id.as_str()),
            Arg::Int(first.epoch),
            Arg::Int(number(first.start)),
            Arg::Int(last.epoch),
            Arg::Int(number(last.start)),
        ];
        let rows: Vec<(i64, i64, Vec<u8>)> = self
            .run(|| async {
                let mut reader = self.database.reader().await?;
                Ok(reader.rows(GET, &args).await?)
            })
            .await?;
        let part = |(epoch, start, data)| Part {
            epoch,
            start: position(start),
            data: Bytes::from(data),
        };
        Ok(rows.into_iter().map(part).collect())
    }

    async fn delete_parts(&self, ids: &[CallId]) -> Result<(), ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let ids = batch::ids(ids.iter().map(CallId::as_str));
            tx.dialect_execute(DELETE, &[Arg::Text(&ids)]).await?;
            Ok(self.commit(tx, Vec::new()).await?)
        })
        .await
    }

    fn deletes_at_once(&self) -> usize {
        DELETES_AT_ONCE
    }

    async fn prune_parts(&self, unix_millis: u64, limit: usize) -> Result<usize, ApiError> {
        let bound = IdSource::first_at(unix_millis);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let old: Vec<(String,)> = self
            .run(|| async {
                let mut reader = self.database.reader().await?;
                let args = [Arg::Text(&bound), Arg::Int(limit)];
                Ok(reader.rows(OLD, &args).await?)
            })
            .await?;
        let old: Vec<_> = old.into_iter().map(|(id,)| CallId::from(id)).collect();
        if !old.is_empty() {
            self.delete_parts(&old).await?;
        }
        Ok(old.len())
    }
}

/// Positions and lengths are below the limit of an attempt's log.
fn number(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

fn position(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
