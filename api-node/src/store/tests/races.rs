//! What must hold when many servers and clients change the same things at once.

use std::sync::Arc;

use domain::{ApiError, AppDraft, AppPatch, ErrorCode, FnId, FuncPatch, TriggerPatch};
use tokio::task::JoinSet;

use super::super::Store;
use super::{Fixture, contract, fn_draft, fns_of, page, refused, trigger_draft, triggers_of};

contract!(
    no_update_of_an_app_is_lost,
    no_update_of_a_fn_is_lost,
    one_app_name_has_one_winner,
    one_fn_name_has_one_winner,
    one_trigger_source_has_one_winner,
    one_trigger_name_has_one_winner,
    one_source_has_one_winner_among_updates,
    no_fn_survives_its_app,
    no_trigger_survives_its_fn,
);

const CREATES: usize = 32;
const ROUNDS: usize = 8;

/// Runs `count` operations at once, on two stores of the same database.
async fn at_once<T, F>(
    f: &Fixture,
    count: usize,
    operation: impl Fn(Arc<dyn Store>, usize) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let stores = [
        Arc::clone(&f.store),
        f.open_again().await.expect("a second store"),
    ];
    let mut tasks = JoinSet::new();
    for n in 0..count {
        tasks.spawn(operation(Arc::clone(&stores[n % 2]), n));
    }
    tasks.join_all().await
}

#[track_caller]
fn one_winner<T: std::fmt::Debug>(results: Vec<Result<T, ApiError>>, code: ErrorCode) {
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(winners.len(), 1);
    for loser in losers {
        refused(loser, code);
    }
}

async fn no_update_of_an_app_is_lost(f: Fixture) {
    let app = f.app("a").await;
    let results = at_once(&f, 64, |store, n| {
        let id = app.id.clone();
        let patch = AppPatch {
            config: [(format!("k{n}"), "v".to_owned())].into(),
            ..AppPatch::default()
        };
        async move { store.update_app(&id, &patch).await }
    })
    .await;
    for result in results {
        result.expect("every update succeeds");
    }
    assert_eq!(
        f.store.app(&app.id).await.expect("the app").config.len(),
        64
    );
}

async fn no_update_of_a_fn_is_lost(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    let results = at_once(&f, 64, |store, n| {
        let id = func.id.clone();
        let patch = FuncPatch {
            config: [(format!("k{n}"), "v".to_owned())].into(),
            ..FuncPatch::default()
        };
        async move { store.update_fn(&id, &patch).await }
    })
    .await;
    for result in results {
        result.expect("every update succeeds");
    }
    assert_eq!(
        f.store
            .func(&func.id)
            .await
            .expect("the function")
            .config
            .len(),
        64
    );
}

async fn one_app_name_has_one_winner(f: Fixture) {
    let results = at_once(&f, CREATES, |store, _| async move {
        let draft = AppDraft {
            name: "a".to_owned(),
            ..AppDraft::default()
        };
        store.create_app(draft).await
    })
    .await;
    one_winner(results, ErrorCode::AppAlreadyExists);
    assert_eq!(
        f.store
            .apps(None, &page(None, 10))
            .await
            .expect("a list")
            .items
            .len(),
        1
    );
}

async fn one_fn_name_has_one_winner(f: Fixture) {
    let app = f.app("a").await;
    let results = at_once(&f, CREATES, |store, _| {
        let draft = fn_draft(&app.id, "f");
        async move { store.create_fn(draft).await }
    })
    .await;
    one_winner(results, ErrorCode::FnAlreadyExists);
    assert_eq!(
        f.store
            .fns(&fns_of(&app), &page(None, 10))
            .await
            .expect("a list")
            .items
            .len(),
        1
    );
}

async fn one_trigger_source_has_one_winner(f: Fixture) {
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let results = at_once(&f, CREATES, |store, n| {
        let draft = trigger_draft(&app.id, &func.id, &format!("t{n}"), "/t");
        async move { store.create_trigger(draft).await }
    })
    .await;
    one_winner(results, ErrorCode::TriggerSourceTaken);
    let list = f.store.triggers(&triggers_of(&app), &page(None, 10)).await;
    assert_eq!(list.expect("a list").items.len(), 1);
}

async fn one_trigger_name_has_one_winner(f: Fixture) {
    let app = f.app("a").await;
    let func = f.func(&app, "f").await;
    let results = at_once(&f, CREATES, |store, n| {
        let draft = trigger_draft(&app.id, &func.id, "t", &format!("/{n}"));
        async move { store.create_trigger(draft).await }
    })
    .await;
    one_winner(results, ErrorCode::TriggerAlreadyExists);
}

async fn one_source_has_one_winner_among_updates(f: Fixture) {
    let func = f.func(&f.app("a").await, "f").await;
    let mut triggers = Vec::new();
    for n in 0..16 {
        triggers.push(f.trigger(&func, &format!("t{n}"), &format!("/{n}")).await);
    }
    let results = at_once(&f, triggers.len(), |store, n| {
        let id = triggers[n].id.clone();
        let patch = TriggerPatch {
            source: "/one".to_owned(),
            ..TriggerPatch::default()
        };
        async move { store.update_trigger(&id, &patch).await }
    })
    .await;
    one_winner(results, ErrorCode::TriggerSourceTaken);
}

async fn no_fn_survives_its_app(f: Fixture) {
    for round in 0..ROUNDS {
        let app = f.app(&format!("a{round}")).await;
        // One operation of sixteen deletes the app: those before it and after it race with it.
        let results = at_once(&f, 16, |store, n| {
            let id = app.id.clone();
            async move {
                if n == 7 {
                    return Ok(store.delete_app(&id).await.expect("the app is there"));
                }
                let func = store.create_fn(fn_draft(&id, &format!("f{n}"))).await?;
                Ok(vec![func.id])
            }
        })
        .await;
        let mut deleted: Vec<FnId> = Vec::new();
        let mut created: Vec<FnId> = Vec::new();
        for result in results {
            match result {
                Ok(ids) if ids.len() == 1 => created.extend(ids),
                Ok(ids) => deleted.extend(ids),
                Err(error) => refused(Err::<(), _>(error), ErrorCode::AppNotFound),
            }
        }
        for id in created.iter().chain(&deleted) {
            refused(f.store.func(id).await, ErrorCode::FnNotFound);
        }
        let left = f
            .store
            .fns(&fns_of(&app), &page(None, 100))
            .await
            .expect("a list");
        assert!(left.items.is_empty());
    }
}

async fn no_trigger_survives_its_fn(f: Fixture) {
    let app = f.app("a").await;
    let other = f.func(&app, "other").await;
    for round in 0..ROUNDS {
        let func = f.func(&app, &format!("f{round}")).await;
        let moving = f
            .trigger(&other, &format!("m{round}"), &format!("/m{round}"))
            .await;
        let results = at_once(&f, 16, |store, n| {
            let (func, moving) = (func.clone(), moving.clone());
            async move {
                let name = format!("t{round}x{n}");
                match n {
                    7 => store.delete_fn(&func.id).await.map(drop),
                    // Moves another function's trigger to the one that goes.
                    8 => {
                        let patch = TriggerPatch {
                            fn_id: func.id.to_string(),
                            ..TriggerPatch::default()
                        };
                        store.update_trigger(&moving.id, &patch).await.map(drop)
                    }
                    _ => {
                        let draft =
                            trigger_draft(&func.app_id, &func.id, &name, &format!("/{name}"));
                        store.create_trigger(draft).await.map(drop)
                    }
                }
            }
        })
        .await;
        for result in results.into_iter().filter(Result::is_err) {
            refused(result, ErrorCode::FnNotFound);
        }
        let list = f
            .store
            .triggers(&triggers_of(&app), &page(None, 100))
            .await
            .expect("a list");
        assert!(list.items.iter().all(|trigger| trigger.fn_id == other.id));
    }
}
