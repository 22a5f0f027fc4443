//! Where apps, functions, triggers and calls are kept (spec/09), and what a cluster knows of its nodes. A store applies the rules of `domain` and
//! its own constraints in one transaction: no update is lost, and a race for one name has one winner.

mod apps;
mod call_logs;
mod call_store;
mod calls;
mod failure;
mod feed;
mod fns;
mod listener;
mod migrate;
mod open;
mod postgres;
mod registry;
mod rows;
mod runners;
mod session;
mod sql_store;
mod sqlite;
mod triggers;
mod url;

#[cfg(test)]
pub(crate) mod tests;

use async_trait::async_trait;
use domain::{
    ApiError, App, AppDraft, AppId, AppPatch, Change, FnId, Func, FuncDraft, FuncPatch, Page,
    PageRequest, Trigger, TriggerDraft, TriggerId, TriggerKind, TriggerPatch,
};
use tokio::sync::broadcast;

use crate::logs::LogParts;

pub use call_store::{
    Acceptance, CallFilter, CallRequestDoc, CallStore, CallbackDelivery, Cancelled, Claimed,
    Committed, Doorbell, Ended, Over, Retention,
};
pub use migrate::MigrateError;
pub use open::{Clock, ConnectError, OpenError, OpenOptions, open, wall_clock};
pub use registry::{Registry, RunnerLease, RunnerLeases};
pub use url::UrlError;

/// Which functions a list shows.
#[derive(Debug, Clone)]
pub struct FuncFilter {
    /// Of this app.
    pub app_id: AppId,
    /// With exactly this name.
    pub name: Option<String>,
}

/// Which triggers a list shows.
#[derive(Debug, Clone)]
pub struct TriggerFilter {
    /// Of this app.
    pub app_id: AppId,
    /// Of this function.
    pub fn_id: Option<FnId>,
    /// With exactly this name.
    pub name: Option<String>,
}

/// A store of apps, functions, triggers and calls. Ids and times are made by the store's own sources.
///
/// Errors are those of the tables in spec/01 1.3 to 1.6, `StoreUnavailable` when the database
/// cannot be reached, and `Internal`.
#[async_trait]
pub trait Store: Registry + CallStore + LogParts {
    /// Validates and inserts an app.
    async fn create_app(&self, draft: AppDraft) -> Result<App, ApiError>;
    /// The app with this id.
    async fn app(&self, id: &AppId) -> Result<App, ApiError>;
    /// The app with this name.
    async fn app_by_name(&self, name: &str) -> Result<App, ApiError>;
    /// Apps by name; with `name`, at most that one.
    async fn apps(&self, name: Option<&str>, page: &PageRequest) -> Result<Page<App>, ApiError>;
    /// Applies a patch, serialised with every other change of the app.
    async fn update_app(&self, id: &AppId, patch: &AppPatch) -> Result<App, ApiError>;
    /// Deletes an app with its functions and triggers; answers the ids of the functions.
    async fn delete_app(&self, id: &AppId) -> Result<Vec<FnId>, ApiError>;

    /// Validates and inserts a function; its app must exist.
    async fn create_fn(&self, draft: FuncDraft) -> Result<Func, ApiError>;
    /// The function with this id.
    async fn func(&self, id: &FnId) -> Result<Func, ApiError>;
    /// Functions of an app by name.
    async fn fns(&self, filter: &FuncFilter, page: &PageRequest) -> Result<Page<Func>, ApiError>;
    /// Applies a patch, serialised with every other change of the function.
    async fn update_fn(&self, id: &FnId, patch: &FuncPatch) -> Result<Func, ApiError>;
    /// Deletes a function with its triggers; answers the app it belonged to.
    async fn delete_fn(&self, id: &FnId) -> Result<AppId, ApiError>;

    /// Validates and inserts a trigger; app and function must exist and belong together.
    async fn create_trigger(&self, draft: TriggerDraft) -> Result<Trigger, ApiError>;
    /// The trigger with this id.
    async fn trigger(&self, id: &TriggerId) -> Result<Trigger, ApiError>;
    /// Triggers of an app by name.
    async fn triggers(
        &self,
        filter: &TriggerFilter,
        page: &PageRequest,
    ) -> Result<Page<Trigger>, ApiError>;
    /// The trigger of an app with exactly this source.
    async fn trigger_by_source(
        &self,
        app: &AppId,
        kind: TriggerKind,
        source: &str,
    ) -> Result<Trigger, ApiError>;
    /// Applies a patch, serialised with every other change of the trigger; a new function must
    /// belong to the trigger's app.
    async fn update_trigger(
        &self,
        id: &TriggerId,
        patch: &TriggerPatch,
    ) -> Result<Trigger, ApiError>;
    /// Deletes a trigger; answers the app it belonged to.
    async fn delete_trigger(&self, id: &TriggerId) -> Result<AppId, ApiError>;

    /// What changes from now on, whoever on the same database changes it.
    ///
    /// A change is sent when reads show it, and a change of this store before the operation that
    /// made it returns. Several servers on one PostgreSQL tell each other within milliseconds;
    /// processes that share an SQLite file notice within a tenth of a second that something
    /// changed, and not what. A receiver that lags must assume [`Change::Everything`].
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Whether the database answers; for readiness.
    async fn ping(&self) -> Result<(), ApiError>;
}
