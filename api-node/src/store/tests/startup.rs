//! Opening: who may start when, what is found again, and which databases are refused.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::feed::Feed;
use super::super::migrate::{self, MigrateError, Migration};
use super::super::postgres::PostgresDatabase;
use super::super::session::Database as _;
use super::super::{ConnectError, OpenError, OpenOptions, open};
use super::postgres::Cluster;
use super::{Fixture, HeldClock, contract, new_postgres_database, options, page, run_sql};

contract!(
    reopening_finds_the_data,
    an_older_schema_is_brought_up_to_date,
    a_dirty_database_is_refused,
    a_newer_database_is_refused,
    an_unversioned_schema_is_refused,
);

/// Where the child process of a test finds its database.
const CHILD_URL: &str = "HEARTH_TEST_STORE_URL";

async fn reopening_finds_the_data(f: Fixture) {
    let app = f.app("a").await;
    let trigger = f.trigger(&f.func(&app, "f").await, "t", "/t").await;
    let again = f.open_again().await.expect("the store opens again");
    assert_eq!(again.app(&app.id).await.expect("the app"), app);
    assert_eq!(
        again.trigger(&trigger.id).await.expect("the trigger"),
        trigger
    );
    again.ping().await.expect("the database answers");
}

async fn an_older_schema_is_brought_up_to_date(f: Fixture) {
    let app = f.app("a").await;
    f.sql(
        "DROP TABLE runners; DROP TABLE lb_nodes; DROP TABLE calls; DROP TABLE call_tags;
         DROP TABLE call_snapshots; DROP TABLE call_requests; DROP TABLE call_results;
         DROP TABLE call_attempts; DROP TABLE doorbells; DROP TABLE call_keys; DROP TABLE callbacks;
         DROP TABLE call_retention; DROP TABLE call_logs;
         UPDATE schema_migrations SET version = 1",
    )
    .await;
    let again = f.open_again().await.expect("the store opens again");
    assert_eq!(again.app(&app.id).await.expect("the app"), app);
    assert_eq!(again.nodes().await.expect("the new tables"), [""; 0]);
}

async fn refused_to_open(f: &Fixture) -> MigrateError {
    match f.open_again().await.err().expect("must be refused") {
        OpenError::Connect {
            source: ConnectError::Migrate(error),
            ..
        } => error,
        error => panic!("{error}"),
    }
}

async fn a_dirty_database_is_refused(f: Fixture) {
    f.sql("UPDATE schema_migrations SET dirty = TRUE").await;
    let error = refused_to_open(&f).await;
    assert_eq!(error.to_string(), "database is dirty. version: 5");
}

async fn a_newer_database_is_refused(f: Fixture) {
    // The original's last version, in its own table of the same name.
    f.sql("UPDATE schema_migrations SET version = 26").await;
    let error = refused_to_open(&f).await;
    assert_eq!(
        error.to_string(),
        "database is newer than this server. version: 26 known: 5"
    );
}

async fn an_unversioned_schema_is_refused(f: Fixture) {
    f.sql("DELETE FROM schema_migrations").await;
    let error = refused_to_open(&f).await;
    assert!(
        error
            .to_string()
            .starts_with("error running migration. version: 1 direction: up err: "),
        "{error}"
    );
}

async fn opens_at_once(url: String) {
    let clock = HeldClock::default();
    let mut starts = JoinSet::new();
    for _ in 0..8 {
        let (url, options) = (url.clone(), options(&clock));
        starts.spawn(async move { open(&url, options).await });
    }
    let stores = starts.join_all().await;
    for store in stores {
        let store = store.expect("every start succeeds");
        store.apps(None, &page(None, 1)).await.expect("a list");
    }
}

async fn opens_in_processes_at_once(url: String) {
    let test = std::env::current_exe().expect("this program");
    let start = || {
        Command::new(&test)
            .args([
                "--exact",
                "store::tests::startup::child_opens_the_store",
                "--ignored",
            ])
            .env(CHILD_URL, &url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a child process")
    };
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    for child in children {
        let output = child.wait_with_output().expect("the child ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }
}

#[tokio::test]
#[ignore = "the part of opens_in_processes_at_once that runs in a child process"]
async fn child_opens_the_store() {
    let url = std::env::var(CHILD_URL).expect("set by the parent");
    let store = open(&url, options(&HeldClock::default()))
        .await
        .expect("the store opens");
    store.ping().await.expect("the database answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_start_at_once_on_a_new_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = |name: &str| format!("sqlite3://{}/new/{name}", directory.path().display());
    opens_at_once(url("stores.db")).await;
    opens_in_processes_at_once(url("processes.db")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_start_at_once_on_a_new_postgres_database() {
    opens_at_once(new_postgres_database().await).await;
    opens_in_processes_at_once(new_postgres_database().await).await;
}

/// How the store commits in a database with this setting.
async fn commits(setting: &str) -> String {
    let url = new_postgres_database().await;
    let options: PgConnectOptions = url.parse().expect("a URL");
    let name = options.get_database().expect("a database");
    run_sql(
        &url,
        &format!("ALTER DATABASE {name} SET synchronous_commit = {setting}"),
    )
    .await;
    let feed = Feed::new(Arc::from("test"));
    let database = PostgresDatabase::connect(&options, feed).await;
    let database = database.expect("the database answers");
    let mut transaction = database.begin().await.expect("a transaction");
    let found = sqlx::query_scalar("SELECT current_setting('synchronous_commit')");
    let found = found.fetch_one(&mut *transaction).await;
    found.expect("the database answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_durable_whatever_the_database_is_set_to() {
    assert_eq!(commits("off").await, "on");
    assert_eq!(commits("on").await, "on");
    assert_eq!(commits("remote_apply").await, "remote_apply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_reader_of_a_file_in_the_old_journal_mode() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fn.db");
    let file = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut reader = sqlx::SqliteConnection::connect_with(&file)
        .await
        .expect("opens");
    sqlx::raw_sql("CREATE TABLE other (id TEXT); BEGIN; SELECT * FROM other")
        .execute(&mut reader)
        .await
        .expect("reads");
    let url = format!("sqlite3://{}", path.display());
    let mut opening = tokio::spawn(async move { open(&url, options(&HeldClock::default())).await });
    // The journal mode cannot change yet.
    let early = timeout(Duration::from_millis(200), &mut opening).await;
    assert!(early.is_err(), "must wait");
    sqlx::raw_sql("COMMIT")
        .execute(&mut reader)
        .await
        .expect("ends");
    let store = timeout(Duration::from_secs(30), opening)
        .await
        .expect("ends")
        .expect("no panic");
    store.expect("the store opens").ping().await.expect("works");
}

#[tokio::test]
async fn directories_of_a_file_are_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite3://{}/a/b/fn.db", directory.path().display());
    open(&url, options(&HeldClock::default()))
        .await
        .expect("the store opens");
    for made in ["a", "a/b"] {
        let mode = directory
            .path()
            .join(made)
            .metadata()
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777 & !0o750, 0, "{made}: {mode:o}");
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let url = format!("sqlite3://{}/fn.db", file.path().display());
    let error = open(&url, options(&HeldClock::default()))
        .await
        .err()
        .expect("no directory");
    assert!(
        error.to_string().contains("cannot create the directory"),
        "{error}"
    );
}

/// The URL of a server that is not there, with a password.
fn nobody_listens() -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = free.local_addr().expect("its address").port();
    format!("postgres://user:hunter2@127.0.0.1:{port}/db")
}

#[tokio::test]
async fn pings_end_with_an_error_without_the_password() {
    let url = nobody_listens();
    let options = OpenOptions {
        ping_max_retries: 2,
        ..options(&HeldClock::default())
    };
    let error = open(&url, options).await.err().expect("nobody answers");
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("127.0.0.1") && !text.contains("hunter2"),
        "{text}"
    );
    assert!(text.contains("Connection refused"), "{text}");
}

#[tokio::test]
async fn waiting_can_be_cancelled() {
    let url = nobody_listens();
    let options = OpenOptions {
        ping_max_retries: u32::MAX,
        ..options(&HeldClock::default())
    };
    let cancel = options.cancel.clone();
    let opening = tokio::spawn(async move { open(&url, options).await.err() });
    cancel.cancel();
    let error = timeout(Duration::from_secs(5), opening)
        .await
        .expect("ends")
        .expect("no panic");
    assert!(matches!(error, Some(OpenError::Cancelled)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_the_server() {
    let cluster = Arc::new(Cluster::start());
    let url = cluster.create_database();
    cluster.stop();
    let options = OpenOptions {
        ping_max_retries: 60,
        ..options(&HeldClock::default())
    };
    let opening = tokio::spawn(async move { open(&url, options).await });
    cluster.resume();
    let store = timeout(Duration::from_secs(60), opening)
        .await
        .expect("ends")
        .expect("no panic");
    store
        .expect("the store opens")
        .ping()
        .await
        .expect("the database answers");
}

const FIRST: Migration = Migration {
    version: 1,
    sql: "CREATE TABLE one (id TEXT); INSERT INTO one VALUES ('kept')",
};
const SECOND: Migration = Migration {
    version: 2,
    sql: "CREATE TABLE two (id TEXT)",
};
const BROKEN: Migration = Migration {
    version: 3,
    sql: "CREATE TABLE three (id TEXT); SELECT nothing FROM nowhere",
};

/// Runs a list of migrations in a transaction, as the stores do.
macro_rules! migrate {
    ($connection:expr, $migrations:expr) => {{
        let mut transaction = $connection.begin().await.expect("a transaction");
        let result = migrate::run(&mut *transaction, $migrations).await;
        if result.is_ok() {
            transaction.commit().await.expect("committed");
        } else {
            transaction.rollback().await.expect("rolled back");
        }
        result
    }};
}

macro_rules! an_old_database_is_brought_up_to_date {
    ($connection:expr) => {{
        let mut connection = $connection;
        migrate!(connection, &[FIRST]).expect("a new database");
        migrate!(connection, &[FIRST, SECOND]).expect("an old database");
        migrate!(connection, &[FIRST, SECOND]).expect("a current database");
        let error = migrate!(connection, &[FIRST, SECOND, BROKEN]).expect_err("a broken step");
        let text = error.to_string();
        assert!(
            text.starts_with("error running migration. version: 3 direction: up err: "),
            "{text}"
        );
        let count = "SELECT (SELECT count(*) FROM one) + (SELECT count(*) FROM two)";
        let kept: (i64,) = sqlx::query_as(count)
            .fetch_one(&mut connection)
            .await
            .expect("both tables");
        assert_eq!(kept, (1,));
        sqlx::query("SELECT * FROM three")
            .execute(&mut connection)
            .await
            .expect_err("was undone");
        let version: (i64,) = sqlx::query_as("SELECT version FROM schema_migrations")
            .fetch_one(&mut connection)
            .await
            .expect("one row");
        assert_eq!(version, (2,));
    }};
}

#[tokio::test]
async fn an_old_sqlite_database_is_brought_up_to_date() {
    let connection = sqlx::SqliteConnection::connect("sqlite::memory:").await;
    an_old_database_is_brought_up_to_date!(connection.expect("in memory"));
}

#[tokio::test]
async fn an_old_postgres_database_is_brought_up_to_date() {
    let connection = sqlx::PgConnection::connect(&new_postgres_database().await).await;
    an_old_database_is_brought_up_to_date!(connection.expect("the server answers"));
}
