//! One suite for every store (spec/11 11.4), run on SQLite and on a real PostgreSQL; and what each
//! of them has to stand by itself.

mod apps;
mod calls;
mod changes;
mod fns;
mod model;
mod outage;
mod plans;
#[path = "../../../tests/support/postgres.rs"]
pub(crate) mod postgres;
mod races;
mod registry;
mod startup;
mod triggers;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::{
    ApiError, App, AppDraft, AppId, ErrorCode, FnId, Func, FuncDraft, IdSource, PageRequest,
    Timestamp, Trigger, TriggerDraft,
};
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use self::postgres::Cluster;
use super::{FuncFilter, OpenError, OpenOptions, Store, TriggerFilter, open};

/// Makes of each case a test on every store.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case($crate::store::tests::Fixture::sqlite().await).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case($crate::store::tests::Fixture::postgres().await).await;
                }
            )+
        }
    };
}
pub(crate) use contract;

/// A clock that moves only when it is told to.
#[derive(Clone, Default)]
struct HeldClock(Arc<AtomicI64>);

impl HeldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }

    fn advance(&self) -> Timestamp {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.now()
    }
}

/// A new database with a store on it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    url: String,
    clock: HeldClock,
    _directory: Option<TempDir>,
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite3://{}/data/fn.db", directory.path().display());
        Self::on(url, Some(directory)).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::on(new_postgres_database().await, None).await
    }

    pub(crate) async fn on(url: String, directory: Option<TempDir>) -> Self {
        let clock = HeldClock::default();
        clock.advance();
        let store = open(&url, options(&clock)).await.expect("the store opens");
        Self {
            store,
            url,
            clock,
            _directory: directory,
        }
    }

    /// A second store on the same database, as another server has it.
    pub(crate) async fn open_again(&self) -> Result<Arc<dyn Store>, OpenError> {
        open(&self.url, options(&self.clock)).await
    }

    /// Runs statements behind the store's back.
    async fn sql(&self, sql: &str) {
        run_sql(&self.url, sql).await;
    }

    pub(crate) async fn app(&self, name: &str) -> App {
        let draft = AppDraft {
            name: name.to_owned(),
            ..AppDraft::default()
        };
        self.store.create_app(draft).await.expect("a new app")
    }

    pub(crate) async fn func(&self, app: &App, name: &str) -> Func {
        let draft = fn_draft(&app.id, name);
        self.store.create_fn(draft).await.expect("a new function")
    }

    async fn trigger(&self, func: &Func, name: &str, source: &str) -> Trigger {
        let draft = trigger_draft(&func.app_id, &func.id, name, source);
        self.store
            .create_trigger(draft)
            .await
            .expect("a new trigger")
    }
}

pub(crate) async fn new_postgres_database() -> String {
    tokio::task::spawn_blocking(|| Cluster::shared().create_database())
        .await
        .expect("a new database")
}

pub(crate) async fn run_sql(url: &str, sql: &str) {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    match url.strip_prefix("sqlite3://") {
        Some(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            let mut connection = sqlx::SqliteConnection::connect_with(&options)
                .await
                .expect("the file opens");
            sql.execute(&mut connection).await.map(drop)
        }
        None => {
            let mut connection = sqlx::PgConnection::connect(url)
                .await
                .expect("the server answers");
            sql.execute(&mut connection).await.map(drop)
        }
    }
    .expect("the statements run");
}

fn options(clock: &HeldClock) -> OpenOptions {
    let clock = clock.clone();
    // Every store stands for a process of its own.
    static PROCESS: AtomicI64 = AtomicI64::new(1);
    let process = PROCESS.fetch_add(1, Ordering::Relaxed);
    OpenOptions {
        ping_max_retries: 1,
        ids: Arc::new(IdSource::new(process.unsigned_abs())),
        clock: Arc::new(move || clock.now()),
        cancel: CancellationToken::new(),
    }
}

fn fn_draft(app: &AppId, name: &str) -> FuncDraft {
    FuncDraft {
        name: name.to_owned(),
        app_id: app.to_string(),
        image: "image:1".to_owned(),
        ..FuncDraft::default()
    }
}

fn trigger_draft(app: &AppId, func: &FnId, name: &str, source: &str) -> TriggerDraft {
    TriggerDraft {
        name: name.to_owned(),
        app_id: app.to_string(),
        fn_id: func.to_string(),
        kind: "http".to_owned(),
        source: source.to_owned(),
        ..TriggerDraft::default()
    }
}

fn fns_of(app: &App) -> FuncFilter {
    FuncFilter {
        app_id: app.id.clone(),
        name: None,
    }
}

fn triggers_of(app: &App) -> TriggerFilter {
    TriggerFilter {
        app_id: app.id.clone(),
        fn_id: None,
        name: None,
    }
}

pub(crate) fn page(cursor: Option<&str>, per_page: usize) -> PageRequest {
    PageRequest::from_query(cursor, Some(&per_page.to_string())).expect("a cursor of ours")
}

/// Follows the cursors to the end of a list; every page but the last is full.
macro_rules! all_pages {
    ($size:expr, |$page:ident| $list:expr) => {{
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let $page = $crate::store::tests::page(cursor.as_deref(), $size);
            let got = $list.await.expect("a page");
            assert_eq!(got.next_cursor.is_some(), got.items.len() == $size);
            all.extend(got.items);
            cursor = got.next_cursor;
            if cursor.is_none() {
                break all;
            }
        }
    }};
}
use all_pages;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, code: ErrorCode) {
    let error = result.expect_err("must be refused");
    assert_eq!(error.code(), code, "{error:?}");
}
