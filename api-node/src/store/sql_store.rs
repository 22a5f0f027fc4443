//! The store on an SQL database: which rules are checked in which order, and what is one
//! transaction. It is the same for every database.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::page::cursor;
use domain::{
    ApiError, App, AppDraft, AppId, AppPatch, Change, ErrorCode, FnId, Func, FuncDraft, FuncPatch,
    IdSource, Page, PageRequest, Timestamp, Trigger, TriggerDraft, TriggerId, TriggerKind,
    TriggerPatch,
};
use sqlx::Transaction;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::calls::Snapshots;
use super::failure::Failure;
use super::feed::{Feed, News};
use super::open::Clock;
use super::session::{Database, Session};
use super::{FuncFilter, Store, TriggerFilter, apps, fns, triggers};

/// The longest that one operation takes, with all its tries. The limits below it (pool, statements)
/// come first, unless the connection itself is cut off.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a transaction that loses races is run.
const MAX_TRIES: u32 = 8;

/// Behind a name in the cursor of triggers, an id follows. It cannot stand in a name.
const CURSOR_SEPARATOR: char = '/';

const PING: &str = "SELECT version FROM schema_migrations";

/// A store on the database `D`.
pub(super) struct SqlStore<D> {
    pub(super) database: D,
    pub(super) feed: Feed,
    pub(super) snapshots: Snapshots,
    ids: Arc<IdSource>,
    clock: Clock,
}

impl<D: Database> SqlStore<D> {
    pub(super) fn new(database: D, feed: Feed, ids: Arc<IdSource>, clock: Clock) -> Self {
        Self {
            database,
            feed,
            snapshots: Snapshots::default(),
            ids,
            clock,
        }
    }

    fn new_id(&self, now: Timestamp) -> Arc<str> {
        self.ids
            .next(u64::try_from(now.unix_millis()).unwrap_or_default())
    }

    /// Runs an operation, again when it lost a race, and never for longer than the limit.
    pub(super) async fn run<T, F>(
        &self,
        mut operation: impl FnMut() -> F + Send,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let tries = async {
            let mut tries = 1;
            loop {
                match operation().await {
                    Err(failure) if failure.lost_a_race() && tries < MAX_TRIES => tries += 1,
                    result => return result,
                }
            }
        };
        match timeout(OPERATION_TIMEOUT, tries).await {
            Ok(result) => result.map_err(ApiError::from),
            Err(elapsed) => Err(ApiError::from(ErrorCode::StoreUnavailable).detail(elapsed)),
        }
    }

    /// Commits, and tells of `news` before it returns. Both happen even if the caller goes away
    /// meanwhile: what was committed must not stay unknown to those who have cached what was there
    /// before.
    pub(super) async fn commit(
        &self,
        mut tx: Transaction<'static, D::Driver>,
        news: Vec<News>,
    ) -> Result<(), sqlx::Error> {
        let batches = self.feed.batches(news);
        for batch in &batches {
            tx.notify(batch.payload()).await?;
        }
        let feed = self.feed.clone();
        let committing = tokio::spawn(async move {
            let result = match timeout(OPERATION_TIMEOUT, tx.commit()).await {
                Ok(result) => result,
                Err(_) => Err(sqlx::Error::PoolTimedOut),
            };
            for batch in &batches {
                match &result {
                    Ok(()) => feed.committed(batch, D::NOTIFIES),
                    Err(_) => feed.uncertain(batch),
                }
            }
            result
        });
        committing.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    async fn create_app(&self, draft: AppDraft) -> Result<App, ApiError> {
        let now = (self.clock)();
        let app = App::create(draft, self.new_id(now).into(), now)?;
        check_app_text(&app)?;
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            apps::insert(&mut *tx, &app).await?;
            Ok(self.commit(tx, vec![app_news(&app.id)]).await?)
        })
        .await?;
        Ok(app)
    }

    async fn app(&self, id: &AppId) -> Result<App, ApiError> {
        check_given(id.as_str(), ErrorCode::AppMissingId)?;
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let app = apps::by_id(&mut *reader, id).await?;
            Ok(app.ok_or(ErrorCode::AppNotFound)?)
        })
        .await
    }

    async fn app_by_name(&self, name: &str) -> Result<App, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let app = apps::by_name(&mut *reader, name).await?;
            Ok(app.ok_or(ErrorCode::AppNotFound)?)
        })
        .await
    }

    async fn apps(&self, name: Option<&str>, page: &PageRequest) -> Result<Page<App>, ApiError> {
        let items = self
            .run(|| async {
                let mut reader = self.database.reader().await?;
                Ok(apps::list(&mut *reader, name, after(page), limit(page)).await?)
            })
            .await?;
        Ok(Page::new(page, items, |app| &app.name))
    }

    async fn update_app(&self, id: &AppId, patch: &AppPatch) -> Result<App, ApiError> {
        check_given(id.as_str(), ErrorCode::AppMissingId)?;
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let app = apps::locked(&mut *tx, id)
                .await?
                .ok_or(ErrorCode::AppNotFound)?;
            let next = app.patched(patch, (self.clock)())?;
            if next != app {
                check_app_text(&next)?;
                apps::update(&mut *tx, &next).await?;
                self.commit(tx, vec![app_news(id)]).await?;
            }
            Ok(next)
        })
        .await
    }

    async fn delete_app(&self, id: &AppId) -> Result<Vec<FnId>, ApiError> {
        check_given(id.as_str(), ErrorCode::AppMissingId)?;
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            // With the app locked, no function can be added to it.
            apps::locked(&mut *tx, id)
                .await?
                .ok_or(ErrorCode::AppNotFound)?;
            let functions = fns::ids_of_app(&mut *tx, id).await?;
            apps::delete(&mut *tx, id).await?;
            let mut news: Vec<_> = functions.iter().map(fn_news).collect();
            news.extend([triggers_news(id), app_news(id)]);
            self.commit(tx, news).await?;
            Ok(functions)
        })
        .await
    }

    async fn create_fn(&self, draft: FuncDraft) -> Result<Func, ApiError> {
        let now = (self.clock)();
        let draft = Func::create(draft, None, self.new_id(now).into(), now)?;
        check_fn_text(&draft)?;
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let app = apps::by_id(&mut *tx, &draft.app_id)
                .await?
                .ok_or(ErrorCode::AppNotFound)?;
            let func = Func {
                shape: app.shape,
                ..draft.clone()
            };
            fns::insert(&mut *tx, &func).await?;
            self.commit(tx, vec![fn_news(&func.id)]).await?;
            Ok(func)
        })
        .await
    }

    async fn func(&self, id: &FnId) -> Result<Func, ApiError> {
        check_given(id.as_str(), ErrorCode::FnMissingId)?;
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let func = fns::by_id(&mut *reader, id).await?;
            Ok(func.ok_or(ErrorCode::FnNotFound)?)
        })
        .await
    }

    async fn fns(&self, filter: &FuncFilter, page: &PageRequest) -> Result<Page<Func>, ApiError> {
        check_given(filter.app_id.as_str(), ErrorCode::FnMissingAppId)?;
        let items = self
            .run(|| async {
                let mut reader = self.database.reader().await?;
                Ok(fns::list(&mut *reader, filter, after(page), limit(page)).await?)
            })
            .await?;
        Ok(Page::new(page, items, |func| &func.name))
    }

    async fn update_fn(&self, id: &FnId, patch: &FuncPatch) -> Result<Func, ApiError> {
        check_given(id.as_str(), ErrorCode::FnMissingId)?;
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let func = fns::locked(&mut *tx, id)
                .await?
                .ok_or(ErrorCode::FnNotFound)?;
            let next = func.patched(patch, (self.clock)())?;
            if next != func {
                check_fn_text(&next)?;
                fns::update(&mut *tx, &next).await?;
                self.commit(tx, vec![fn_news(id)]).await?;
            }
            Ok(next)
        })
        .await
    }

    async fn delete_fn(&self, id: &FnId) -> Result<AppId, ApiError> {
        check_given(id.as_str(), ErrorCode::FnMissingId)?;
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let app = fns::delete(&mut *tx, id)
                .await?
                .ok_or(ErrorCode::FnNotFound)?;
            self.commit(tx, vec![fn_news(id), triggers_news(&app)])
                .await?;
            Ok(app)
        })
        .await
    }

    async fn create_trigger(&self, draft: TriggerDraft) -> Result<Trigger, ApiError> {
        let now = (self.clock)();
        let trigger = Trigger::create(draft, self.new_id(now).into(), now)?;
        check_trigger_text(&trigger)?;
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            apps::by_id(&mut *tx, &trigger.app_id)
                .await?
                .ok_or(ErrorCode::AppNotFound)?;
            check_owner(&mut *tx, &trigger).await?;
            check_source_free(&mut *tx, &trigger).await?;
            triggers::insert(&mut *tx, &trigger).await?;
            Ok(self
                .commit(tx, vec![triggers_news(&trigger.app_id)])
                .await?)
        })
        .await?;
        Ok(trigger)
    }

    async fn trigger(&self, id: &TriggerId) -> Result<Trigger, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let trigger = triggers::by_id(&mut *reader, id).await?;
            Ok(trigger.ok_or(ErrorCode::TriggerNotFound)?)
        })
        .await
    }

    async fn triggers(
        &self,
        filter: &TriggerFilter,
        page: &PageRequest,
    ) -> Result<Page<Trigger>, ApiError> {
        check_given(filter.app_id.as_str(), ErrorCode::TriggerMissingListAppId)?;
        let (name, id) = match after(page).split_once(CURSOR_SEPARATOR) {
            Some((name, id)) => (name, Some(id)),
            None => (after(page), None),
        };
        // One more than the page holds shows whether the next page starts with the same name.
        let found = self
            .run(|| async {
                let mut reader = self.database.reader().await?;
                Ok(triggers::list(&mut *reader, filter, name, id, limit(page) + 1).await?)
            })
            .await?;
        Ok(trigger_page(page, found))
    }

    async fn trigger_by_source(
        &self,
        app: &AppId,
        kind: TriggerKind,
        source: &str,
    ) -> Result<Trigger, ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let trigger = triggers::by_source(&mut *reader, app, kind, source).await?;
            Ok(trigger.ok_or(ErrorCode::TriggerNotFound)?)
        })
        .await
    }

    async fn update_trigger(
        &self,
        id: &TriggerId,
        patch: &TriggerPatch,
    ) -> Result<Trigger, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let trigger = triggers::locked(&mut *tx, id)
                .await?
                .ok_or(ErrorCode::TriggerNotFound)?;
            let next = trigger.patched(patch, (self.clock)())?;
            if next.fn_id != trigger.fn_id {
                check_owner(&mut *tx, &next).await?;
            }
            if next.source != trigger.source {
                check_source_free(&mut *tx, &next).await?;
            }
            if next != trigger {
                check_trigger_text(&next)?;
                triggers::update(&mut *tx, &next).await?;
                self.commit(tx, vec![triggers_news(&next.app_id)]).await?;
            }
            Ok(next)
        })
        .await
    }

    async fn delete_trigger(&self, id: &TriggerId) -> Result<AppId, ApiError> {
        self.run(|| async {
            let mut tx = self.database.begin().await?;
            let app = triggers::delete(&mut *tx, id)
                .await?
                .ok_or(ErrorCode::TriggerNotFound)?;
            self.commit(tx, vec![triggers_news(&app)]).await?;
            Ok(app)
        })
        .await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.feed.changes()
    }

    async fn ping(&self) -> Result<(), ApiError> {
        self.run(|| async {
            let mut reader = self.database.reader().await?;
            let _: Vec<(i64,)> = reader.rows(PING, &[]).await?;
            Ok(())
        })
        .await
    }
}

fn app_news(id: &AppId) -> News {
    News::Change(Change::App(id.clone()))
}

fn fn_news(id: &FnId) -> News {
    News::Change(Change::Fn(id.clone()))
}

fn triggers_news(app: &AppId) -> News {
    News::Change(Change::Triggers(app.clone()))
}

/// A text that must be there has an error of its own when it is empty.
fn check_given(text: &str, missing: ErrorCode) -> Result<(), ApiError> {
    if text.is_empty() {
        return Err(missing.into());
    }
    Ok(())
}

/// The function of a trigger must exist and belong to the trigger's app.
async fn check_owner(session: &mut impl Session, trigger: &Trigger) -> Result<(), Failure> {
    let func = fns::by_id(session, &trigger.fn_id)
        .await?
        .ok_or(ErrorCode::FnNotFound)?;
    if func.app_id != trigger.app_id {
        return Err(ErrorCode::TriggerFnNotOfApp.into());
    }
    Ok(())
}

/// The constraint decides a race; this decides which error comes first when the name is taken too.
async fn check_source_free(session: &mut impl Session, trigger: &Trigger) -> Result<(), Failure> {
    let other =
        triggers::by_source(session, &trigger.app_id, trigger.kind, &trigger.source).await?;
    match other {
        Some(_) => Err(ErrorCode::TriggerSourceTaken.into()),
        None => Ok(()),
    }
}

fn check_app_text(app: &App) -> Result<(), ApiError> {
    let config = app.config.iter().flat_map(|(name, value)| [name, value]);
    check_no_nul(config.chain(&app.syslog_url))
}

fn check_fn_text(func: &Func) -> Result<(), ApiError> {
    let config = func.config.iter().flat_map(|(name, value)| [name, value]);
    check_no_nul(config.chain([&func.image]))
}

fn check_trigger_text(trigger: &Trigger) -> Result<(), ApiError> {
    check_no_nul([&trigger.source])
}

/// PostgreSQL cannot keep a NUL in a text, and no environment can hold one. Names have none by the
/// rules of the domain, and annotations are kept as JSON, which escapes it.
fn check_no_nul<'a>(texts: impl IntoIterator<Item = &'a String>) -> Result<(), ApiError> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(ErrorCode::InvalidJson.into());
    }
    Ok(())
}

/// The name behind which the page starts. No name holds a NUL, so that what follows one does not
/// matter to the order.
fn after(page: &PageRequest) -> &str {
    let after = page.after.as_deref().unwrap_or_default();
    after.split('\0').next().unwrap_or_default()
}

pub(super) fn limit(page: &PageRequest) -> i64 {
    i64::try_from(page.per_page).unwrap_or(i64::MAX - 1)
}

/// The cursor of triggers is the last name, as spec/01 1.2 says, unless the next page starts with
/// that very name on another function: then the id follows, so that no trigger is skipped.
fn trigger_page(page: &PageRequest, mut found: Vec<Trigger>) -> Page<Trigger> {
    let next = if found.len() > page.per_page {
        found.pop()
    } else {
        None
    };
    let mut page = Page::new(page, found, |trigger| &trigger.name);
    if let (Some(last), Some(next)) = (page.items.last(), next)
        && last.name == next.name
    {
        let behind = format!("{}{CURSOR_SEPARATOR}{}", last.name, last.id);
        page.next_cursor = Some(cursor(&behind));
    }
    page
}
