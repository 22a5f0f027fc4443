//! spec/01 1.4, and the function tables of spec/11 11.1.

use http::Method;
use serde_json::{Value, json};

use crate::server::{Api, names, with};

#[tokio::test]
async fn create_refuses() {
    let api = Api::start().await;
    let app = api.app("a").await;
    api.func(&app, "taken").await;
    let good = json!({"app_id": app, "name": "f", "image": "x/y:1"});
    let timeout = "timeout value is out of range, must be between 0 and 300";
    let idle_timeout = "idle_timeout value is out of range, must be between 0 and 3600";
    let memory = "memory value is out of range. It should be between 0 and 8192";
    let long_name = "Fn name must be 255 characters or less";
    let cases = [
        (
            json!({"id": "x"}),
            400,
            "ID cannot be provided for Fn creation",
        ),
        (json!({"app_id": ""}), 400, "Missing AppID on Fn"),
        (json!({"app_id": null}), 400, "Missing AppID on Fn"),
        (json!({"name": ""}), 400, "Missing Fn name"),
        (json!({"name": "f".repeat(256)}), 400, long_name),
        (json!({"name": " "}), 400, "name must be a valid string"),
        (json!({"name": "a/b"}), 400, "name must be a valid string"),
        (json!({"name": "ü"}), 400, "name must be a valid string"),
        (json!({"image": ""}), 400, "Missing image on Fn"),
        (json!({"timeout": 301}), 400, timeout),
        (json!({"timeout": 3601}), 400, timeout),
        (json!({"timeout": -1}), 400, timeout),
        (json!({"idle_timeout": 3601}), 400, idle_timeout),
        (json!({"idle_timeout": -1}), 400, idle_timeout),
        (json!({"memory": 8193}), 400, memory),
        (json!({"memory": 100_000_000_000_000_u64}), 400, memory),
        (json!({"memory": -1}), 400, "Invalid JSON"),
        (json!({"memory": 1e14}), 400, "Invalid JSON"),
        (json!({"memory": "128"}), 400, "Invalid JSON"),
        (json!({"config": {"k": 1}}), 400, "Invalid JSON"),
        (
            json!({"name": "taken"}),
            409,
            "Fn with specified name already exists",
        ),
        (json!({"app_id": "unknown"}), 404, "App not found"),
    ];
    for (change, status, message) in cases {
        api.post("/v2/fns", &with(&good, &change))
            .await
            .refused(status, message);
    }
    for body in ["", "[]", "null", "{"] {
        api.send(Method::POST, "/v2/fns", &[], body)
            .await
            .refused(400, "Invalid JSON");
    }
    let list = api.get(&format!("/v2/fns?app_id={app}")).await.json();
    assert_eq!(names(&list), ["taken"], "nothing was created");
}

#[tokio::test]
async fn create_answers_200_with_defaults_and_the_apps_shape() {
    let api = Api::start().await;
    let app = api
        .post("/v2/apps", &json!({"name": "a", "shape": "GENERIC_ARM"}))
        .await
        .id();
    let draft = json!({"app_id": app, "name": "f", "image": "x/y:1", "shape": "GENERIC_X86"});
    let func = api.post("/v2/fns", &draft).await.json();
    assert_eq!(func["memory"], 128);
    assert_eq!(func["timeout"], 30);
    assert_eq!(func["idle_timeout"], 30);
    assert_eq!(func["shape"], "GENERIC_ARM");
    assert_eq!(func["created_at"], func["updated_at"]);
    assert_eq!(func.get("config"), None);
    assert_eq!(
        api.get(&format!("/v2/fns/{}", func["id"].as_str().expect("an id")))
            .await
            .json(),
        func
    );

    let edges = json!({"app_id": app, "name": "g", "image": "x", "memory": 8192, "timeout": 300, "idle_timeout": 3600});
    let func = api.post("/v2/fns", &edges).await.json();
    assert_eq!(
        (&func["memory"], &func["timeout"], &func["idle_timeout"]),
        (&json!(8192), &json!(300), &json!(3600))
    );
}

#[tokio::test]
async fn one_name_may_stand_in_two_apps() {
    let api = Api::start().await;
    let (one, other) = (api.app("one").await, api.app("other").await);
    api.func(&one, "f").await;
    api.func(&other, "f").await;
}

#[tokio::test]
async fn get_and_delete() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f").await;
    let trigger = api.trigger(&app, &func, "t", "/s").await;
    api.get("/v2/fns/unknown")
        .await
        .refused(404, "Fn not found");
    api.delete("/v2/fns/unknown")
        .await
        .refused(404, "Fn not found");
    api.delete(&format!("/v2/fns/{func}")).await.deleted();
    api.get(&format!("/v2/fns/{func}"))
        .await
        .refused(404, "Fn not found");
    api.get(&format!("/v2/triggers/{trigger}"))
        .await
        .refused(404, "Trigger not found");
}

#[tokio::test]
async fn list_needs_an_app() {
    let api = Api::start().await;
    let (app, other) = (api.app("a").await, api.app("other").await);
    for name in ["b", "a", "c"] {
        api.func(&app, name).await;
    }
    api.func(&other, "z").await;
    api.get("/v2/fns").await.refused(400, "Missing AppID on Fn");
    api.get("/v2/fns?app_id=")
        .await
        .refused(400, "Missing AppID on Fn");
    let list = async |query: &str| -> Value { api.get(&format!("/v2/fns?{query}")).await.json() };
    assert_eq!(
        names(&list(&format!("app_id={app}")).await),
        ["a", "b", "c"]
    );
    assert_eq!(names(&list(&format!("app_id={other}")).await), ["z"]);
    assert_eq!(names(&list(&format!("app_id={app}&name=b")).await), ["b"]);
    assert_eq!(names(&list("app_id=unknown").await), [""; 0]);
    assert_eq!(names(&list("app_id=%00").await), [""; 0]);
}

#[tokio::test]
async fn update_refuses() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f").await;
    let path = format!("/v2/fns/{func}");
    let mismatch = "Fn ID in path does not match that in body";
    api.put("/v2/fns/unknown", &json!({"memory": 256}))
        .await
        .refused(404, "Fn not found");
    api.send(Method::PUT, &path, &[], "")
        .await
        .refused(400, "Invalid JSON");
    // One JSON document, not two.
    api.put(&path, &json!({"id": "other"}))
        .await
        .refused(400, mismatch);
    api.put("/v2/fns/unknown", &json!({"id": "other"}))
        .await
        .refused(400, mismatch);
    let cases = [
        (
            json!({"timeout": 3601}),
            "timeout value is out of range, must be between 0 and 300",
        ),
        (
            json!({"idle_timeout": 3601}),
            "idle_timeout value is out of range, must be between 0 and 3600",
        ),
        (
            json!({"memory": 100_000_000_000_000_u64}),
            "memory value is out of range. It should be between 0 and 8192",
        ),
    ];
    for (patch, message) in cases {
        api.put(&path, &patch).await.refused(400, message);
    }
    let func = api.get(&path).await.json();
    assert_eq!(
        func["updated_at"], func["created_at"],
        "nothing was changed"
    );
}

#[tokio::test]
async fn update_merges() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let draft = json!({
        "app_id": app, "name": "f", "image": "x/y:1", "config": {"keep": "1", "gone": "2"}, "annotations": {"gone": 1},
    });
    let before = api.post("/v2/fns", &draft).await.json();
    let path = format!("/v2/fns/{}", before["id"].as_str().expect("an id"));

    let nothing = json!({"memory": 0, "timeout": 0, "image": "", "name": "renamed", "app_id": "other", "shape": "x"});
    assert_eq!(
        api.put(&path, &nothing).await.json(),
        before,
        "zero, empty and fixed fields change nothing"
    );

    let patches = [
        (json!({"image": "x/y:2"}), "image", json!("x/y:2")),
        (json!({"memory": 256}), "memory", json!(256)),
        (json!({"timeout": 60}), "timeout", json!(60)),
        (json!({"idle_timeout": 90}), "idle_timeout", json!(90)),
        (
            json!({"config": {"gone": "", "new": "3"}}),
            "config",
            json!({"keep": "1", "new": "3"}),
        ),
    ];
    for (patch, field, expected) in patches {
        let after = api.put(&path, &patch).await.json();
        assert_eq!(after[field], expected);
        assert_eq!(api.get(&path).await.json(), after);
    }
    let after = api
        .put(&path, &json!({"annotations": {"gone": null, "new": [1]}}))
        .await
        .json();
    assert_eq!(after["annotations"].get("gone"), None);
    assert_eq!(after["annotations"]["new"], json!([1]));
    assert_eq!(after["name"], "f");
    assert!(after["updated_at"].as_str() >= after["created_at"].as_str());
}

#[tokio::test]
async fn call_records_are_gone_on_a_server_that_keeps_none() {
    let api = Api::start().await;
    for path in [
        "/v2/fns/f/calls",
        "/v2/fns/f/calls/c",
        "/v2/fns/f/calls/c/log",
    ] {
        let answer = api.get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (410, ""), "{path}");
    }
    for (method, path) in [
        (Method::POST, "/v2/fns/f/calls"),
        (Method::GET, "/v2/calls"),
        (Method::POST, "/v2/calls/cancel"),
        (Method::GET, "/v2/calls/c"),
        (Method::DELETE, "/v2/calls/c"),
        (Method::GET, "/v2/calls/c/attempts"),
        (Method::GET, "/v2/calls/c/result"),
        (Method::GET, "/v2/calls/c/log"),
        (Method::GET, "/v2/dead-letters"),
        (Method::DELETE, "/v2/dead-letters"),
        (Method::POST, "/v2/dead-letters/redrive"),
    ] {
        let answer = api.send(method, path, &[], "").await;
        answer.refused(410, "Call records are not available on this server");
    }
}
