//! The contract for apps.

use std::collections::BTreeMap;

use domain::{AppDraft, AppId, AppPatch, ErrorCode, Shape, TriggerKind};
use serde_json::json;

use super::{Fixture, all_pages, contract, fns_of, page, refused, triggers_of};

contract!(
    missing_name_fails,
    create_sets_both_times,
    update_moves_updated_at_only_on_change,
    no_op_update,
    new_config,
    multiple_config,
    duplicate_name,
    name_is_immutable,
    remove_config_key,
    get_by_empty_id,
    get,
    list_order,
    paging,
    delete_by_empty_id,
    delete_then_not_found,
    update_of_a_missing_app,
    every_field_is_kept,
    patch_of_url_and_annotations,
    list_by_name,
    unicode_names_sort_by_bytes,
    nul_is_not_found_or_refused,
);

fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn set(pairs: &[(&str, &str)]) -> AppPatch {
    AppPatch {
        config: config(pairs),
        ..AppPatch::default()
    }
}

async fn missing_name_fails(f: Fixture) {
    refused(
        f.store.create_app(AppDraft::default()).await,
        ErrorCode::AppMissingName,
    );
    assert!(
        f.store
            .apps(None, &page(None, 10))
            .await
            .expect("a list")
            .items
            .is_empty()
    );
}

async fn create_sets_both_times(f: Fixture) {
    let now = f.clock.advance();
    let app = f.app("a").await;
    assert_eq!((app.created_at, app.updated_at), (now, now));
    assert_eq!(app.id.as_str().len(), 26);
}

async fn update_moves_updated_at_only_on_change(f: Fixture) {
    let app = f.app("a").await;
    let later = f.clock.advance();
    let changed = f
        .store
        .update_app(&app.id, &set(&[("k", "v")]))
        .await
        .expect("a change");
    assert_eq!(
        (changed.created_at, changed.updated_at),
        (app.created_at, later)
    );
    f.clock.advance();
    let same = f
        .store
        .update_app(&app.id, &set(&[("k", "v")]))
        .await
        .expect("no change");
    assert_eq!(same, changed);
    assert_eq!(f.store.app(&app.id).await.expect("the app"), changed);
}

async fn no_op_update(f: Fixture) {
    let app = f.app("a").await;
    f.clock.advance();
    let same = f
        .store
        .update_app(&app.id, &AppPatch::default())
        .await
        .expect("no change");
    assert_eq!(same, app);
}

async fn new_config(f: Fixture) {
    let app = f.app("a").await;
    f.store
        .update_app(&app.id, &set(&[("k", "v")]))
        .await
        .expect("a change");
    assert_eq!(
        f.store.app(&app.id).await.expect("the app").config,
        config(&[("k", "v")])
    );
}

async fn multiple_config(f: Fixture) {
    let app = f.app("a").await;
    f.store
        .update_app(&app.id, &set(&[("a", "1")]))
        .await
        .expect("a change");
    f.store
        .update_app(&app.id, &set(&[("b", "2"), ("c", "3")]))
        .await
        .expect("a change");
    let all = config(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(f.store.app(&app.id).await.expect("the app").config, all);
}

async fn duplicate_name(f: Fixture) {
    let app = f.app("a").await;
    let again = AppDraft {
        name: "a".to_owned(),
        ..AppDraft::default()
    };
    refused(f.store.create_app(again).await, ErrorCode::AppAlreadyExists);
    assert_eq!(f.store.app_by_name("a").await.expect("the first"), app);
}

async fn name_is_immutable(f: Fixture) {
    let app = f.app("a").await;
    let renamed = AppPatch {
        name: "b".to_owned(),
        ..AppPatch::default()
    };
    refused(
        f.store.update_app(&app.id, &renamed).await,
        ErrorCode::AppNameImmutable,
    );
    refused(f.store.app_by_name("b").await, ErrorCode::AppNotFound);
}

async fn remove_config_key(f: Fixture) {
    let app = f.app("a").await;
    f.store
        .update_app(&app.id, &set(&[("a", "1"), ("b", "2")]))
        .await
        .expect("a change");
    f.store
        .update_app(&app.id, &set(&[("a", "")]))
        .await
        .expect("a change");
    assert_eq!(
        f.store.app(&app.id).await.expect("the app").config,
        config(&[("b", "2")])
    );
}

async fn get_by_empty_id(f: Fixture) {
    refused(f.store.app(&AppId::from("")).await, ErrorCode::AppMissingId);
}

async fn get(f: Fixture) {
    let app = f.app("a").await;
    assert_eq!(f.store.app(&app.id).await.expect("by id"), app);
    assert_eq!(f.store.app_by_name("a").await.expect("by name"), app);
    refused(
        f.store.app(&AppId::from("unknown")).await,
        ErrorCode::AppNotFound,
    );
    refused(f.store.app_by_name("unknown").await, ErrorCode::AppNotFound);
}

async fn list_order(f: Fixture) {
    for name in ["b", "a", "c"] {
        f.app(name).await;
    }
    let list = f.store.apps(None, &page(None, 10)).await.expect("a list");
    let names: Vec<_> = list.items.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(list.next_cursor, None);
}

async fn paging(f: Fixture) {
    let mut apps = Vec::new();
    for name in ["a", "b", "c", "d"] {
        apps.push(f.app(name).await);
    }
    let first = f.store.apps(None, &page(None, 3)).await.expect("a page");
    assert_eq!(first.items, apps[..3]);
    // The unpadded URL-safe base64 of "c".
    assert_eq!(first.next_cursor.as_deref(), Some("Yw"));
    let second = f
        .store
        .apps(None, &page(Some("Yw"), 3))
        .await
        .expect("a page");
    assert_eq!(
        (second.items.as_slice(), second.next_cursor),
        (&apps[3..], None)
    );
    // A full last page has a cursor, which leads to an empty page.
    let all = f.store.apps(None, &page(None, 4)).await.expect("a page");
    let end = f
        .store
        .apps(None, &page(all.next_cursor.as_deref(), 4))
        .await
        .expect("a page");
    assert_eq!((end.items.len(), end.next_cursor), (0, None));
}

async fn delete_by_empty_id(f: Fixture) {
    refused(
        f.store.delete_app(&AppId::from("")).await,
        ErrorCode::AppMissingId,
    );
}

async fn delete_then_not_found(f: Fixture) {
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let trigger = f.trigger(&func, "t", "/t").await;
    let other = f.app("b").await;
    let kept = f.func(&other, "f").await;

    assert_eq!(
        f.store.delete_app(&app.id).await.expect("gone"),
        std::slice::from_ref(&func.id)
    );
    refused(f.store.app(&app.id).await, ErrorCode::AppNotFound);
    refused(f.store.func(&func.id).await, ErrorCode::FnNotFound);
    refused(
        f.store.trigger(&trigger.id).await,
        ErrorCode::TriggerNotFound,
    );
    refused(f.store.delete_app(&app.id).await, ErrorCode::AppNotFound);
    assert_eq!(f.store.func(&kept.id).await.expect("another app's"), kept);
    // The name is free again.
    f.app("a").await;
}

async fn update_of_a_missing_app(f: Fixture) {
    let unknown = AppId::from("unknown");
    refused(
        f.store.update_app(&unknown, &set(&[("k", "v")])).await,
        ErrorCode::AppNotFound,
    );
}

async fn every_field_is_kept(f: Fixture) {
    let draft = AppDraft {
        name: "a".to_owned(),
        config: config(&[("KEY", "größe \"1\"\n")]),
        annotations: [
            (
                "list".to_owned(),
                json!([1, -2.5, "x", null, {"deep": true}]),
            ),
            ("nul".to_owned(), json!("\0")),
        ]
        .into_iter()
        .collect(),
        syslog_url: Some("tcp://log:514".to_owned()),
        shape: "GENERIC_ARM".to_owned(),
        ..AppDraft::default()
    };
    let app = f.store.create_app(draft).await.expect("a new app");
    assert_eq!(app.shape, Some(Shape::Arm));
    assert_eq!(f.store.app(&app.id).await.expect("the app"), app);
}

async fn patch_of_url_and_annotations(f: Fixture) {
    let app = f.app("a").await;
    let mut patch = AppPatch {
        annotations: [("k".to_owned(), json!(1))].into_iter().collect(),
        syslog_url: Some("udp://log:514".to_owned()),
        ..AppPatch::default()
    };
    let changed = f.store.update_app(&app.id, &patch).await.expect("a change");
    assert_eq!(f.store.app(&app.id).await.expect("the app"), changed);
    assert_eq!(changed.syslog_url.as_deref(), Some("udp://log:514"));
    patch.syslog_url = Some(String::new());
    patch.annotations = [("k".to_owned(), json!(null))].into_iter().collect();
    f.store.update_app(&app.id, &patch).await.expect("a change");
    assert_eq!(f.store.app(&app.id).await.expect("the app"), app);
}

async fn list_by_name(f: Fixture) {
    let app = f.app("a").await;
    f.app("ab").await;
    let named = f
        .store
        .apps(Some("a"), &page(None, 10))
        .await
        .expect("a list");
    assert_eq!(named.items, [app]);
    let none = f
        .store
        .apps(Some("x"), &page(None, 10))
        .await
        .expect("a list");
    assert!(none.items.is_empty());
    let behind = f
        .store
        .apps(Some("a"), &page(Some("YQ"), 10))
        .await
        .expect("a list");
    assert!(behind.items.is_empty());
}

async fn unicode_names_sort_by_bytes(f: Fixture) {
    let mut names = vec![
        "a", "B", "b", "ä", "Ä", "é", "z", "_", "-", "0", "日本", "𝔘", "ｱ", "a_b", "a-b", "ab",
    ];
    for name in &names {
        f.app(name).await;
    }
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for size in [1, 3, 16, 100] {
        let all = all_pages!(size, |page| f.store.apps(None, &page));
        let got: Vec<_> = all.iter().map(|app| app.name.as_str()).collect();
        assert_eq!(got, names, "{size} on a page");
    }
}

async fn nul_is_not_found_or_refused(f: Fixture) {
    let app = f.app("a").await;
    let id = AppId::from("\0");
    refused(f.store.app(&id).await, ErrorCode::AppNotFound);
    refused(
        f.store.update_app(&id, &AppPatch::default()).await,
        ErrorCode::AppNotFound,
    );
    refused(f.store.delete_app(&id).await, ErrorCode::AppNotFound);
    refused(f.store.app_by_name("a\0").await, ErrorCode::AppNotFound);
    let by_name = f
        .store
        .apps(Some("a\0"), &page(None, 10))
        .await
        .expect("a list");
    assert!(by_name.items.is_empty());
    // A cursor that sorts behind "a" and before "b", and one that sorts before all names.
    let f_b = f.app("b").await;
    let behind = |after: &str| domain::PageRequest {
        after: Some(after.to_owned()),
        per_page: 10,
    };
    let list = f.store.apps(None, &behind("a\0x")).await.expect("a list");
    assert_eq!(list.items, [f_b]);
    assert_eq!(
        f.store
            .apps(None, &behind("\0"))
            .await
            .expect("a list")
            .items
            .len(),
        2
    );

    refused(
        f.store.update_app(&app.id, &set(&[("k", "\0")])).await,
        ErrorCode::InvalidJson,
    );
    let draft = AppDraft {
        name: "c".to_owned(),
        config: config(&[("\0", "v")]),
        ..AppDraft::default()
    };
    refused(f.store.create_app(draft).await, ErrorCode::InvalidJson);
    let empty_list = f
        .store
        .fns(
            &super::FuncFilter {
                name: Some("\0".to_owned()),
                ..fns_of(&app)
            },
            &page(None, 10),
        )
        .await;
    assert!(empty_list.expect("a list").items.is_empty());
    let none = f
        .store
        .trigger_by_source(&app.id, TriggerKind::Http, "/\0")
        .await;
    refused(none, ErrorCode::TriggerNotFound);
    let filter = super::TriggerFilter {
        fn_id: Some("\0".into()),
        ..triggers_of(&app)
    };
    assert!(
        f.store
            .triggers(&filter, &page(None, 10))
            .await
            .expect("a list")
            .items
            .is_empty()
    );
}
