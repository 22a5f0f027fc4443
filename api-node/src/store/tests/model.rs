//! Any sequence of operations gives what a model of a few lines gives.

use std::fmt::Debug;
use std::sync::Arc;

use domain::{
    ApiError, App, AppDraft, AppId, AppPatch, ErrorCode, FnId, Func, FuncPatch, IdSource, Page,
    PageRequest, Timestamp, Trigger, TriggerId, TriggerKind, TriggerPatch,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::super::{OpenOptions, open};
use super::{HeldClock, fn_draft, options, trigger_draft};
use crate::store::{FuncFilter, TriggerFilter};

const NAMES: [&str; 4] = ["a", "b", "ä", "_"];

/// What a test does. Numbers choose among the names, or among the things that were ever made.
#[derive(Debug, Clone)]
enum Step {
    CreateApp(usize),
    UpdateApp(usize, usize, bool),
    DeleteApp(usize),
    ListApps(usize, Option<usize>),
    CreateFn(usize, usize),
    UpdateFn(usize, u64),
    DeleteFn(usize),
    ListFns(usize, Option<usize>),
    CreateTrigger(usize, usize, usize, usize),
    UpdateTrigger(usize, Option<usize>, Option<usize>, Option<usize>),
    DeleteTrigger(usize),
    ListTriggers(usize, Option<usize>, Option<usize>, Option<usize>),
    Find(usize, usize),
    Get(usize, usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let thing = || 0..8usize;
    let maybe = || prop::option::of(0..NAMES.len());
    prop_oneof![
        3 => name().prop_map(Step::CreateApp),
        1 => (thing(), name(), any::<bool>()).prop_map(|(app, key, set)| Step::UpdateApp(app, key, set)),
        1 => thing().prop_map(Step::DeleteApp),
        1 => (1..4usize, maybe()).prop_map(|(size, after)| Step::ListApps(size, after)),
        4 => (thing(), name()).prop_map(|(app, name)| Step::CreateFn(app, name)),
        1 => (thing(), 0..9000u64).prop_map(|(func, memory)| Step::UpdateFn(func, memory)),
        1 => thing().prop_map(Step::DeleteFn),
        1 => (thing(), maybe()).prop_map(|(app, name)| Step::ListFns(app, name)),
        6 => (thing(), thing(), name(), name()).prop_map(|(app, func, name, source)| Step::CreateTrigger(app, func, name, source)),
        3 => (thing(), maybe(), prop::option::of(thing()), maybe()).prop_map(|(trigger, name, func, source)| Step::UpdateTrigger(trigger, name, func, source)),
        1 => thing().prop_map(Step::DeleteTrigger),
        2 => (thing(), prop::option::of(thing()), maybe(), maybe()).prop_map(|(app, func, name, after)| Step::ListTriggers(app, func, name, after)),
        1 => (thing(), name()).prop_map(|(app, source)| Step::Find(app, source)),
        1 => (thing(), thing(), thing()).prop_map(|(app, func, trigger)| Step::Get(app, func, trigger)),
    ]
}

/// What the database should hold.
struct Model {
    ids: IdSource,
    apps: Vec<App>,
    fns: Vec<Func>,
    triggers: Vec<Trigger>,
}

fn find<T: Clone>(things: &[T], is: impl Fn(&T) -> bool, code: ErrorCode) -> Result<T, ApiError> {
    Ok(things.iter().find(|thing| is(thing)).ok_or(code)?.clone())
}

fn unless(broken: bool, code: ErrorCode) -> Result<(), ApiError> {
    if broken { Err(code.into()) } else { Ok(()) }
}

impl Model {
    fn app(&self, id: &AppId) -> Result<App, ApiError> {
        find(&self.apps, |app| app.id == *id, ErrorCode::AppNotFound)
    }

    fn func(&self, id: &FnId) -> Result<Func, ApiError> {
        find(&self.fns, |func| func.id == *id, ErrorCode::FnNotFound)
    }

    fn trigger(&self, id: &TriggerId) -> Result<Trigger, ApiError> {
        find(
            &self.triggers,
            |trigger| trigger.id == *id,
            ErrorCode::TriggerNotFound,
        )
    }

    fn create_app(&mut self, draft: AppDraft, now: Timestamp) -> Result<App, ApiError> {
        let app = App::create(
            draft,
            self.ids.next(now.unix_millis().unsigned_abs()).into(),
            now,
        )?;
        let taken = self.apps.iter().any(|other| other.name == app.name);
        unless(taken, ErrorCode::AppAlreadyExists)?;
        self.apps.push(app.clone());
        Ok(app)
    }

    fn update_app(
        &mut self,
        id: &AppId,
        patch: &AppPatch,
        now: Timestamp,
    ) -> Result<App, ApiError> {
        let next = self.app(id)?.patched(patch, now)?;
        self.apps.retain(|app| app.id != *id);
        self.apps.push(next.clone());
        Ok(next)
    }

    fn delete_app(&mut self, id: &AppId) -> Result<Vec<FnId>, ApiError> {
        self.app(id)?;
        self.apps.retain(|app| app.id != *id);
        let (gone, kept) = self.fns.drain(..).partition(|func| func.app_id == *id);
        self.fns = kept;
        self.triggers.retain(|trigger| trigger.app_id != *id);
        let mut gone: Vec<FnId> = Vec::<Func>::into_iter(gone).map(|func| func.id).collect();
        gone.sort();
        Ok(gone)
    }

    fn create_fn(&mut self, draft: domain::FuncDraft, now: Timestamp) -> Result<Func, ApiError> {
        let id = self.ids.next(now.unix_millis().unsigned_abs()).into();
        let func = Func::create(draft, None, id, now)?;
        self.app(&func.app_id)?;
        let same = |other: &Func| (&other.app_id, &other.name) == (&func.app_id, &func.name);
        unless(self.fns.iter().any(same), ErrorCode::FnAlreadyExists)?;
        self.fns.push(func.clone());
        Ok(func)
    }

    fn update_fn(
        &mut self,
        id: &FnId,
        patch: &FuncPatch,
        now: Timestamp,
    ) -> Result<Func, ApiError> {
        let next = self.func(id)?.patched(patch, now)?;
        self.fns.retain(|func| func.id != *id);
        self.fns.push(next.clone());
        Ok(next)
    }

    fn delete_fn(&mut self, id: &FnId) -> Result<AppId, ApiError> {
        let func = self.func(id)?;
        self.fns.retain(|func| func.id != *id);
        self.triggers.retain(|trigger| trigger.fn_id != *id);
        Ok(func.app_id)
    }

    /// The rules of a trigger that is about to be written.
    fn check_trigger(&self, trigger: &Trigger) -> Result<(), ApiError> {
        self.app(&trigger.app_id)?;
        let func = self.func(&trigger.fn_id)?;
        unless(func.app_id != trigger.app_id, ErrorCode::TriggerFnNotOfApp)?;
        let others = || self.triggers.iter().filter(|other| other.id != trigger.id);
        let source = others()
            .any(|other| (&other.app_id, &other.source) == (&trigger.app_id, &trigger.source));
        unless(source, ErrorCode::TriggerSourceTaken)?;
        let name =
            others().any(|other| (&other.fn_id, &other.name) == (&trigger.fn_id, &trigger.name));
        unless(name, ErrorCode::TriggerAlreadyExists)
    }

    fn create_trigger(
        &mut self,
        draft: domain::TriggerDraft,
        now: Timestamp,
    ) -> Result<Trigger, ApiError> {
        let id = self.ids.next(now.unix_millis().unsigned_abs()).into();
        let trigger = Trigger::create(draft, id, now)?;
        self.check_trigger(&trigger)?;
        self.triggers.push(trigger.clone());
        Ok(trigger)
    }

    fn update_trigger(
        &mut self,
        id: &TriggerId,
        patch: &TriggerPatch,
        now: Timestamp,
    ) -> Result<Trigger, ApiError> {
        let next = self.trigger(id)?.patched(patch, now)?;
        self.check_trigger(&next)?;
        self.triggers.retain(|trigger| trigger.id != *id);
        self.triggers.push(next.clone());
        Ok(next)
    }

    fn delete_trigger(&mut self, id: &TriggerId) -> Result<AppId, ApiError> {
        let trigger = self.trigger(id)?;
        self.triggers.retain(|trigger| trigger.id != *id);
        Ok(trigger.app_id)
    }
}

/// The items behind the cursor, by name and id.
fn list<T: Clone>(
    things: &[T],
    is: impl Fn(&T) -> bool,
    page: &PageRequest,
    key: impl Fn(&T) -> (&str, &str),
) -> Vec<T> {
    let after = page.after.as_deref().unwrap_or_default();
    let mut found: Vec<T> = things
        .iter()
        .filter(|thing| is(thing) && key(thing).0 > after)
        .cloned()
        .collect();
    found.sort_by(|a, b| key(a).cmp(&key(b)));
    found.truncate(page.per_page);
    found
}

#[track_caller]
fn same<T: Debug>(real: Result<T, ApiError>, model: Result<T, ApiError>) {
    let shown = |result: Result<T, ApiError>| match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.code()),
    };
    assert_eq!(shown(real), shown(model));
}

fn items<T>(page: Page<T>) -> Vec<T> {
    page.items
}

async fn follow(steps: Vec<Step>) {
    let clock = HeldClock::default();
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite3://{}/fn.db", directory.path().display());
    let options = OpenOptions {
        ids: Arc::new(IdSource::new(0)),
        ..options(&clock)
    };
    let store = open(&url, options).await.expect("the store opens");
    let mut model = Model {
        ids: IdSource::new(0),
        apps: Vec::new(),
        fns: Vec::new(),
        triggers: Vec::new(),
    };
    // Everything that ever was; what is chosen beyond its end was never there.
    let (mut apps, mut fns, mut triggers) = (Vec::new(), Vec::new(), Vec::new());
    fn chosen<T: Clone + for<'a> From<&'a str>>(made: &[T], which: usize) -> T {
        made.get(which)
            .cloned()
            .unwrap_or_else(|| T::from("unknown"))
    }
    let named = |name: Option<usize>| name.map(|name| NAMES[name].to_owned());
    let source = |source: usize| format!("/{}", NAMES[source]);

    for step in steps {
        let now = clock.advance();
        match step {
            Step::CreateApp(name) => {
                let draft = AppDraft {
                    name: NAMES[name].to_owned(),
                    ..AppDraft::default()
                };
                let app = model.create_app(draft.clone(), now);
                apps.extend(app.iter().map(|app| app.id.clone()));
                same(store.create_app(draft).await, app);
            }
            Step::UpdateApp(app, key, set) => {
                let id = chosen(&apps, app);
                let value = if set { "v" } else { "" };
                let config = [(NAMES[key].to_owned(), value.to_owned())].into();
                let patch = AppPatch {
                    config,
                    ..AppPatch::default()
                };
                same(
                    store.update_app(&id, &patch).await,
                    model.update_app(&id, &patch, now),
                );
            }
            Step::DeleteApp(app) => {
                let id = chosen(&apps, app);
                let gone = store.delete_app(&id).await.map(|mut gone| {
                    gone.sort();
                    gone
                });
                same(gone, model.delete_app(&id));
            }
            Step::ListApps(per_page, after) => {
                let page = PageRequest {
                    after: named(after),
                    per_page,
                };
                let expected = list(&model.apps, |_| true, &page, |app| (&app.name, ""));
                same(store.apps(None, &page).await.map(items), Ok(expected));
            }
            Step::CreateFn(app, name) => {
                // The names of functions are plain ASCII.
                let draft = fn_draft(&chosen(&apps, app), ["a", "b", "c", "~"][name]);
                let func = model.create_fn(draft.clone(), now);
                fns.extend(func.iter().map(|func| func.id.clone()));
                same(store.create_fn(draft).await, func);
            }
            Step::UpdateFn(func, memory) => {
                let id = chosen(&fns, func);
                let patch = FuncPatch {
                    memory,
                    ..FuncPatch::default()
                };
                same(
                    store.update_fn(&id, &patch).await,
                    model.update_fn(&id, &patch, now),
                );
            }
            Step::DeleteFn(func) => {
                let id = chosen(&fns, func);
                same(store.delete_fn(&id).await, model.delete_fn(&id));
            }
            Step::ListFns(app, name) => {
                let filter = FuncFilter {
                    app_id: chosen(&apps, app),
                    name: named(name),
                };
                let page = PageRequest {
                    after: None,
                    per_page: 2,
                };
                let is = |func: &Func| {
                    func.app_id == filter.app_id
                        && filter.name.as_ref().is_none_or(|name| func.name == *name)
                };
                let expected = list(&model.fns, is, &page, |func| (&func.name, ""));
                same(store.fns(&filter, &page).await.map(items), Ok(expected));
            }
            Step::CreateTrigger(app, func, name, path) => {
                let (app, func) = (chosen(&apps, app), chosen(&fns, func));
                let draft = trigger_draft(&app, &func, NAMES[name], &source(path));
                let trigger = model.create_trigger(draft.clone(), now);
                triggers.extend(trigger.iter().map(|trigger| trigger.id.clone()));
                same(store.create_trigger(draft).await, trigger);
            }
            Step::UpdateTrigger(trigger, name, func, path) => {
                let id = chosen(&triggers, trigger);
                let patch = TriggerPatch {
                    name: named(name).unwrap_or_default(),
                    fn_id: func
                        .map(|func| chosen(&fns, func).to_string())
                        .unwrap_or_default(),
                    source: path.map(source).unwrap_or_default(),
                    ..TriggerPatch::default()
                };
                let expected = model.update_trigger(&id, &patch, now);
                same(store.update_trigger(&id, &patch).await, expected);
            }
            Step::DeleteTrigger(trigger) => {
                let id = chosen(&triggers, trigger);
                same(store.delete_trigger(&id).await, model.delete_trigger(&id));
            }
            Step::ListTriggers(app, func, name, after) => {
                let filter = TriggerFilter {
                    app_id: chosen(&apps, app),
                    fn_id: func.map(|func| chosen(&fns, func)),
                    name: named(name),
                };
                let page = PageRequest {
                    after: named(after),
                    per_page: 3,
                };
                let is = |trigger: &Trigger| {
                    trigger.app_id == filter.app_id
                        && filter.fn_id.as_ref().is_none_or(|id| trigger.fn_id == *id)
                        && filter
                            .name
                            .as_ref()
                            .is_none_or(|name| trigger.name == *name)
                };
                let expected = list(&model.triggers, is, &page, |trigger| {
                    (&trigger.name, trigger.id.as_str())
                });
                same(
                    store.triggers(&filter, &page).await.map(items),
                    Ok(expected),
                );
            }
            Step::Find(app, path) => {
                let (app, path) = (chosen(&apps, app), source(path));
                let is = |trigger: &Trigger| trigger.app_id == app && trigger.source == path;
                let expected = find(&model.triggers, is, ErrorCode::TriggerNotFound);
                same(
                    store
                        .trigger_by_source(&app, TriggerKind::Http, &path)
                        .await,
                    expected,
                );
            }
            Step::Get(app, func, trigger) => {
                let id = chosen(&apps, app);
                same(store.app(&id).await, model.app(&id));
                let id = chosen(&fns, func);
                same(store.func(&id).await, model.func(&id));
                let id = chosen(&triggers, trigger);
                same(store.trigger(&id).await, model.trigger(&id));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_model_does(steps in vec(step(), 1..80)) {
        Runtime::new().expect("a runtime").block_on(follow(steps));
    }
}
