//! The statements on the table of apps.

use domain::{App, AppId};

use super::rows::{Stored, to_json};
use super::session::{Arg, Locking, Session};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, config, annotations, syslog_url, shape, created_at, updated_at FROM apps ",
            $rest
        )
    };
}

const BY_ID: Locking = Locking {
    plain: select!("WHERE id = $1"),
    for_update: select!("WHERE id = $1 FOR UPDATE"),
};
const BY_NAME: &str = select!("WHERE name = $1");
pub(super) const LIST: &str = select!("WHERE name > $1 ORDER BY name LIMIT $2");
const LIST_NAMED: &str = select!("WHERE name = $3 AND name > $1 ORDER BY name LIMIT $2");
const INSERT: &str = "INSERT INTO apps \
    (id, name, config, annotations, syslog_url, shape, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const UPDATE: &str = "UPDATE apps \
    SET config = $2, annotations = $3, syslog_url = $4, updated_at = $5 WHERE id = $1";
const DELETE: &str = "DELETE FROM apps WHERE id = $1";

pub(super) async fn by_id(
    session: &mut impl Session,
    id: &AppId,
) -> Result<Option<App>, sqlx::Error> {
    let row = session.row(BY_ID.plain, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|Stored(app)| app))
}

pub(super) async fn locked(
    session: &mut impl Session,
    id: &AppId,
) -> Result<Option<App>, sqlx::Error> {
    let row = session.locked_row(BY_ID, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|Stored(app)| app))
}

pub(super) async fn by_name(
    session: &mut impl Session,
    name: &str,
) -> Result<Option<App>, sqlx::Error> {
    let row = session.row(BY_NAME, &[Arg::Text(name)]).await?;
    Ok(row.map(|Stored(app)| app))
}

/// At most `limit` apps by name, all of them greater than `after`.
pub(super) async fn list(
    session: &mut impl Session,
    name: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<App>, sqlx::Error> {
    let (after, limit) = (Arg::Text(after), Arg::Int(limit));
    let rows = match name {
        None => session.rows(LIST, &[after, limit]).await?,
        Some(name) => {
            session
                .rows(LIST_NAMED, &[after, limit, Arg::Text(name)])
                .await?
        }
    };
    Ok(rows.into_iter().map(|Stored(app)| app).collect())
}

pub(super) async fn insert(session: &mut impl Session, app: &App) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(app.id.as_str()),
        Arg::Text(&app.name),
        Arg::Text(&to_json(&app.config)),
        Arg::Text(&to_json(&app.annotations)),
        Arg::Nullable(app.syslog_url.as_deref()),
        Arg::Nullable(app.shape.map(|shape| shape.as_str())),
        Arg::Int(app.created_at.unix_millis()),
        Arg::Int(app.updated_at.unix_millis()),
    ];
    session.execute(INSERT, &args).await
}

pub(super) async fn update(session: &mut impl Session, app: &App) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(app.id.as_str()),
        Arg::Text(&to_json(&app.config)),
        Arg::Text(&to_json(&app.annotations)),
        Arg::Nullable(app.syslog_url.as_deref()),
        Arg::Int(app.updated_at.unix_millis()),
    ];
    session.execute(UPDATE, &args).await
}

/// Deletes the app; its functions and triggers go with it.
pub(super) async fn delete(session: &mut impl Session, id: &AppId) -> Result<(), sqlx::Error> {
    session.execute(DELETE, &[Arg::Text(id.as_str())]).await
}
