//! How rows become apps, functions and triggers.

use domain::{App, AppId, FnId, Func, Shape, Timestamp, Trigger, TriggerId, TriggerKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

/// Something read from a row.
pub(super) struct Stored<T>(pub(super) T);

impl<'r, R> FromRow<'r, R> for Stored<App>
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        Ok(Self(App {
            id: AppId::from(row.try_get::<String, _>("id")?),
            name: row.try_get("name")?,
            config: json("config", row.try_get("config")?)?,
            annotations: json("annotations", row.try_get("annotations")?)?,
            syslog_url: row.try_get("syslog_url")?,
            shape: shape(row.try_get("shape")?)?,
            created_at: Timestamp::from_unix_millis(row.try_get("created_at")?),
            updated_at: Timestamp::from_unix_millis(row.try_get("updated_at")?),
        }))
    }
}

impl<'r, R> FromRow<'r, R> for Stored<Func>
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        Ok(Self(Func {
            id: FnId::from(row.try_get::<String, _>("id")?),
            name: row.try_get("name")?,
            app_id: AppId::from(row.try_get::<String, _>("app_id")?),
            image: row.try_get("image")?,
            memory: u64::try_from(row.try_get::<i64, _>("memory")?)
                .map_err(|error| unreadable("memory", error))?,
            timeout: row.try_get("timeout")?,
            idle_timeout: row.try_get("idle_timeout")?,
            config: json("config", row.try_get("config")?)?,
            annotations: json("annotations", row.try_get("annotations")?)?,
            created_at: Timestamp::from_unix_millis(row.try_get("created_at")?),
            updated_at: Timestamp::from_unix_millis(row.try_get("updated_at")?),
            shape: shape(row.try_get("shape")?)?,
        }))
    }
}

impl<'r, R> FromRow<'r, R> for Stored<Trigger>
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        Ok(Self(Trigger {
            id: TriggerId::from(row.try_get::<String, _>("id")?),
            name: row.try_get("name")?,
            app_id: AppId::from(row.try_get::<String, _>("app_id")?),
            fn_id: FnId::from(row.try_get::<String, _>("fn_id")?),
            created_at: Timestamp::from_unix_millis(row.try_get("created_at")?),
            updated_at: Timestamp::from_unix_millis(row.try_get("updated_at")?),
            kind: TriggerKind::parse(&row.try_get::<String, _>("type")?)
                .map_err(|error| unreadable("type", error))?,
            source: row.try_get("source")?,
            annotations: json("annotations", row.try_get("annotations")?)?,
        }))
    }
}

/// The text of a map in its column.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps with text keys always serialise")
}

pub(super) fn json<T: DeserializeOwned>(column: &'static str, text: String) -> Result<T, Error> {
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

fn shape(text: Option<String>) -> Result<Option<Shape>, Error> {
    Shape::parse(text.as_deref().unwrap_or("")).map_err(|error| unreadable("shape", error))
}

pub(super) fn unreadable(
    column: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(source),
    }
}
