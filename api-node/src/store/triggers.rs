//! The statements on the table of triggers.

use domain::{AppId, Trigger, TriggerId, TriggerKind};

use super::TriggerFilter;
use super::rows::{Stored, to_json};
use super::session::{Arg, Locking, Session};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, app_id, fn_id, type, source, annotations, created_at, updated_at FROM triggers ",
            $rest
        )
    };
}

const BY_ID: Locking = Locking {
    plain: select!("WHERE id = $1"),
    for_update: select!("WHERE id = $1 FOR UPDATE"),
};
const BY_SOURCE: &str = select!("WHERE app_id = $1 AND type = $2 AND source = $3");

// A name may stand once on every function of the app: only name and id together give an order in
// which nothing is lost between two pages. Within one function the name is enough.
pub(super) const LIST: &str =
    select!("WHERE app_id = $2 AND (name, id) > ($3, $4) ORDER BY name, id LIMIT $1");
pub(super) const LIST_NAMED: &str =
    select!("WHERE app_id = $2 AND name = $5 AND (name, id) > ($3, $4) ORDER BY name, id LIMIT $1");
pub(super) const LIST_OF_FN: &str =
    select!("WHERE app_id = $2 AND name > $3 AND fn_id = $4 ORDER BY name LIMIT $1");
const LIST_OF_FN_NAMED: &str =
    select!("WHERE app_id = $2 AND name > $3 AND fn_id = $4 AND name = $5 ORDER BY name LIMIT $1");

const INSERT: &str = "INSERT INTO triggers \
    (id, name, app_id, fn_id, type, source, annotations, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const UPDATE: &str = "UPDATE triggers \
    SET name = $2, fn_id = $3, source = $4, annotations = $5, updated_at = $6 WHERE id = $1";
const DELETE: &str = "DELETE FROM triggers WHERE id = $1 RETURNING app_id";

/// Greater than every id, in the byte order of both databases.
const AFTER_ALL_IDS: &str = "~";

pub(super) async fn by_id(
    session: &mut impl Session,
    id: &TriggerId,
) -> Result<Option<Trigger>, sqlx::Error> {
    let row = session.row(BY_ID.plain, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|Stored(trigger)| trigger))
}

pub(super) async fn locked(
    session: &mut impl Session,
    id: &TriggerId,
) -> Result<Option<Trigger>, sqlx::Error> {
    let row = session.locked_row(BY_ID, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|Stored(trigger)| trigger))
}

pub(super) async fn by_source(
    session: &mut impl Session,
    app: &AppId,
    kind: TriggerKind,
    source: &str,
) -> Result<Option<Trigger>, sqlx::Error> {
    let args = [
        Arg::Text(app.as_str()),
        Arg::Text(kind.as_str()),
        Arg::Text(source),
    ];
    let row = session.row(BY_SOURCE, &args).await?;
    Ok(row.map(|Stored(trigger)| trigger))
}

/// At most `limit` triggers of an app by name and id, behind the name `after`, or behind the
/// trigger `id` of that name.
pub(super) async fn list(
    session: &mut impl Session,
    filter: &TriggerFilter,
    after: &str,
    id: Option<&str>,
    limit: i64,
) -> Result<Vec<Trigger>, sqlx::Error> {
    let limit = Arg::Int(limit);
    let app = Arg::Text(filter.app_id.as_str());
    let after = Arg::Text(after);
    let id = Arg::Text(id.unwrap_or(AFTER_ALL_IDS));
    let rows = match (&filter.fn_id, &filter.name) {
        (None, None) => session.rows(LIST, &[limit, app, after, id]).await?,
        (None, Some(name)) => {
            let args = [limit, app, after, id, Arg::Text(name)];
            session.rows(LIST_NAMED, &args).await?
        }
        (Some(func), None) => {
            let args = [limit, app, after, Arg::Text(func.as_str())];
            session.rows(LIST_OF_FN, &args).await?
        }
        (Some(func), Some(name)) => {
            let args = [limit, app, after, Arg::Text(func.as_str()), Arg::Text(name)];
            session.rows(LIST_OF_FN_NAMED, &args).await?
        }
    };
    Ok(rows.into_iter().map(|Stored(trigger)| trigger).collect())
}

pub(super) async fn insert(
    session: &mut impl Session,
    trigger: &Trigger,
) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(trigger.id.as_str()),
        Arg::Text(&trigger.name),
        Arg::Text(trigger.app_id.as_str()),
        Arg::Text(trigger.fn_id.as_str()),
        Arg::Text(trigger.kind.as_str()),
        Arg::Text(&trigger.source),
        Arg::Text(&to_json(&trigger.annotations)),
        Arg::Int(trigger.created_at.unix_millis()),
        Arg::Int(trigger.updated_at.unix_millis()),
    ];
    session.execute(INSERT, &args).await
}

pub(super) async fn update(
    session: &mut impl Session,
    trigger: &Trigger,
) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(trigger.id.as_str()),
        Arg::Text(&trigger.name),
        Arg::Text(trigger.fn_id.as_str()),
        Arg::Text(&trigger.source),
        Arg::Text(&to_json(&trigger.annotations)),
        Arg::Int(trigger.updated_at.unix_millis()),
    ];
    session.execute(UPDATE, &args).await
}

/// Deletes the trigger; answers the app it belonged to.
pub(super) async fn delete(
    session: &mut impl Session,
    id: &TriggerId,
) -> Result<Option<AppId>, sqlx::Error> {
    let row: Option<(String,)> = session.row(DELETE, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|(app,)| AppId::from(app)))
}
