//! Cursors and page sizes (spec/01 1.2), on each of the three lists.

use serde_json::Value;

use crate::server::{Api, names};

#[tokio::test]
async fn pages_of_one() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f1").await;
    for name in ["b", "c"] {
        api.app(name).await;
    }
    for name in ["f2", "f3"] {
        api.func(&app, name).await;
    }
    for name in ["t1", "t2", "t3"] {
        api.trigger(&app, &func, name, &format!("/{name}")).await;
    }
    let lists = [
        (
            "/v2/apps?per_page=1".to_owned(),
            ["a", "b", "c"],
            ["YQ", "Yg", "Yw"],
        ),
        (
            format!("/v2/fns?app_id={app}&per_page=1"),
            ["f1", "f2", "f3"],
            ["ZjE", "ZjI", "ZjM"],
        ),
        (
            format!("/v2/triggers?app_id={app}&per_page=1"),
            ["t1", "t2", "t3"],
            ["dDE", "dDI", "dDM"],
        ),
    ];
    for (path, expected, cursors) in lists {
        let mut cursor = String::new();
        for (name, next) in expected.into_iter().zip(cursors) {
            let page = api.get(&format!("{path}{cursor}")).await.json();
            assert_eq!(names(&page), [name]);
            assert_eq!(
                page["next_cursor"], next,
                "a full page has a cursor, even the last one"
            );
            cursor = format!("&cursor={next}");
        }
        let end = api.get(&format!("{path}{cursor}")).await;
        assert_eq!(end.text, "{\"items\":[]}\n");
        for bad in ["***", "YQ==", "_w", "AA"] {
            api.get(&format!("{path}&cursor={bad}"))
                .await
                .refused(400, "Invalid cursor");
        }
    }
}

#[tokio::test]
async fn page_sizes() {
    let api = Api::start().await;
    for n in 0..101 {
        api.app(&format!("a{n:03}")).await;
    }
    let page = async |query: &str| -> Value {
        api.get(&format!("/v2/apps?per_page={query}")).await.json()
    };
    for (query, size) in [
        ("", 30),
        ("0", 30),
        ("-1", 30),
        ("many", 30),
        ("1e2", 30),
        ("2", 2),
        ("100", 100),
        ("1000", 100),
    ] {
        assert_eq!(names(&page(query).await).len(), size, "per_page={query}");
    }
    let rest = page("100&cursor=YTA5OQ").await;
    assert_eq!(names(&rest), ["a100"]);
    assert_eq!(rest.get("next_cursor"), None);
}
