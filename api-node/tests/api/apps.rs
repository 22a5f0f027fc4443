//! spec/01 1.3, and the app tables of spec/11 11.1.

use http::Method;
use serde_json::json;

use crate::server::{Api, names};

const SCHEMES: &str = "invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported";

#[tokio::test]
async fn create_refuses() {
    let api = Api::start().await;
    api.app("taken").await;
    let long = "a".repeat(256);
    let cases = [
        ("".to_owned(), 400, "Invalid JSON".to_owned()),
        ("null".to_owned(), 400, "Invalid JSON".to_owned()),
        ("{}".to_owned(), 400, "Missing Name".to_owned()),
        (
            json!({"id": "x", "name": "a"}).to_string(),
            400,
            "App ID cannot be supplied on create".to_owned(),
        ),
        (
            json!({"id": "x"}).to_string(),
            400,
            "App ID cannot be supplied on create".to_owned(),
        ),
        (
            json!({"name": ""}).to_string(),
            400,
            "Missing Name".to_owned(),
        ),
        (
            json!({"name": long}).to_string(),
            400,
            "App name must be 255 characters or less".to_owned(),
        ),
        (
            json!({"name": "ü".repeat(128)}).to_string(),
            400,
            "App name must be 255 characters or less".to_owned(),
        ),
        (
            json!({"name": "&&%@!#$#@$"}).to_string(),
            400,
            "Invalid app name".to_owned(),
        ),
        (
            json!({"name": "taken"}).to_string(),
            409,
            "App already exists".to_owned(),
        ),
        (
            json!({"name": "a", "syslog_url": "yo"}).to_string(),
            400,
            format!("invalid syslog url: \"yo\" {SCHEMES}"),
        ),
        (
            json!({"name": "a", "syslog_url": "yo://sup.com:1"}).to_string(),
            400,
            format!("invalid syslog url: \"yo://sup.com:1\" {SCHEMES}"),
        ),
        (
            json!({"name": "a", "shape": "GENERIC_Z80"}).to_string(),
            400,
            "Invalid app shape".to_owned(),
        ),
        // The order: name, annotations, syslog URL, shape.
        (
            json!({"name": "a b", "annotations": {"": 1}, "syslog_url": "yo", "shape": "x"})
                .to_string(),
            400,
            "Invalid app name".to_owned(),
        ),
        (
            json!({"name": "a", "syslog_url": "yo", "shape": "x"}).to_string(),
            400,
            format!("invalid syslog url: \"yo\" {SCHEMES}"),
        ),
    ];
    for (body, status, message) in cases {
        api.send(Method::POST, "/v2/apps", &[], body)
            .await
            .refused(status, &message);
    }
    assert_eq!(
        names(&api.get("/v2/apps").await.json()),
        ["taken"],
        "nothing was created"
    );
}

#[tokio::test]
async fn create_answers_200_with_the_app() {
    let api = Api::start().await;
    let plain = api.post("/v2/apps", &json!({"name": "plain"})).await.json();
    let keys: Vec<_> = plain
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        ["created_at", "id", "name", "updated_at"],
        "what is empty is omitted"
    );
    assert_eq!(plain["id"].as_str().map(str::len), Some(26));
    assert_eq!(plain["created_at"], plain["updated_at"]);
    let time = plain["created_at"].as_str().expect("a time");
    assert!(
        time.len() == "2006-01-02T15:04:05.000Z".len() && time.ends_with('Z'),
        "{time}"
    );

    let full = json!({
        "name": "Größe_1-Ⅷ",
        "config": {"A": "1", "EMPTY": ""},
        "annotations": {"empty": [], "flag": true, "nested": {"a": [1.5, null]}},
        "syslog_url": "tcp://localhost:514",
        "shape": "GENERIC_X86_ARM",
    });
    let app = api.post("/v2/apps", &full).await.json();
    assert_eq!(app["config"], json!({"A": "1"}));
    for field in ["name", "annotations", "syslog_url", "shape"] {
        assert_eq!(app[field], full[field], "{field}");
    }
    assert_eq!(
        api.get(&format!("/v2/apps/{}", app["id"].as_str().expect("an id")))
            .await
            .json(),
        app
    );
}

#[tokio::test]
async fn get_and_delete() {
    let api = Api::start().await;
    let id = api.app("a").await;
    api.get("/v2/apps/unknown")
        .await
        .refused(404, "App not found");
    api.delete("/v2/apps/unknown")
        .await
        .refused(404, "App not found");
    assert_eq!(api.get(&format!("/v2/apps/{id}")).await.json()["name"], "a");
    api.delete(&format!("/v2/apps/{id}")).await.deleted();
    api.get(&format!("/v2/apps/{id}"))
        .await
        .refused(404, "App not found");
}

#[tokio::test]
async fn delete_takes_fns_and_triggers_along() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f").await;
    let trigger = api.trigger(&app, &func, "t", "/s").await;
    api.delete(&format!("/v2/apps/{app}")).await.deleted();
    api.get(&format!("/v2/fns/{func}"))
        .await
        .refused(404, "Fn not found");
    api.get(&format!("/v2/triggers/{trigger}"))
        .await
        .refused(404, "Trigger not found");
}

#[tokio::test]
async fn list_is_sorted_and_filtered() {
    let api = Api::start().await;
    assert_eq!(api.get("/v2/apps").await.text, "{\"items\":[]}\n");
    for name in ["b", "c", "a"] {
        api.app(name).await;
    }
    assert_eq!(
        names(&api.get("/v2/apps?per_page").await.json()),
        ["a", "b", "c"]
    );
    assert_eq!(names(&api.get("/v2/apps?name=b").await.json()), ["b"]);
    assert_eq!(names(&api.get("/v2/apps?name=nope").await.json()), [""; 0]);
    assert_eq!(names(&api.get("/v2/apps?name=%00").await.json()), [""; 0]);
    assert_eq!(
        names(&api.get("/v2/apps?name=b&name=c").await.json()),
        ["b"],
        "the first value counts"
    );
}

#[tokio::test]
async fn update_refuses() {
    let api = Api::start().await;
    let id = api.app("a").await;
    let path = format!("/v2/apps/{id}");
    api.put("/v2/apps/unknown", &json!({}))
        .await
        .refused(404, "App not found");
    api.send(Method::PUT, &path, &[], "")
        .await
        .refused(400, "Invalid JSON");
    let mismatch = "App ID in path does not match ID in body";
    api.put(&path, &json!({"id": "other"}))
        .await
        .refused(400, mismatch);
    api.put("/v2/apps/unknown", &json!({"id": id}))
        .await
        .refused(400, mismatch);
    api.put(&path, &json!({"name": "b"}))
        .await
        .refused(409, "Could not update - name is immutable");
    api.put(&path, &json!({"syslog_url": "yo://x"}))
        .await
        .refused(400, &format!("invalid syslog url: \"yo://x\" {SCHEMES}"));
    let app = api.get(&path).await.json();
    assert_eq!(app["updated_at"], app["created_at"], "nothing was changed");
}

#[tokio::test]
async fn update_merges() {
    let api = Api::start().await;
    let draft = json!({
        "name": "a", "config": {"keep": "1", "gone": "2"}, "annotations": {"keep": 1, "gone": 2, "null": 3},
        "syslog_url": "tcp://h:1", "shape": "GENERIC_ARM",
    });
    let before = api.post("/v2/apps", &draft).await.json();
    let path = format!("/v2/apps/{}", before["id"].as_str().expect("an id"));

    let same = json!({"id": before["id"], "name": "a", "syslog_url": "tcp://h:1", "config": {"keep": "1"}});
    assert_eq!(
        api.put(&path, &same).await.json(),
        before,
        "no change, no new time"
    );

    let patch = json!({
        "config": {"gone": "", "new": "3"}, "annotations": {"gone": "", "null": null, "new": {}},
        "syslog_url": "", "shape": "GENERIC_X86",
    });
    let after = api.put(&path, &patch).await.json();
    assert_eq!(after["config"], json!({"keep": "1", "new": "3"}));
    assert_eq!(after["annotations"], json!({"keep": 1, "new": {}}));
    assert_eq!(after.get("syslog_url"), None);
    assert_eq!(after["shape"], "GENERIC_ARM", "a shape in a PUT is ignored");
    assert_eq!(after["created_at"], before["created_at"]);
    assert!(after["updated_at"].as_str() >= before["updated_at"].as_str());
    assert_eq!(api.get(&path).await.json(), after);
}

#[tokio::test]
async fn an_object_that_was_read_can_be_sent_back() {
    let api = Api::start().await;
    let id = api.app("a").await;
    let path = format!("/v2/apps/{id}");
    let app = api.get(&path).await.json();
    assert_eq!(api.put(&path, &app).await.json(), app);
}

/// spec/13 13.4
#[tokio::test]
async fn a_load_balancer_of_the_original_finds_it() {
    let api = Api::start().await;
    let id = api.app("a").await;
    let app = api.get(&format!("/v2/apps/{id}")).await.json();
    let found = api.get(&format!("/v2/runner/apps/{id}")).await.json();
    assert_eq!(found, app);
    api.get("/v2/runner/apps/unknown")
        .await
        .refused(404, "App not found");
}
