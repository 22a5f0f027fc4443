//! spec/01 1.5, and the trigger tables of spec/11 11.1.

use http::Method;
use serde_json::{Value, json};

use crate::server::{Api, names, with};

#[tokio::test]
async fn create_refuses() {
    let api = Api::start().await;
    let (app, other) = (api.app("a").await, api.app("other").await);
    let (func, foreign) = (api.func(&app, "f").await, api.func(&other, "f").await);
    let second = api.func(&app, "g").await;
    api.trigger(&app, &func, "taken", "/taken").await;
    let good = json!({"app_id": app, "fn_id": func, "name": "t", "type": "http", "source": "/s"});
    let time = "2019-03-01T10:00:00.000Z";
    let cases = [
        (
            json!({"id": "x"}),
            400,
            "ID cannot be provided for Trigger creation",
        ),
        (
            json!({"created_at": time}),
            400,
            "Trigger Created At Provided for Create",
        ),
        (
            json!({"updated_at": time}),
            400,
            "Trigger ID Provided for Create",
        ),
        (json!({"app_id": ""}), 400, "Missing App ID on Trigger"),
        (json!({"name": ""}), 400, "Missing name on Trigger"),
        (
            json!({"name": "t".repeat(256)}),
            400,
            "Trigger name must be 255 characters or less",
        ),
        (json!({"name": "&&%"}), 400, "Invalid name for Trigger"),
        (json!({"fn_id": ""}), 400, "Missing Fn ID on Trigger"),
        (
            json!({"fn_id": foreign}),
            400,
            "Invalid Fn ID - not owned by specified app",
        ),
        (json!({"type": "queue"}), 400, "Trigger Type Not Supported"),
        (json!({"type": ""}), 400, "Trigger Type Not Supported"),
        (json!({"source": ""}), 400, "Missing Trigger Source"),
        (
            json!({"source": "s"}),
            400,
            "Missing Trigger Source Prefix '/'",
        ),
        (json!({"app_id": "unknown"}), 404, "App not found"),
        (json!({"fn_id": "unknown"}), 404, "Fn not found"),
        (json!({"name": "taken"}), 409, "Trigger already exists"),
        (
            json!({"source": "/taken"}),
            409,
            "Trigger with the same type and source exists on this app",
        ),
        (
            json!({"fn_id": second, "source": "/taken"}),
            409,
            "Trigger with the same type and source exists on this app",
        ),
        (json!({"created_at": "yesterday"}), 400, "Invalid JSON"),
        // The order: app, name, function, type, source.
        (
            json!({"app_id": "", "name": ""}),
            400,
            "Missing App ID on Trigger",
        ),
        (
            json!({"name": "", "fn_id": ""}),
            400,
            "Missing name on Trigger",
        ),
        (
            json!({"fn_id": "", "type": "x"}),
            400,
            "Missing Fn ID on Trigger",
        ),
        (
            json!({"type": "x", "source": ""}),
            400,
            "Trigger Type Not Supported",
        ),
        (
            json!({"source": "", "annotations": {"": 1}}),
            400,
            "Missing Trigger Source",
        ),
    ];
    for (change, status, message) in cases {
        api.post("/v2/triggers", &with(&good, &change))
            .await
            .refused(status, message);
    }
    api.send(Method::POST, "/v2/triggers", &[], "")
        .await
        .refused(400, "Invalid JSON");
    let list = api.get(&format!("/v2/triggers?app_id={app}")).await.json();
    assert_eq!(names(&list), ["taken"], "nothing was created");
}

#[tokio::test]
async fn create_answers_200_with_the_trigger() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let (func, second) = (api.func(&app, "f").await, api.func(&app, "g").await);
    let draft = json!({
        "app_id": app, "fn_id": func, "name": "t", "type": "http", "source": "/s", "annotations": {"k": "v"},
        "created_at": "0001-01-01T00:00:00.000Z",
    });
    let trigger = api.post("/v2/triggers", &draft).await.json();
    for field in ["app_id", "fn_id", "name", "type", "source"] {
        assert_eq!(trigger[field], draft[field], "{field}");
    }
    assert_eq!(trigger["annotations"]["k"], "v");
    assert_eq!(trigger["created_at"], trigger["updated_at"]);
    // A name is unique within its function only.
    api.trigger(&app, &second, "t", "/other").await;
}

#[tokio::test]
async fn get_and_delete() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f").await;
    let id = api.trigger(&app, &func, "t", "/s").await;
    api.get("/v2/triggers/unknown")
        .await
        .refused(404, "Trigger not found");
    api.delete("/v2/triggers/unknown")
        .await
        .refused(404, "Trigger not found");
    assert_eq!(
        api.get(&format!("/v2/triggers/{id}")).await.json()["source"],
        "/s"
    );
    api.delete(&format!("/v2/triggers/{id}")).await.deleted();
    api.get(&format!("/v2/triggers/{id}"))
        .await
        .refused(404, "Trigger not found");
}

#[tokio::test]
async fn list_needs_an_app_and_filters() {
    let api = Api::start().await;
    let (app, other) = (api.app("a").await, api.app("other").await);
    let (f, g, h) = (
        api.func(&app, "f").await,
        api.func(&app, "g").await,
        api.func(&other, "h").await,
    );
    api.trigger(&app, &f, "t2", "/2").await;
    api.trigger(&app, &f, "t1", "/1").await;
    api.trigger(&app, &g, "t3", "/3").await;
    api.trigger(&other, &h, "t4", "/4").await;
    // One JSON document, not two.
    api.get("/v2/triggers")
        .await
        .refused(400, "Missing App ID on Trigger");
    let list =
        async |query: String| -> Value { api.get(&format!("/v2/triggers?{query}")).await.json() };
    assert_eq!(
        names(&list(format!("app_id={app}")).await),
        ["t1", "t2", "t3"]
    );
    assert_eq!(names(&list(format!("app_id={other}")).await), ["t4"]);
    assert_eq!(
        names(&list(format!("app_id={app}&fn_id={g}")).await),
        ["t3"]
    );
    assert_eq!(names(&list(format!("app_id={app}&name=t2")).await), ["t2"]);
    assert_eq!(
        names(&list(format!("app_id={other}&fn_id={f}")).await),
        [""; 0]
    );
    assert_eq!(names(&list("app_id=unknown".to_owned()).await), [""; 0]);
    assert_eq!(
        names(&list(format!("app_id={app}&fn_id=%00")).await),
        [""; 0]
    );
}

#[tokio::test]
async fn update_refuses() {
    let api = Api::start().await;
    let (app, other) = (api.app("a").await, api.app("other").await);
    let (func, foreign) = (api.func(&app, "f").await, api.func(&other, "f").await);
    let id = api.trigger(&app, &func, "t", "/s").await;
    api.trigger(&app, &func, "taken", "/taken").await;
    let path = format!("/v2/triggers/{id}");
    let mismatch = "ID in path does not match ID in body";
    api.put("/v2/triggers/unknown", &json!({"name": "u"}))
        .await
        .refused(404, "Trigger not found");
    api.send(Method::PUT, &path, &[], "")
        .await
        .refused(400, "Invalid JSON");
    // One JSON document, not two.
    api.put(&path, &json!({"id": "other"}))
        .await
        .refused(400, mismatch);
    api.put("/v2/triggers/unknown", &json!({"id": "other"}))
        .await
        .refused(400, mismatch);
    let cases = [
        (
            json!({"source": "s"}),
            400,
            "Missing Trigger Source Prefix '/'",
        ),
        (json!({"name": "a b"}), 400, "Invalid name for Trigger"),
        (
            json!({"name": "t".repeat(256)}),
            400,
            "Trigger name must be 255 characters or less",
        ),
        (json!({"fn_id": "unknown"}), 404, "Fn not found"),
        // The original does not look.
        (
            json!({"fn_id": foreign}),
            400,
            "Invalid Fn ID - not owned by specified app",
        ),
        (json!({"name": "taken"}), 409, "Trigger already exists"),
        (
            json!({"source": "/taken"}),
            409,
            "Trigger with the same type and source exists on this app",
        ),
    ];
    for (patch, status, message) in cases {
        api.put(&path, &patch).await.refused(status, message);
    }
    let trigger = api.get(&path).await.json();
    assert_eq!(
        trigger["updated_at"], trigger["created_at"],
        "nothing was changed"
    );
}

#[tokio::test]
async fn update_merges() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let (func, second) = (api.func(&app, "f").await, api.func(&app, "g").await);
    let id = api.trigger(&app, &func, "t", "/s").await;
    let path = format!("/v2/triggers/{id}");
    let before = api.get(&path).await.json();
    assert_eq!(
        api.put(&path, &json!({"name": "", "source": ""}))
            .await
            .json(),
        before
    );
    assert_eq!(
        api.put(&path, &before).await.json(),
        before,
        "what was read can be sent back"
    );
    for (field, value) in [
        ("name", "renamed"),
        ("source", "/other"),
        ("fn_id", second.as_str()),
    ] {
        let after = api.put(&path, &json!({field: value})).await.json();
        assert_eq!(after[field], value);
        assert_eq!(api.get(&path).await.json(), after);
    }
    let after = api
        .put(&path, &json!({"app_id": "other", "type": "queue"}))
        .await
        .json();
    assert_eq!(
        (&after["app_id"], &after["type"]),
        (&before["app_id"], &before["type"]),
        "fixed fields are ignored"
    );
}

#[tokio::test]
async fn by_source_with_one_slash_and_with_two() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f").await;
    let prefix = format!("/v2/runner/apps/{app}/triggerBySource/http");
    for (name, source) in [
        ("plain", "/s"),
        ("deep", "/s/t u/ü"),
        ("root", "/"),
        ("double", "//d"),
        ("end", "/e/"),
    ] {
        api.trigger(&app, &func, name, source).await;
    }
    let cases = [
        ("//s", "plain"),
        ("/s", "plain"),
        ("//s/t%20u/%C3%BC", "deep"),
        ("/s/t%20u/%C3%BC", "deep"),
        ("//", "root"),
        ("/", "root"),
        ("///d", "double"),
        ("//e/", "end"),
        ("/e/", "end"),
    ];
    for (path, name) in cases {
        let trigger = api.get(&format!("{prefix}{path}")).await.json();
        assert_eq!(trigger["name"], name, "{path}");
        assert_eq!(
            trigger.get("annotations"),
            None,
            "{path}: without the endpoint"
        );
    }
    let unknown = [
        format!("{prefix}//unknown"),
        format!("{prefix}//s/"),
        format!("/v2/runner/apps/{app}/triggerBySource/queue//s"),
        "/v2/runner/apps/unknown/triggerBySource/http//s".to_owned(),
    ];
    for path in unknown {
        api.get(&path).await.refused(404, "Trigger not found");
    }
}
