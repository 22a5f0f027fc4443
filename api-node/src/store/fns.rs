//! The statements on the table of functions.

use domain::{AppId, FnId, Func};

use super::FuncFilter;
use super::rows::{Stored, to_json};
use super::session::{Arg, Locking, Session};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, app_id, image, memory, timeout, idle_timeout, config, annotations, ",
            "shape, created_at, updated_at FROM fns ",
            $rest
        )
    };
}

const BY_ID: Locking = Locking {
    plain: select!("WHERE id = $1"),
    for_update: select!("WHERE id = $1 FOR UPDATE"),
};
pub(super) const LIST: &str = select!("WHERE app_id = $3 AND name > $1 ORDER BY name LIMIT $2");
const LIST_NAMED: &str =
    select!("WHERE app_id = $3 AND name = $4 AND name > $1 ORDER BY name LIMIT $2");
const IDS_OF_APP: &str = "SELECT id FROM fns WHERE app_id = $1";
const INSERT: &str = "INSERT INTO fns \
    (id, name, app_id, image, memory, timeout, idle_timeout, config, annotations, shape, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const UPDATE: &str = "UPDATE fns \
    SET image = $2, memory = $3, timeout = $4, idle_timeout = $5, config = $6, annotations = $7, updated_at = $8 \
    WHERE id = $1";
const DELETE: &str = "DELETE FROM fns WHERE id = $1 RETURNING app_id";

pub(super) async fn by_id(
    session: &mut impl Session,
    id: &FnId,
) -> Result<Option<Func>, sqlx::Error> {
    let row = session.row(BY_ID.plain, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|Stored(func)| func))
}

pub(super) async fn locked(
    session: &mut impl Session,
    id: &FnId,
) -> Result<Option<Func>, sqlx::Error> {
    let row = session.locked_row(BY_ID, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|Stored(func)| func))
}

/// At most `limit` functions of an app by name, all of them greater than `after`.
pub(super) async fn list(
    session: &mut impl Session,
    filter: &FuncFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<Func>, sqlx::Error> {
    let (after, limit) = (Arg::Text(after), Arg::Int(limit));
    let app = Arg::Text(filter.app_id.as_str());
    let rows = match &filter.name {
        None => session.rows(LIST, &[after, limit, app]).await?,
        Some(name) => {
            let args = [after, limit, app, Arg::Text(name)];
            session.rows(LIST_NAMED, &args).await?
        }
    };
    Ok(rows.into_iter().map(|Stored(func)| func).collect())
}

pub(super) async fn ids_of_app(
    session: &mut impl Session,
    app: &AppId,
) -> Result<Vec<FnId>, sqlx::Error> {
    let rows: Vec<(String,)> = session.rows(IDS_OF_APP, &[Arg::Text(app.as_str())]).await?;
    Ok(rows.into_iter().map(|(id,)| FnId::from(id)).collect())
}

pub(super) async fn insert(session: &mut impl Session, func: &Func) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(func.id.as_str()),
        Arg::Text(&func.name),
        Arg::Text(func.app_id.as_str()),
        Arg::Text(&func.image),
        Arg::Int(megabytes(func)),
        Arg::Int(func.timeout),
        Arg::Int(func.idle_timeout),
        Arg::Text(&to_json(&func.config)),
        Arg::Text(&to_json(&func.annotations)),
        Arg::Nullable(func.shape.map(|shape| shape.as_str())),
        Arg::Int(func.created_at.unix_millis()),
        Arg::Int(func.updated_at.unix_millis()),
    ];
    session.execute(INSERT, &args).await
}

pub(super) async fn update(session: &mut impl Session, func: &Func) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(func.id.as_str()),
        Arg::Text(&func.image),
        Arg::Int(megabytes(func)),
        Arg::Int(func.timeout),
        Arg::Int(func.idle_timeout),
        Arg::Text(&to_json(&func.config)),
        Arg::Text(&to_json(&func.annotations)),
        Arg::Int(func.updated_at.unix_millis()),
    ];
    session.execute(UPDATE, &args).await
}

/// Deletes the function, its triggers with it; answers the app it belonged to.
pub(super) async fn delete(
    session: &mut impl Session,
    id: &FnId,
) -> Result<Option<AppId>, sqlx::Error> {
    let row: Option<(String,)> = session.row(DELETE, &[Arg::Text(id.as_str())]).await?;
    Ok(row.map(|(app,)| AppId::from(app)))
}

fn megabytes(func: &Func) -> i64 {
    i64::try_from(func.memory).expect("the domain allows 8192 MiB at most")
}
