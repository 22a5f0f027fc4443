//! The statements on the table of runners. All times are the database's.

use domain::{HostPort, RegisteredRunner};

use super::session::{Arg, Locking, Session};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, owner, address, version, draining, registered_at, lease_until FROM runners ",
            $rest
        )
    };
}

const BY_ID: Locking = Locking {
    plain: select!("WHERE id = $1"),
    for_update: select!("WHERE id = $1 FOR UPDATE"),
};
const LIST: &str = select!("WHERE lease_until > $1 ORDER BY id");
const UPSERT: &str = "INSERT INTO runners \
    (id, owner, address, version, draining, registered_at, lease_until) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) \
    ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, address = excluded.address, version = excluded.version, \
    draining = excluded.draining, registered_at = excluded.registered_at, \
    lease_until = excluded.lease_until";
const DELETE: &str = "DELETE FROM runners WHERE id = $1 RETURNING id";
const PRUNE: &str = "DELETE FROM runners WHERE lease_until <= $1";

/// A row.
type Row = (String, Option<String>, String, String, i64, i64, i64);

/// A runner and its lease.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) runner: RegisteredRunner,
    pub(super) owner: Option<String>,
    pub(super) registered_at: i64,
    pub(super) until: i64,
}

impl Lease {
    fn read(
        (id, owner, address, version, draining, registered_at, until): Row,
    ) -> Result<Self, sqlx::Error> {
        let address = HostPort::parse(&address).map_err(|error| sqlx::Error::ColumnDecode {
            index: "address".to_owned(),
            source: Box::new(error),
        })?;
        Ok(Self {
            runner: RegisteredRunner {
                id: id.into(),
                address,
                version: version.into(),
                draining: draining != 0,
            },
            owner,
            registered_at,
            until,
        })
    }
}

pub(super) async fn locked(
    session: &mut impl Session,
    id: &str,
) -> Result<Option<Lease>, sqlx::Error> {
    let row = session.locked_row(BY_ID, &[Arg::Text(id)]).await?;
    row.map(Lease::read).transpose()
}

/// All whose lease ended after `time`, or holds.
pub(super) async fn list(session: &mut impl Session, time: i64) -> Result<Vec<Lease>, sqlx::Error> {
    let rows = session.rows(LIST, &[Arg::Int(time)]).await?;
    rows.into_iter().map(Lease::read).collect()
}

pub(super) async fn put(session: &mut impl Session, lease: &Lease) -> Result<(), sqlx::Error> {
    let args = [
        Arg::Text(&lease.runner.id),
        Arg::Nullable(lease.owner.as_deref()),
        Arg::Text(lease.runner.address.as_str()),
        Arg::Text(&lease.runner.version),
        Arg::Int(lease.runner.draining.into()),
        Arg::Int(lease.registered_at),
        Arg::Int(lease.until),
    ];
    session.execute(UPSERT, &args).await
}

/// Whether it was there.
pub(super) async fn delete(session: &mut impl Session, id: &str) -> Result<bool, sqlx::Error> {
    let row: Option<(String,)> = session.row(DELETE, &[Arg::Text(id)]).await?;
    Ok(row.is_some())
}

/// Deletes all whose lease ended at `time` or before.
pub(super) async fn prune(session: &mut impl Session, time: i64) -> Result<(), sqlx::Error> {
    session.execute(PRUNE, &[Arg::Int(time)]).await
}
