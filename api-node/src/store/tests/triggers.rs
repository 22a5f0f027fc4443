//! The contract for triggers.

use domain::{AppId, ErrorCode, FnId, TriggerDraft, TriggerId, TriggerKind, TriggerPatch};
use serde_json::json;

use super::{
    Fixture, TriggerFilter, all_pages, contract, page, refused, trigger_draft, triggers_of,
};

contract!(
    invalid_app,
    invalid_fn,
    duplicate_name,
    valid,
    get_invalid,
    get,
    list_without_app,
    list_of_an_unknown_app,
    duplicate_source_in_the_app,
    fn_of_another_app,
    paging,
    filters,
    update,
    remove_missing,
    remove,
    removed_with_the_fn,
    removed_with_the_app,
    by_source_missing,
    by_source_found,
    order_of_the_errors,
    update_rechecks_the_owner,
    update_keeps_names_and_sources_unique,
    same_names_are_not_lost_between_pages,
    longest_source,
    nul_is_not_found_or_refused,
);

async fn invalid_app(f: Fixture) {
    let draft = trigger_draft(&AppId::from("unknown"), &FnId::from("unknown"), "t", "/t");
    refused(f.store.create_trigger(draft).await, ErrorCode::AppNotFound);
}

async fn invalid_fn(f: Fixture) {
    let app = f.app("a").await;
    let draft = trigger_draft(&app.id, &FnId::from("unknown"), "t", "/t");
    refused(f.store.create_trigger(draft).await, ErrorCode::FnNotFound);
}

async fn duplicate_name(f: Fixture) {
    let app = f.app("a").await;
    let (func, other) = (f.func(&app, "f").await, f.func(&app, "g").await);
    f.trigger(&func, "t", "/1").await;
    let again = trigger_draft(&app.id, &func.id, "t", "/2");
    refused(
        f.store.create_trigger(again).await,
        ErrorCode::TriggerAlreadyExists,
    );
    f.trigger(&other, "t", "/3").await;
}

async fn valid(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    let now = f.clock.advance();
    let trigger = f.trigger(&func, "t", "/t").await;
    assert_eq!((trigger.created_at, trigger.updated_at), (now, now));
    assert_eq!((&trigger.app_id, &trigger.fn_id), (&func.app_id, &func.id));
    assert_eq!(trigger.id.as_str().len(), 26);
}

async fn get_invalid(f: Fixture) {
    for id in ["unknown", ""] {
        let id = TriggerId::from(id);
        refused(f.store.trigger(&id).await, ErrorCode::TriggerNotFound);
    }
}

async fn get(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    let draft = TriggerDraft {
        annotations: [("k".to_owned(), json!({"a": [1, "ü"]}))]
            .into_iter()
            .collect(),
        ..trigger_draft(&func.app_id, &func.id, "t", "/ä b?c")
    };
    let trigger = f.store.create_trigger(draft).await.expect("a new trigger");
    assert_eq!(
        f.store.trigger(&trigger.id).await.expect("the trigger"),
        trigger
    );
}

async fn list_without_app(f: Fixture) {
    let filter = TriggerFilter {
        app_id: AppId::from(""),
        fn_id: None,
        name: None,
    };
    let list = f.store.triggers(&filter, &page(None, 10)).await;
    refused(list, ErrorCode::TriggerMissingListAppId);
}

async fn list_of_an_unknown_app(f: Fixture) {
    let filter = TriggerFilter {
        app_id: AppId::from("unknown"),
        fn_id: None,
        name: None,
    };
    let list = f
        .store
        .triggers(&filter, &page(None, 10))
        .await
        .expect("a list");
    assert_eq!((list.items.len(), list.next_cursor), (0, None));
}

async fn duplicate_source_in_the_app(f: Fixture) {
    let (app, other) = (f.app("a").await, f.app("b").await);
    let func = f.func(&app, "f").await;
    f.trigger(&func, "t", "/t").await;
    let again = trigger_draft(&app.id, &func.id, "u", "/t");
    refused(
        f.store.create_trigger(again).await,
        ErrorCode::TriggerSourceTaken,
    );
    f.trigger(&f.func(&other, "f").await, "t", "/t").await;
}

async fn fn_of_another_app(f: Fixture) {
    let (app, other) = (f.app("a").await, f.app("b").await);
    let func = f.func(&other, "f").await;
    let draft = trigger_draft(&app.id, &func.id, "t", "/t");
    refused(
        f.store.create_trigger(draft).await,
        ErrorCode::TriggerFnNotOfApp,
    );
}

async fn paging(f: Fixture) {
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let mut triggers = Vec::new();
    for name in ["d", "a", "c", "b", "e"] {
        triggers.push(f.trigger(&func, name, &format!("/{name}")).await);
    }
    triggers.sort_by(|a, b| a.name.cmp(&b.name));
    for size in [1, 2, 5, 6] {
        let all = all_pages!(size, |page| f.store.triggers(&triggers_of(&app), &page));
        assert_eq!(all, triggers);
    }
    // The unpadded URL-safe base64 of "b".
    let first = f
        .store
        .triggers(&triggers_of(&app), &page(None, 2))
        .await
        .expect("a page");
    assert_eq!(first.next_cursor.as_deref(), Some("Yg"));
}

async fn filters(f: Fixture) {
    let app = f.app("a").await;
    let (func, other) = (f.func(&app, "f").await, f.func(&app, "g").await);
    let t1 = f.trigger(&func, "t1", "/1").await;
    let t2 = f.trigger(&func, "t2", "/2").await;
    let o1 = f.trigger(&other, "t1", "/3").await;
    let list = async |fn_id: Option<&FnId>, name: Option<&str>| {
        let filter = TriggerFilter {
            app_id: app.id.clone(),
            fn_id: fn_id.cloned(),
            name: name.map(str::to_owned),
        };
        f.store
            .triggers(&filter, &page(None, 10))
            .await
            .expect("a list")
            .items
    };
    assert_eq!(list(None, None).await, [t1.clone(), o1.clone(), t2.clone()]);
    assert_eq!(list(Some(&func.id), None).await, [t1.clone(), t2]);
    assert_eq!(list(None, Some("t1")).await, [t1.clone(), o1]);
    assert_eq!(list(Some(&func.id), Some("t1")).await, [t1]);
    assert!(list(Some(&FnId::from("unknown")), None).await.is_empty());
    let of_fn = TriggerFilter {
        fn_id: Some(func.id.clone()),
        ..triggers_of(&app)
    };
    assert_eq!(
        all_pages!(1, |page| f.store.triggers(&of_fn, &page)).len(),
        2
    );
    let named = TriggerFilter {
        name: Some("t1".to_owned()),
        ..triggers_of(&app)
    };
    assert_eq!(
        all_pages!(1, |page| f.store.triggers(&named, &page)).len(),
        2
    );
}

async fn update(f: Fixture) {
    let app = f.app("a").await;
    let (func, other) = (f.func(&app, "f").await, f.func(&app, "g").await);
    let trigger = f.trigger(&func, "t", "/t").await;
    let now = f.clock.advance();
    let patch = TriggerPatch {
        name: "u".to_owned(),
        fn_id: other.id.to_string(),
        source: "/u".to_owned(),
        annotations: [("k".to_owned(), json!(1))].into_iter().collect(),
        ..TriggerPatch::default()
    };
    let changed = f
        .store
        .update_trigger(&trigger.id, &patch)
        .await
        .expect("a change");
    assert_eq!(
        (changed.name.as_str(), changed.source.as_str()),
        ("u", "/u")
    );
    assert_eq!((&changed.fn_id, changed.updated_at), (&other.id, now));
    assert_eq!(
        f.store.trigger(&trigger.id).await.expect("the trigger"),
        changed
    );
    f.clock.advance();
    let same = f
        .store
        .update_trigger(&trigger.id, &patch)
        .await
        .expect("no change");
    assert_eq!(same, changed);
    let unknown = TriggerId::from("unknown");
    let missing = f.store.update_trigger(&unknown, &patch).await;
    refused(missing, ErrorCode::TriggerNotFound);
}

async fn remove_missing(f: Fixture) {
    for id in ["unknown", ""] {
        let id = TriggerId::from(id);
        refused(
            f.store.delete_trigger(&id).await,
            ErrorCode::TriggerNotFound,
        );
    }
}

async fn remove(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    let trigger = f.trigger(&func, "t", "/t").await;
    assert_eq!(
        f.store.delete_trigger(&trigger.id).await.expect("gone"),
        func.app_id
    );
    refused(
        f.store.trigger(&trigger.id).await,
        ErrorCode::TriggerNotFound,
    );
    refused(
        f.store.delete_trigger(&trigger.id).await,
        ErrorCode::TriggerNotFound,
    );
    f.trigger(&func, "t", "/t").await;
}

async fn removed_with_the_fn(f: Fixture) {
    let app = f.app("a").await;
    let (func, other) = (f.func(&app, "f").await, f.func(&app, "g").await);
    let trigger = f.trigger(&func, "t", "/t").await;
    let kept = f.trigger(&other, "t", "/u").await;
    f.store.delete_fn(&func.id).await.expect("gone");
    refused(
        f.store.trigger(&trigger.id).await,
        ErrorCode::TriggerNotFound,
    );
    assert_eq!(
        f.store.trigger(&kept.id).await.expect("another function's"),
        kept
    );
}

async fn removed_with_the_app(f: Fixture) {
    let app = f.app("a").await;
    let trigger = f.trigger(&f.func(&app, "f").await, "t", "/t").await;
    f.store.delete_app(&app.id).await.expect("gone");
    refused(
        f.store.trigger(&trigger.id).await,
        ErrorCode::TriggerNotFound,
    );
}

async fn by_source_missing(f: Fixture) {
    let app = f.app("a").await;
    f.trigger(&f.func(&app, "f").await, "t", "/t").await;
    for (app, source) in [
        (&app.id, "/"),
        (&app.id, "/t/"),
        (&AppId::from("unknown"), "/t"),
    ] {
        let result = f
            .store
            .trigger_by_source(app, TriggerKind::Http, source)
            .await;
        refused(result, ErrorCode::TriggerNotFound);
    }
}

async fn by_source_found(f: Fixture) {
    let app = f.app("a").await;
    let trigger = f.trigger(&f.func(&app, "f").await, "t", "/t").await;
    let found = f
        .store
        .trigger_by_source(&app.id, TriggerKind::Http, "/t")
        .await;
    assert_eq!(found.expect("the trigger"), trigger);
}

async fn order_of_the_errors(f: Fixture) {
    let (app, other) = (f.app("a").await, f.app("b").await);
    let func = f.func(&app, "f").await;
    f.trigger(&func, "t", "/t").await;
    // Name and source are taken: the source comes first.
    let both = trigger_draft(&app.id, &func.id, "t", "/t");
    refused(
        f.store.create_trigger(both).await,
        ErrorCode::TriggerSourceTaken,
    );
    // The owner comes before the source.
    let foreign = f.func(&other, "f").await;
    let draft = trigger_draft(&app.id, &foreign.id, "t", "/t");
    refused(
        f.store.create_trigger(draft).await,
        ErrorCode::TriggerFnNotOfApp,
    );
    // The draft itself comes before everything.
    let draft = trigger_draft(&AppId::from("unknown"), &func.id, "t", "t");
    refused(
        f.store.create_trigger(draft).await,
        ErrorCode::TriggerSourceWithoutSlash,
    );
}

async fn update_rechecks_the_owner(f: Fixture) {
    let (app, other) = (f.app("a").await, f.app("b").await);
    let trigger = f.trigger(&f.func(&app, "f").await, "t", "/t").await;
    let foreign = f.func(&other, "f").await;
    let to = |fn_id: &str| TriggerPatch {
        fn_id: fn_id.to_owned(),
        ..TriggerPatch::default()
    };
    let result = f
        .store
        .update_trigger(&trigger.id, &to(foreign.id.as_str()))
        .await;
    refused(result, ErrorCode::TriggerFnNotOfApp);
    let result = f.store.update_trigger(&trigger.id, &to("unknown")).await;
    refused(result, ErrorCode::FnNotFound);
    assert_eq!(
        f.store.trigger(&trigger.id).await.expect("unchanged"),
        trigger
    );
}

async fn update_keeps_names_and_sources_unique(f: Fixture) {
    let app = f.app("a").await;
    let (func, other) = (f.func(&app, "f").await, f.func(&app, "g").await);
    let trigger = f.trigger(&func, "t", "/t").await;
    f.trigger(&func, "u", "/u").await;
    f.trigger(&other, "t", "/o").await;
    let update = async |patch: TriggerPatch| f.store.update_trigger(&trigger.id, &patch).await;
    let name = TriggerPatch {
        name: "u".to_owned(),
        ..TriggerPatch::default()
    };
    refused(update(name.clone()).await, ErrorCode::TriggerAlreadyExists);
    let source = TriggerPatch {
        source: "/u".to_owned(),
        ..name
    };
    refused(update(source).await, ErrorCode::TriggerSourceTaken);
    let moved = TriggerPatch {
        fn_id: other.id.to_string(),
        ..TriggerPatch::default()
    };
    refused(update(moved).await, ErrorCode::TriggerAlreadyExists);
    assert_eq!(
        f.store.trigger(&trigger.id).await.expect("unchanged"),
        trigger
    );
}

async fn same_names_are_not_lost_between_pages(f: Fixture) {
    let app = f.app("a").await;
    let mut triggers = Vec::new();
    for n in 0..7 {
        let func = f.func(&app, &format!("f{n}")).await;
        for name in ["same", "tail"] {
            triggers.push(f.trigger(&func, name, &format!("/{name}{n}")).await);
        }
    }
    triggers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    for size in [1, 2, 3, 7, 14, 15] {
        let all = all_pages!(size, |page| f.store.triggers(&triggers_of(&app), &page));
        assert_eq!(all, triggers, "{size} on a page");
    }
    // Where the name decides, the cursor is the name alone.
    let half = f
        .store
        .triggers(&triggers_of(&app), &page(None, 7))
        .await
        .expect("a page");
    assert_eq!(half.next_cursor.as_deref(), Some("c2FtZQ"));
}

async fn longest_source(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    // Text that does not compress, as long as a source may be.
    let mut state = 1u64;
    let source: String = (0..domain::trigger::MAX_SOURCE_BYTES - 1)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 33) % 94).expect("below 94"))
        })
        .collect();
    let trigger = f.trigger(&func, "t", &format!("/{source}")).await;
    assert_eq!(
        f.store.trigger(&trigger.id).await.expect("the trigger"),
        trigger
    );
}

async fn nul_is_not_found_or_refused(f: Fixture) {
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let trigger = f.trigger(&func, "t", "/t").await;
    refused(
        f.store.trigger(&TriggerId::from("\0")).await,
        ErrorCode::TriggerNotFound,
    );
    refused(
        f.store.delete_trigger(&TriggerId::from("\0")).await,
        ErrorCode::TriggerNotFound,
    );
    let draft = trigger_draft(&app.id, &func.id, "u", "/\0");
    refused(f.store.create_trigger(draft).await, ErrorCode::InvalidJson);
    let draft = trigger_draft(&app.id, &FnId::from("\0"), "u", "/u");
    refused(f.store.create_trigger(draft).await, ErrorCode::FnNotFound);
    let patch = TriggerPatch {
        source: "/\0".to_owned(),
        ..TriggerPatch::default()
    };
    let result = f.store.update_trigger(&trigger.id, &patch).await;
    refused(result, ErrorCode::InvalidJson);
}
