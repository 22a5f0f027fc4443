//! Who caches is told of every committed change, and of nothing else.

use domain::Change;
use serde_json::json;

use crate::server::Api;

#[tokio::test]
async fn every_change_is_told() {
    let api = Api::start().await;
    let app = api.app("a").await;
    assert_eq!(api.changes(), [Change::App(app.as_str().into())]);
    let func = api.func(&app, "f").await;
    assert_eq!(api.changes(), [Change::Fn(func.as_str().into())]);
    let trigger = api.trigger(&app, &func, "t", "/s").await;
    assert_eq!(api.changes(), [Change::Triggers(app.as_str().into())]);

    api.put(&format!("/v2/apps/{app}"), &json!({"config": {"a": "b"}}))
        .await
        .json();
    assert_eq!(api.changes(), [Change::App(app.as_str().into())]);
    api.put(&format!("/v2/fns/{func}"), &json!({"memory": 64}))
        .await
        .json();
    assert_eq!(api.changes(), [Change::Fn(func.as_str().into())]);
    api.put(&format!("/v2/triggers/{trigger}"), &json!({"source": "/u"}))
        .await
        .json();
    assert_eq!(api.changes(), [Change::Triggers(app.as_str().into())]);

    api.delete(&format!("/v2/triggers/{trigger}"))
        .await
        .deleted();
    assert_eq!(api.changes(), [Change::Triggers(app.as_str().into())]);
    api.delete(&format!("/v2/fns/{func}")).await.deleted();
    assert_eq!(
        api.changes(),
        [
            Change::Fn(func.as_str().into()),
            Change::Triggers(app.as_str().into())
        ]
    );

    let func = api.func(&app, "g").await;
    api.changes();
    api.delete(&format!("/v2/apps/{app}")).await.deleted();
    let app = app.as_str();
    assert_eq!(
        api.changes(),
        [
            Change::Fn(func.as_str().into()),
            Change::Triggers(app.into()),
            Change::App(app.into())
        ]
    );
}

#[tokio::test]
async fn a_refusal_and_a_read_are_not() {
    let api = Api::start().await;
    let app = api.app("a").await;
    api.changes();
    api.post("/v2/apps", &json!({"name": "a"}))
        .await
        .refused(409, "App already exists");
    api.delete("/v2/apps/unknown")
        .await
        .refused(404, "App not found");
    api.put(&format!("/v2/apps/{app}"), &json!({"name": "b"}))
        .await
        .refused(409, "Could not update - name is immutable");
    api.get("/v2/apps").await.json();
    assert_eq!(api.changes(), []);
}
