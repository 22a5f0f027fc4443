//! Every change reaches every server on the database, once, and soon.

use std::sync::Arc;
use std::time::Duration;

use domain::{AppDraft, AppId, AppPatch, Change, FnId, FuncPatch};
use tokio::net::TcpListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::timeout;

use super::outage::relay;
use super::postgres::Cluster;
use super::{Fixture, contract, fn_draft};

contract!(
    a_change_is_told_before_it_is_answered,
    what_was_refused_or_changes_nothing_is_not_told,
    a_change_whose_client_went_away_is_told,
    another_server_hears_of_it,
);

const DEADLINE: Duration = Duration::from_secs(30);

fn told(receiver: &mut Receiver<Change>) -> Vec<Change> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

async fn next(receiver: &mut Receiver<Change>) -> Change {
    timeout(DEADLINE, receiver.recv())
        .await
        .expect("told in time")
        .expect("the store is there")
}

fn patch() -> AppPatch {
    serde_json::from_str(r#"{"config": {"k": "v"}}"#).expect("a patch")
}

async fn a_change_is_told_before_it_is_answered(f: Fixture) {
    let mut changes = f.store.changes();
    let app = f.app("a").await;
    assert_eq!(told(&mut changes), [Change::App(app.id.clone())]);
    let func = f.func(&app, "f").await;
    assert_eq!(told(&mut changes), [Change::Fn(func.id.clone())]);
    let trigger = f.trigger(&func, "t", "/t").await;
    assert_eq!(told(&mut changes), [Change::Triggers(app.id.clone())]);
    f.store
        .update_app(&app.id, &patch())
        .await
        .expect("changed");
    assert_eq!(told(&mut changes), [Change::App(app.id.clone())]);
    f.store.delete_trigger(&trigger.id).await.expect("deleted");
    assert_eq!(told(&mut changes), [Change::Triggers(app.id.clone())]);
    f.store.delete_app(&app.id).await.expect("deleted");
    assert_eq!(
        told(&mut changes),
        [
            Change::Fn(func.id),
            Change::Triggers(app.id.clone()),
            Change::App(app.id)
        ]
    );
}

async fn what_was_refused_or_changes_nothing_is_not_told(f: Fixture) {
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let mut changes = f.store.changes();
    let draft = AppDraft {
        name: "a".to_owned(),
        ..AppDraft::default()
    };
    f.store.create_app(draft).await.expect_err("taken");
    f.store
        .create_fn(fn_draft(&AppId::from("unknown"), "f"))
        .await
        .expect_err("no such app");
    f.store
        .delete_fn(&FnId::from("unknown"))
        .await
        .expect_err("no such function");
    f.store
        .update_fn(&func.id, &FuncPatch::default())
        .await
        .expect("unchanged");
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
}

async fn a_change_whose_client_went_away_is_told(f: Fixture) {
    let mut changes = f.store.changes();
    let mut count = 0;
    // Given up after more and more steps, somewhere between the first statement and the answer.
    for steps in 0..200 {
        let draft = AppDraft {
            name: format!("a{steps}"),
            ..AppDraft::default()
        };
        let mut creating = Box::pin(f.store.create_app(draft));
        for _ in 0..steps {
            let done = std::future::poll_fn(|context| {
                std::task::Poll::Ready(creating.as_mut().poll(context).is_ready())
            });
            if done.await {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(creating);
        count += 1;
    }
    // Commits end in order of nothing: ask until all that are there were told of.
    let mut known = std::collections::HashSet::new();
    let all_known = async {
        loop {
            known.extend(told(&mut changes));
            let missing = async |n: usize| match f.store.app_by_name(&format!("a{n}")).await {
                Ok(app) => !known.contains(&Change::App(app.id)),
                Err(_) => false,
            };
            let mut unknown = 0;
            for n in 0..count {
                unknown += usize::from(missing(n).await);
            }
            if unknown == 0 {
                break;
            }
        }
    };
    timeout(DEADLINE, all_known).await.expect("all are told of");
}

async fn another_server_hears_of_it(f: Fixture) {
    let other = f.open_again().await.expect("opens");
    let (mut here, mut there) = (f.store.changes(), other.changes());
    let app = f.app("a").await;
    let of_app = Change::App(app.id.clone());
    match next(&mut there).await {
        // Processes that share a file notice only that something changed.
        Change::Everything => assert!(f.url.starts_with("sqlite")),
        change => assert_eq!(change, of_app),
    }
    // What is told of can be read.
    assert_eq!(other.app(&app.id).await.expect("the app"), app);
    // And once: the notification of one's own change comes back before another server's.
    other.update_app(&app.id, &patch()).await.expect("changed");
    assert_eq!(next(&mut here).await, of_app);
    match next(&mut here).await {
        Change::Everything => assert!(f.url.starts_with("sqlite")),
        change => assert_eq!(change, of_app),
    }
    assert_eq!(here.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_reach_another_postgres_server() {
    let f = Fixture::postgres().await;
    let other = f.open_again().await.expect("opens");
    let app = f.app("a").await;
    f.sql(&format!(
        "INSERT INTO fns (id, name, app_id, image, memory, timeout, idle_timeout, config,
             annotations, created_at, updated_at)
         SELECT lpad(n::text, 26, '0'), n, '{}', 'i', 128, 30, 30, '{{}}', '{{}}', 1, 1
         FROM generate_series(1, 900) AS n",
        app.id
    ))
    .await;
    let mut changes = other.changes();
    f.store.delete_app(&app.id).await.expect("deleted");
    for n in 1..=900 {
        let id = FnId::from(format!("{n:026}"));
        assert_eq!(next(&mut changes).await, Change::Fn(id));
    }
    assert_eq!(next(&mut changes).await, Change::Triggers(app.id.clone()));
    assert_eq!(next(&mut changes).await, Change::App(app.id));
}

async fn after_a_gap(cut: impl FnOnce(&Cluster), heal: impl FnOnce(&Cluster)) {
    let cluster = Cluster::start();
    let f = Fixture::on(cluster.create_database(), None).await;
    let app = f.app("a").await;
    let other = f.open_again().await.expect("opens");
    let mut changes = other.changes();
    let mut runners = other.runner_changes();
    runners.mark_unchanged();
    cut(&cluster);
    let down = async { while other.ping().await.is_ok() {} };
    timeout(DEADLINE, down).await.expect("the server is gone");
    // Long enough that the listener has noticed, too: it asks every second.
    let pool_works = async { while f.store.ping().await.is_err() {} };
    heal(&cluster);
    timeout(DEADLINE, pool_works)
        .await
        .expect("the server is back");
    assert_eq!(next(&mut changes).await, Change::Everything);
    timeout(DEADLINE, runners.changed())
        .await
        .expect("runners may have changed, too")
        .expect("the store is there");
    f.store
        .update_app(&app.id, &patch())
        .await
        .expect("changed");
    assert_eq!(next(&mut changes).await, Change::App(app.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_postgres_everything_may_have_changed() {
    after_a_gap(Cluster::stop, Cluster::resume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_ends_is_replaced() {
    let f = Fixture::postgres().await;
    let mut changes = f.store.changes();
    f.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    assert_eq!(next(&mut changes).await, Change::Everything);
    let writer: Arc<dyn super::Store> = f.open_again().await.expect("opens");
    let draft = AppDraft {
        name: "a".to_owned(),
        ..AppDraft::default()
    };
    let app = writer.create_app(draft).await.expect("created");
    assert_eq!(next(&mut changes).await, Change::App(app.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_falls_silent_is_replaced() {
    let database = super::new_postgres_database().await;
    let address = database.split(['@', '/']).nth(3).expect("host and port");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let relayed = listener.local_addr().expect("its address").to_string();
    let (cut, links) = tokio::sync::watch::channel(false);
    let relay = tokio::spawn(relay(listener, address.to_owned(), links));
    let f = Fixture::on(database.replace(address, &relayed), None).await;
    let mut changes = f.store.changes();
    cut.send(true).expect("links are open");
    assert_eq!(next(&mut changes).await, Change::Everything);
    let other = Fixture::on(database.clone(), None).await;
    let app = other.app("a").await;
    assert_eq!(next(&mut changes).await, Change::App(app.id));
    relay.abort();
}
