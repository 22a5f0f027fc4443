//! A control plane in memory whose changes, announcements, outages and delays are scripted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::{
    ApiError, App, AppDraft, AppId, ErrorCode, FnId, Func, FuncDraft, Timestamp, Trigger,
    TriggerDraft, TriggerId, TriggerKind,
};
use tokio::sync::{Notify, broadcast};

use crate::control_plane::{Change, ControlPlane};

const NOW: Timestamp = Timestamp::from_unix_millis(1);

#[derive(Default)]
pub(super) struct Data {
    pub(super) apps: BTreeMap<String, App>,
    pub(super) fns: BTreeMap<String, Func>,
    /// By app id and source.
    pub(super) triggers: BTreeMap<(String, String), Trigger>,
}

/// A control plane in memory.
pub(super) struct Plane {
    pub(super) data: Mutex<Data>,
    pub(super) changes: broadcast::Sender<Change>,
    pub(super) down: AtomicBool,
    /// While closed, a function is read at once but delivered when the gate opens.
    gate_closed: AtomicBool,
    gate: Notify,
    pub(super) fn_reads: AtomicUsize,
}

impl Plane {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            data: Mutex::default(),
            changes: broadcast::channel(8).0,
            down: AtomicBool::new(false),
            gate_closed: AtomicBool::new(false),
            gate: Notify::new(),
            fn_reads: AtomicUsize::new(0),
        })
    }

    /// With app `a` (id `app`), function `f` and trigger `/s`.
    pub(super) fn filled() -> Arc<Self> {
        let plane = Self::new();
        plane.put_app("a", "app", "1");
        plane.put_fn("f", "app", "img:1");
        plane.put_trigger("app", "/s", "f");
        plane
    }

    pub(super) fn put_app(&self, name: &str, id: &str, value: &str) {
        let draft = AppDraft {
            name: name.into(),
            config: [("V".to_owned(), value.to_owned())].into(),
            ..AppDraft::default()
        };
        let app = App::create(draft, AppId::from(id), NOW).unwrap();
        self.data.lock().unwrap().apps.insert(name.into(), app);
    }

    pub(super) fn put_fn(&self, id: &str, app: &str, image: &str) {
        let draft = FuncDraft {
            app_id: app.into(),
            name: id.into(),
            image: image.into(),
            ..FuncDraft::default()
        };
        let func = Func::create(draft, None, FnId::from(id), NOW).unwrap();
        self.data.lock().unwrap().fns.insert(id.into(), func);
    }

    pub(super) fn put_trigger(&self, app: &str, source: &str, func: &str) {
        let draft = TriggerDraft {
            app_id: app.into(),
            fn_id: func.into(),
            name: "t".into(),
            kind: "http".into(),
            source: source.into(),
            ..TriggerDraft::default()
        };
        let trigger = Trigger::create(draft, TriggerId::from("t"), NOW).unwrap();
        let key = (app.to_owned(), source.to_owned());
        self.data.lock().unwrap().triggers.insert(key, trigger);
    }

    pub(super) fn announce(&self, change: Change) {
        // Without a receiver there is no cache to tell.
        let _ = self.changes.send(change);
    }

    pub(super) fn fn_reads(&self) -> usize {
        self.fn_reads.load(Ordering::Relaxed)
    }

    pub(super) fn reachable(&self) -> Result<(), ApiError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(ErrorCode::StoreUnavailable.into());
        }
        Ok(())
    }

    pub(super) fn close_gate(&self) {
        self.gate_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn open_gate(&self) {
        self.gate_closed.store(false, Ordering::Relaxed);
        self.gate.notify_waiters();
    }
}

#[async_trait]
impl ControlPlane for Plane {
    async fn app_by_name(&self, name: &str) -> Result<Arc<App>, ApiError> {
        self.reachable()?;
        let app = self.data.lock().unwrap().apps.get(name).cloned();
        app.map(Arc::new).ok_or(ErrorCode::AppNotFound.into())
    }

    async fn app(&self, id: &AppId) -> Result<Arc<App>, ApiError> {
        self.reachable()?;
        let data = self.data.lock().unwrap();
        let app = data.apps.values().find(|app| app.id == *id).cloned();
        app.map(Arc::new).ok_or(ErrorCode::AppNotFound.into())
    }

    async fn func(&self, id: &FnId) -> Result<Arc<Func>, ApiError> {
        self.fn_reads.fetch_add(1, Ordering::Relaxed);
        self.reachable()?;
        let func = self.data.lock().unwrap().fns.get(id.as_str()).cloned();
        if self.gate_closed.load(Ordering::Relaxed) {
            self.gate.notified().await;
        }
        func.map(Arc::new).ok_or(ErrorCode::FnNotFound.into())
    }

    async fn trigger_by_source(
        &self,
        app: &AppId,
        _kind: TriggerKind,
        source: &str,
    ) -> Result<Arc<Trigger>, ApiError> {
        self.reachable()?;
        let key = (app.as_str().to_owned(), source.to_owned());
        let trigger = self.data.lock().unwrap().triggers.get(&key).cloned();
        trigger
            .map(Arc::new)
            .ok_or(ErrorCode::TriggerNotFound.into())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
