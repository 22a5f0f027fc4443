//! A database that goes away: every operation says so soon, and works again when it is back.

use std::sync::Arc;
use std::time::Duration;

use domain::{
    ApiError, App, AppDraft, AppPatch, ErrorCode, Func, FuncPatch, Trigger, TriggerKind,
    TriggerPatch,
};
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
