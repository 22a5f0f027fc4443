//! What the handlers share: the store and the settings.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::IdSource;
use domain::call::new_call::DEFAULT_MAX_BODY;
use nodekit::admin_routes::AdminRoutes;
use nodekit::api_metrics::ApiMetrics;
use nodekit::request_id::RequestIds;

use tokio_util::sync::CancellationToken;

use crate::calls::Calls;
use crate::store::Store;

/// Whether `/invoke` and `/t` are served by the same listener, and so belong into its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontDoor {
    /// They are.
    Beside,
    /// They are served elsewhere, by load balancers.
    Elsewhere,
}

/// The settings of the API (spec/01 1.1).
#[derive(Debug)]
pub struct ApiSettings {
    /// `FN_PUBLIC_LB_URL`: the base of the endpoints shown in annotations; without it, the base is
    /// how the client reached this server.
    pub public_url: Option<String>,
    /// Whether this listener speaks TLS, so that the endpoints start with `https`.
    pub tls: bool,
    /// How long a client may take to send a body of the API, beside the limits of the listener.
    pub body_timeout: Duration,
    /// `FN_API_CORS_ORIGINS`; CORS is off when empty, and open to all when `*` comes first.
    pub cors_origins: Vec<String>,
    /// `FN_API_CORS_HEADERS`; replaces the allowed request headers when not empty.
    pub cors_headers: Vec<String>,
    /// The header that carries request ids (`FN_RID_HEADER`); off when absent.
    pub request_ids: Option<RequestIds>,
    /// `FN_MAX_CALL_BODY`: the largest input of a durable call, in bytes.
    pub max_call_body: usize,
    /// Whether the document describes `/invoke` and `/t`.
    pub front_door: FrontDoor,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            public_url: None,
            tls: false,
            body_timeout: Duration::from_secs(30),
            cors_origins: Vec::new(),
            cors_headers: Vec::new(),
            request_ids: None,
            max_call_body: DEFAULT_MAX_BODY,
            front_door: FrontDoor::Elsewhere,
        }
    }
}

/// What a router is made of. Cloning is cheap.
#[derive(Clone)]
pub struct ApiState {
    /// Where apps, functions and triggers are kept.
    pub store: Arc<dyn Store>,
    /// The settings.
    pub settings: Arc<ApiSettings>,
    /// Makes the id of a request that brought none.
    pub ids: Arc<IdSource>,
    /// Where requests are counted.
    pub metrics: ApiMetrics,
    /// What every node serves.
    pub admin: AdminRoutes,
    /// The calls that are kept, on a server that keeps some.
    pub calls: Option<Calls>,
    /// Ends answers that would go on, as those that follow a log, when this server ends.
    pub stop: CancellationToken,
}

impl ApiState {
    /// A new request id.
    pub(super) fn new_id(&self) -> Arc<str> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.ids
            .next(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
