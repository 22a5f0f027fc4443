//! What every control plane does.

use std::sync::Arc;

use api_node::LocalControlPlane;
use domain::{ApiError, AppId, Change, ErrorCode, FnId, TriggerKind};
use hybrid_client::{ControlPlane, RemoteControlPlane};
use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use super::DEADLINE;
use super::node::{Node, client_of, sqlite};

/// Makes of each case a test on every control plane.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod local {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(super::Fixture::local().await).await;
                }
            )+
        }
        mod remote {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(super::Fixture::remote().await).await;
                }
            )+
        }
    };
}

contract!(
    what_is_there_is_found,
    what_is_not_there_is_that_very_error,
    a_change_is_told_when_reads_show_it,
);

struct Fixture {
    plane: Arc<dyn ControlPlane>,
    node: Node,
    _directory: TempDir,
}

impl Fixture {
    async fn local() -> Self {
        Self::with(|node| Arc::new(LocalControlPlane::new(Arc::clone(&node.store)))).await
    }

    async fn remote() -> Self {
        Self::with(|node| Arc::new(RemoteControlPlane::new(client_of(&[node])))).await
    }

    async fn with(plane: impl FnOnce(&Node) -> Arc<dyn ControlPlane>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let node = Node::start(&sqlite(directory.path())).await;
        Self {
            plane: plane(&node),
            node,
            _directory: directory,
        }
    }
}

async fn what_is_there_is_found(f: Fixture) {
    let app = f.node.app("a").await;
    f.node.set_config(&app, "v\u{e4}lue \"quoted\"\n").await;
    let app = f.node.store.app(&app.id).await.expect("the app");
    let func = f.node.func(&app, "f").await;
    assert_eq!(*f.plane.app(&app.id).await.expect("an app"), app);
    assert_eq!(*f.plane.app_by_name("a").await.expect("an app"), app);
    assert_eq!(*f.plane.func(&func.id).await.expect("a function"), func);
    for (name, source) in [("plain", "/s"), ("deep", "/s//t u/\u{fc}?"), ("root", "/")] {
        let trigger = f.node.trigger(&func, name, source).await;
        let found = f
            .plane
            .trigger_by_source(&app.id, TriggerKind::Http, source);
        assert_eq!(*found.await.expect("a trigger"), trigger);
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, code: ErrorCode) {
    let error = result.expect_err("must be refused");
    assert_eq!(
        (error.code(), error.status(), error.message()),
        (code, code.status(), code.text())
    );
}

async fn what_is_not_there_is_that_very_error(f: Fixture) {
    let app = f.node.app("a").await;
    let (no_app, no_fn) = (AppId::from("unknown"), FnId::from("unknown"));
    refused(f.plane.app(&no_app).await, ErrorCode::AppNotFound);
    refused(f.plane.app_by_name("A").await, ErrorCode::AppNotFound);
    refused(f.plane.app_by_name("").await, ErrorCode::AppNotFound);
    refused(f.plane.app_by_name("a\0").await, ErrorCode::AppNotFound);
    refused(f.plane.func(&no_fn).await, ErrorCode::FnNotFound);
    refused(f.plane.app(&AppId::from("")).await, ErrorCode::AppMissingId);
    refused(f.plane.func(&FnId::from("")).await, ErrorCode::FnMissingId);
    for (app, source) in [(&app.id, "/s"), (&no_app, "/s"), (&app.id, "s")] {
        let found = f.plane.trigger_by_source(app, TriggerKind::Http, source);
        refused(found.await, ErrorCode::TriggerNotFound);
    }
}

async fn told(changes: &mut Receiver<Change>) -> Change {
    timeout(DEADLINE, changes.recv())
        .await
        .expect("told in time")
        .expect("not too many")
}

async fn a_change_is_told_when_reads_show_it(f: Fixture) {
    let mut changes = f.plane.changes();
    let app = f.node.app("a").await;
    // The beginning of a watch says that anything may have changed before.
    let mut change = told(&mut changes).await;
    if change == Change::Everything {
        f.node.set_config(&app, "0").await;
        change = told(&mut changes).await;
    }
    // Whatever was told before the watch stood is told once more, or is the one that was waited for.
    assert_eq!(change, Change::App(app.id.clone()));
    let func = f.node.func(&app, "f").await;
    while change != Change::Fn(func.id.clone()) {
        assert_eq!(change, Change::App(app.id.clone()));
        change = told(&mut changes).await;
    }
    for n in 0..20 {
        let image = format!("image:{n}-new");
        f.node.set_image(&func, &image).await;
        assert_eq!(told(&mut changes).await, Change::Fn(func.id.clone()));
        assert_eq!(f.plane.func(&func.id).await.expect("it").image, image);
    }
    f.node.trigger(&func, "t", "/t").await;
    assert_eq!(told(&mut changes).await, Change::Triggers(app.id.clone()));
    f.node.store.delete_app(&app.id).await.expect("deleted");
    assert_eq!(told(&mut changes).await, Change::Fn(func.id));
    assert_eq!(told(&mut changes).await, Change::Triggers(app.id.clone()));
    assert_eq!(told(&mut changes).await, Change::App(app.id));
}
