//! The contract for functions.

use domain::{AppDraft, AppId, ErrorCode, FnId, FuncDraft, FuncPatch, Shape};
use serde_json::json;

use super::{Fixture, FuncFilter, all_pages, contract, fn_draft, fns_of, page, refused};

contract!(
    empty_draft,
    invalid_app,
    id_provided,
    valid,
    get_by_empty_id,
    get,
    update_adds,
    update_modifies_and_removes,
    paging_of_an_empty_list,
    paging,
    delete_by_empty_id,
    delete,
    duplicate_name_in_the_app_only,
    shape_comes_from_the_app,
    list_by_name,
    only_a_change_moves_updated_at,
    patch_is_validated,
    nul_is_not_found_or_refused,
);

async fn empty_draft(f: Fixture) {
    let result = f.store.create_fn(FuncDraft::default()).await;
    refused(result, ErrorCode::FnMissingAppId);
}

async fn invalid_app(f: Fixture) {
    let draft = fn_draft(&AppId::from("unknown"), "f");
    refused(f.store.create_fn(draft).await, ErrorCode::AppNotFound);
}

async fn id_provided(f: Fixture) {
    let app = f.app("a").await;
    let draft = FuncDraft {
        id: "mine".to_owned(),
        ..fn_draft(&app.id, "f")
    };
    refused(f.store.create_fn(draft).await, ErrorCode::FnIdProvided);
}

async fn valid(f: Fixture) {
    let app = f.app("a").await;
    let now = f.clock.advance();
    let func = f.func(&app, "f").await;
    assert_eq!((func.created_at, func.updated_at), (now, now));
    assert_eq!(
        (func.memory, func.timeout, func.idle_timeout),
        (128, 30, 30)
    );
    assert_eq!((&func.app_id, func.id.as_str().len()), (&app.id, 26));
}

async fn get_by_empty_id(f: Fixture) {
    refused(f.store.func(&FnId::from("")).await, ErrorCode::FnMissingId);
}

async fn get(f: Fixture) {
    let app = f.app("a").await;
    let draft = FuncDraft {
        memory: 8192,
        timeout: 300,
        idle_timeout: 3600,
        config: [("K".to_owned(), "v".to_owned())].into(),
        annotations: [("k".to_owned(), json!({"a": [1]}))].into_iter().collect(),
        ..fn_draft(&app.id, "f")
    };
    let func = f.store.create_fn(draft).await.expect("a new function");
    assert_eq!(f.store.func(&func.id).await.expect("the function"), func);
    refused(
        f.store.func(&FnId::from("unknown")).await,
        ErrorCode::FnNotFound,
    );
}

async fn update_adds(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    let patch = FuncPatch {
        config: [("K".to_owned(), "v".to_owned())].into(),
        annotations: [("k".to_owned(), json!(1))].into_iter().collect(),
        ..FuncPatch::default()
    };
    let now = f.clock.advance();
    let changed = f.store.update_fn(&func.id, &patch).await.expect("a change");
    assert_eq!((&changed.config, changed.updated_at), (&patch.config, now));
    assert_eq!(changed.annotations, patch.annotations);
    assert_eq!(f.store.func(&func.id).await.expect("the function"), changed);
}

async fn update_modifies_and_removes(f: Fixture) {
    let app = f.app("a").await;
    let draft = FuncDraft {
        config: [
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "2".to_owned()),
        ]
        .into(),
        ..fn_draft(&app.id, "f")
    };
    let func = f.store.create_fn(draft).await.expect("a new function");
    let patch = FuncPatch {
        image: "image:2".to_owned(),
        memory: 256,
        timeout: 60,
        idle_timeout: 120,
        config: [
            ("A".to_owned(), String::new()),
            ("B".to_owned(), "3".to_owned()),
        ]
        .into(),
        ..FuncPatch::default()
    };
    let changed = f.store.update_fn(&func.id, &patch).await.expect("a change");
    assert_eq!(changed.config, [("B".to_owned(), "3".to_owned())].into());
    assert_eq!(
        (changed.memory, changed.timeout, changed.idle_timeout),
        (256, 60, 120)
    );
    assert_eq!(changed.image, "image:2");
    assert_eq!(f.store.func(&func.id).await.expect("the function"), changed);
    let unknown = FnId::from("unknown");
    refused(
        f.store.update_fn(&unknown, &patch).await,
        ErrorCode::FnNotFound,
    );
}

async fn paging_of_an_empty_list(f: Fixture) {
    let app = f.app("a").await;
    let list = f
        .store
        .fns(&fns_of(&app), &page(None, 10))
        .await
        .expect("a list");
    assert_eq!((list.items.len(), list.next_cursor), (0, None));
    let unknown = FuncFilter {
        app_id: AppId::from("unknown"),
        name: None,
    };
    assert!(
        f.store
            .fns(&unknown, &page(None, 10))
            .await
            .expect("a list")
            .items
            .is_empty()
    );
    let nothing = FuncFilter {
        app_id: AppId::from(""),
        name: None,
    };
    refused(
        f.store.fns(&nothing, &page(None, 10)).await,
        ErrorCode::FnMissingAppId,
    );
}

async fn paging(f: Fixture) {
    let (app, other) = (f.app("a").await, f.app("b").await);
    let mut fns = Vec::new();
    for name in ["d", "a", "c", "b", "e"] {
        fns.push(f.func(&app, name).await);
        f.func(&other, name).await;
    }
    fns.sort_by(|a, b| a.name.cmp(&b.name));
    for size in [1, 2, 5, 6] {
        assert_eq!(
            all_pages!(size, |page| f.store.fns(&fns_of(&app), &page)),
            fns
        );
    }
}

async fn delete_by_empty_id(f: Fixture) {
    refused(
        f.store.delete_fn(&FnId::from("")).await,
        ErrorCode::FnMissingId,
    );
}

async fn delete(f: Fixture) {
    let app = f.app("a").await;
    let (func, kept) = (f.func(&app, "f").await, f.func(&app, "g").await);
    assert_eq!(f.store.delete_fn(&func.id).await.expect("gone"), app.id);
    refused(f.store.func(&func.id).await, ErrorCode::FnNotFound);
    refused(f.store.delete_fn(&func.id).await, ErrorCode::FnNotFound);
    let left = f
        .store
        .fns(&fns_of(&app), &page(None, 10))
        .await
        .expect("a list");
    assert_eq!(left.items, [kept]);
}

async fn duplicate_name_in_the_app_only(f: Fixture) {
    let (app, other) = (f.app("a").await, f.app("b").await);
    f.func(&app, "f").await;
    refused(
        f.store.create_fn(fn_draft(&app.id, "f")).await,
        ErrorCode::FnAlreadyExists,
    );
    f.func(&other, "f").await;
}

async fn shape_comes_from_the_app(f: Fixture) {
    let draft = AppDraft {
        name: "a".to_owned(),
        shape: "GENERIC_X86".to_owned(),
        ..AppDraft::default()
    };
    let app = f.store.create_app(draft).await.expect("a new app");
    let func = f.func(&app, "f").await;
    assert_eq!(func.shape, Some(Shape::X86));
    assert_eq!(f.store.func(&func.id).await.expect("the function"), func);
}

async fn list_by_name(f: Fixture) {
    let (app, other) = (f.app("a").await, f.app("b").await);
    let func = f.func(&app, "f").await;
    f.func(&app, "g").await;
    f.func(&other, "f").await;
    let named = FuncFilter {
        name: Some("f".to_owned()),
        ..fns_of(&app)
    };
    assert_eq!(
        f.store
            .fns(&named, &page(None, 10))
            .await
            .expect("a list")
            .items,
        [func]
    );
    // "f" itself is the cursor.
    let behind = f
        .store
        .fns(&named, &page(Some("Zg"), 10))
        .await
        .expect("a list");
    assert!(behind.items.is_empty());
}

async fn only_a_change_moves_updated_at(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    f.clock.advance();
    let patch = FuncPatch {
        memory: 128,
        image: "image:1".to_owned(),
        ..FuncPatch::default()
    };
    assert_eq!(
        f.store
            .update_fn(&func.id, &patch)
            .await
            .expect("no change"),
        func
    );
}

async fn patch_is_validated(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    let patch = FuncPatch {
        memory: 8193,
        image: "image:2".to_owned(),
        ..FuncPatch::default()
    };
    refused(
        f.store.update_fn(&func.id, &patch).await,
        ErrorCode::FnInvalidMemory,
    );
    let patch = FuncPatch {
        id: "other".to_owned(),
        ..FuncPatch::default()
    };
    refused(
        f.store.update_fn(&func.id, &patch).await,
        ErrorCode::FnIdMismatch,
    );
    assert_eq!(f.store.func(&func.id).await.expect("the function"), func);
}

async fn nul_is_not_found_or_refused(f: Fixture) {
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    refused(f.store.func(&FnId::from("\0")).await, ErrorCode::FnNotFound);
    refused(
        f.store.delete_fn(&FnId::from("\0")).await,
        ErrorCode::FnNotFound,
    );
    let draft = fn_draft(&AppId::from("\0"), "g");
    refused(f.store.create_fn(draft).await, ErrorCode::AppNotFound);
    let draft = FuncDraft {
        image: "i\0".to_owned(),
        ..fn_draft(&app.id, "g")
    };
    refused(f.store.create_fn(draft).await, ErrorCode::InvalidJson);
    let patch = FuncPatch {
        image: "i\0".to_owned(),
        ..FuncPatch::default()
    };
    refused(
        f.store.update_fn(&func.id, &patch).await,
        ErrorCode::InvalidJson,
    );
}
