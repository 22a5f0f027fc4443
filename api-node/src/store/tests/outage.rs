//! A database that goes away: every operation says so soon, and works again when it is back.

use std::sync::Arc;
use std::time::Duration;

use domain::{
    ApiError, App, AppDraft, AppPatch, ErrorCode, Func, FuncPatch, Trigger, TriggerKind,
    TriggerPatch,
};
use sqlx::{Connection, PgConnection, Row};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::postgres::Cluster;
use super::{Fixture, fn_draft, fns_of, page, refused, trigger_draft, triggers_of};

/// The promise of the store.
const UNAVAILABLE_WITHIN: Duration = Duration::from_secs(2);

async fn unavailable<T: std::fmt::Debug>(operation: impl Future<Output = Result<T, ApiError>>) {
    let result = timeout(UNAVAILABLE_WITHIN, operation).await;
    refused(
        result.expect("answers in time"),
        ErrorCode::StoreUnavailable,
    );
}

/// Every operation of the store.
async fn everything_is_unavailable(f: &Fixture, app: &App, func: &Func, trigger: &Trigger) {
    let store = &f.store;
    let page = page(None, 10);
    let draft = AppDraft {
        name: "new".to_owned(),
        ..AppDraft::default()
    };
    let (apps, fns, triggers) = (
        AppPatch::default(),
        FuncPatch::default(),
        TriggerPatch::default(),
    );
    let (of_app, in_app) = (fns_of(app), triggers_of(app));
    tokio::join!(
        unavailable(store.ping()),
        unavailable(store.create_app(draft)),
        unavailable(store.app(&app.id)),
        unavailable(store.app_by_name("a")),
        unavailable(store.apps(None, &page)),
        unavailable(store.update_app(&app.id, &apps)),
        unavailable(store.delete_app(&app.id)),
        unavailable(store.create_fn(fn_draft(&app.id, "new"))),
        unavailable(store.func(&func.id)),
        unavailable(store.fns(&of_app, &page)),
        unavailable(store.update_fn(&func.id, &fns)),
        unavailable(store.delete_fn(&func.id)),
        unavailable(store.create_trigger(trigger_draft(&app.id, &func.id, "new", "/new"))),
        unavailable(store.trigger(&trigger.id)),
        unavailable(store.triggers(&in_app, &page)),
        unavailable(store.trigger_by_source(&app.id, TriggerKind::Http, "/t")),
        unavailable(store.update_trigger(&trigger.id, &triggers)),
        unavailable(store.delete_trigger(&trigger.id)),
    );
}

async fn own_cluster() -> (Arc<Cluster>, Fixture) {
    let cluster = Arc::new(Cluster::start());
    let fixture = Fixture::on(cluster.create_database(), None).await;
    (cluster, fixture)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_reported_and_used_again() {
    let (cluster, f) = own_cluster().await;
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let trigger = f.trigger(&func, "t", "/t").await;
    cluster.stop();
    everything_is_unavailable(&f, &app, &func, &trigger).await;
    cluster.resume();
    // The first request after the server's return finds a connection.
    assert_eq!(f.store.app(&app.id).await.expect("the app"), app);
    f.func(&app, "new").await;
    assert_eq!(
        f.store.trigger(&trigger.id).await.expect("unchanged"),
        trigger
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_reported_and_used_again() {
    let (cluster, f) = own_cluster().await;
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let trigger = f.trigger(&func, "t", "/t").await;
    cluster.freeze();
    everything_is_unavailable(&f, &app, &func, &trigger).await;
    cluster.thaw();
    assert_eq!(f.store.app(&app.id).await.expect("the app"), app);
    f.func(&app, "new").await;
    assert_eq!(
        f.store.trigger(&trigger.id).await.expect("unchanged"),
        trigger
    );
}

/// Passes connections on to `server` until it is cut: then those it has stay open in silence, as
/// behind a broken link, and new ones pass.
pub(super) async fn relay(listener: TcpListener, server: String, cut: watch::Receiver<bool>) {
    let mut links = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = TcpStream::connect(&server).await.expect("the server");
        let mut cut = cut.clone();
        // Only what comes later counts.
        cut.mark_unchanged();
        links.spawn(async move {
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                _ = cut.changed() => {}
            }
            std::future::pending::<()>().await;
        });
    }
}

/// Waits until the server says so.
async fn until(connection: &mut PgConnection, sql: &'static str) {
    let holds = async {
        loop {
            let row = sqlx::query(sql).fetch_one(&mut *connection).await;
            if row.expect("the server answers").get::<bool, _>(0) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), holds).await.expect(sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_costs_the_pool_no_place() {
    let database = super::new_postgres_database().await;
    let address = database.split(['@', '/']).nth(3).expect("host and port");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let relayed = listener.local_addr().expect("its address").to_string();
    let (cut, links) = watch::channel(false);
    let relay = tokio::spawn(relay(listener, address.to_owned(), links));
    let f = Fixture::on(database.replace(address, &relayed), None).await;
    let app = f.app("a").await;

    // As many changes as the pool has places, all waiting for a row that somebody else holds.
    let mut holder = PgConnection::connect(&database)
        .await
        .expect("the server answers");
    sqlx::raw_sql("BEGIN; SELECT * FROM apps FOR UPDATE")
        .execute(&mut holder)
        .await
        .expect("the row is held");
    let mut updates = JoinSet::new();
    for _ in 0..16 {
        let (store, id) = (Arc::clone(&f.store), app.id.clone());
        updates.spawn(async move { store.update_app(&id, &AppPatch::default()).await });
    }
    let all_wait = "SELECT count(*) = 16 FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // Another connection: within a transaction that view does not change.
    let mut watcher = PgConnection::connect(&database)
        .await
        .expect("the server answers");
    until(&mut watcher, all_wait).await;
    cut.send(true).expect("links are open");
    for result in updates.join_all().await {
        refused(result, ErrorCode::StoreUnavailable);
    }
    holder.close().await.expect("the row is free");
    // All places come back, one by one, as their connections are given up.
    let recovered = async { while f.store.app(&app.id).await.is_err() {} };
    timeout(Duration::from_secs(30), recovered)
        .await
        .expect("the store works again");
    relay.abort();
}

/// As SQLite does when the disk is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_sqlite_ends_by_itself_is_followed_by_others() {
    let f = Fixture::sqlite().await;
    f.sql(
        "CREATE TRIGGER full BEFORE INSERT ON apps WHEN NEW.name = 'too-much'
         BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END",
    )
    .await;
    for _ in 0..2 {
        let draft = AppDraft {
            name: "too-much".to_owned(),
            ..AppDraft::default()
        };
        let refused = f.store.create_app(draft).await;
        let error = format!("{:?}", refused.expect_err("there is no room"));
        assert!(error.contains("disk is full"), "{error}");
    }
    f.app("small").await;
}
