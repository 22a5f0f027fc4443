//! spec/01 1.6, on each of the three kinds that carry annotations.

use serde_json::{Map, Value, json};

use crate::server::{Api, with};

const KEY: &str =
    "Invalid annotation key, annotation keys must be non-empty ascii strings excluding whitespace";
const KEY_LENGTH: &str =
    "Invalid annotation key length, annotation keys may not be larger than 128 bytes";
const VALUE: &str = "Invalid annotation value, annotation values may only be non-empty strings, numbers, objects, or arrays";
const VALUE_LENGTH: &str = "Invalid annotation value length, annotation values may not be larger than 512 bytes when serialized as JSON";
const COUNT: &str = "Invalid annotation change, new key(s) exceed maximum permitted number of annotations keys (100)";

fn many(count: usize) -> Value {
    (0..count)
        .map(|n| (format!("k{n}"), json!(n)))
        .collect::<Map<_, _>>()
        .into()
}

/// Drafts that lack only annotations, with the paths to post them to.
async fn drafts(api: &Api) -> [(&'static str, Value); 3] {
    let app = api.app("owner").await;
    let func = api.func(&app, "owner").await;
    [
        ("/v2/apps", json!({"name": "a"})),
        ("/v2/fns", json!({"app_id": app, "name": "f", "image": "x"})),
        (
            "/v2/triggers",
            json!({"app_id": app, "fn_id": func, "name": "t", "type": "http", "source": "/s"}),
        ),
    ]
}

#[tokio::test]
async fn limits_on_create_and_update() {
    let api = Api::start().await;
    for (path, draft) in drafts(&api).await {
        let id = api.post(path, &draft).await.id();
        let item = format!("{path}/{id}");
        let draft = with(&draft, &json!({"name": "other", "source": "/other"}));
        let both = [
            (json!({"": 1}), KEY),
            (json!({"a b": 1}), KEY),
            (json!({"ü": 1}), KEY),
            (json!({"tab\t": 1}), KEY),
            (json!({"k".repeat(129): 1}), KEY_LENGTH),
            (json!({"k": "v".repeat(511)}), VALUE_LENGTH),
            (many(101), COUNT),
        ];
        for (annotations, message) in both {
            let body = json!({"annotations": annotations});
            api.post(path, &with(&draft, &body))
                .await
                .refused(400, message);
            api.put(&item, &body).await.refused(400, message);
        }
        for value in [json!(""), json!(null)] {
            let body = json!({"annotations": {"k": value}});
            api.post(path, &with(&draft, &body))
                .await
                .refused(400, VALUE);
        }
        let wrong = json!({"annotations": ["k"]});
        api.post(path, &with(&draft, &wrong))
            .await
            .refused(400, "Invalid JSON");
        api.put(&item, &wrong).await.refused(400, "Invalid JSON");
    }
}

#[tokio::test]
async fn the_largest_that_are_allowed() {
    let api = Api::start().await;
    for (path, draft) in drafts(&api).await {
        let annotations = json!({
            "!~": false, "k".repeat(128): "v".repeat(510), "array": [], "object": {}, "number": -1.5e-7, "n": [null],
        });
        let created = api
            .post(path, &with(&draft, &json!({"annotations": annotations})))
            .await
            .json();
        for (key, value) in annotations.as_object().expect("an object") {
            assert_eq!(&created["annotations"][key], value, "{path} {key}");
        }
    }
}

#[tokio::test]
async fn a_full_map_takes_one_in_for_one_out() {
    let api = Api::start().await;
    let id = api
        .post("/v2/apps", &json!({"name": "a", "annotations": many(100)}))
        .await
        .id();
    let path = format!("/v2/apps/{id}");
    api.put(&path, &json!({"annotations": {"new": 1}}))
        .await
        .refused(400, COUNT);
    let swapped = api
        .put(&path, &json!({"annotations": {"new": 1, "k0": ""}}))
        .await
        .json();
    assert_eq!(swapped["annotations"].as_object().map(Map::len), Some(100));
}
