//! The store and the REST API over it.

use std::sync::Arc;

use anyhow::Context as _;
use api_node::calls::Calls;
use api_node::rest::{ApiSettings, ApiState, FrontDoor};
use api_node::store::{self, OpenOptions, Store};
use nodekit::admin_routes::AdminRoutes;
use nodekit::api_metrics::ApiMetrics;
use nodekit::request_id::RequestIds;

use super::Base;

/// Opens the store, and keeps the readiness up to date with it.
pub(super) async fn open_store(base: &Base) -> anyhow::Result<Arc<dyn Store>> {
    let api = &base.configuration.api;
    let options = OpenOptions {
        ping_max_retries: api.ds_db_ping_max_retries,
        ids: Arc::clone(&base.ids),
        clock: store::wall_clock(),
        cancel: base.shutdown.token().clone(),
    };
    let store = store::open(&api.db_url, options)
        .await
        .context("FN_DB_URL")?;
    let asked = Arc::clone(&store);
    base.watch("store", move || {
        let store = Arc::clone(&asked);
        async move { store.ping().await }
    });
    Ok(store)
}

/// What the REST API is made of.
pub(super) fn state(
    base: &Base,
    store: Arc<dyn Store>,
    metrics: ApiMetrics,
    admin: AdminRoutes,
    request_ids: Option<RequestIds>,
    calls: Option<Calls>,
    front_door: FrontDoor,
) -> ApiState {
    let (api, node) = (&base.configuration.api, &base.configuration.node);
    ApiState {
        store,
        settings: Arc::new(ApiSettings {
            public_url: Some(api.public_lb_url.clone()).filter(|url| !url.is_empty()),
            cors_origins: node.api_cors_origins.clone(),
            cors_headers: node.api_cors_headers.clone(),
            request_ids,
            front_door,
            ..ApiSettings::default()
        }),
        ids: Arc::clone(&base.ids),
        metrics,
        admin,
        calls,
        stop: base.shutdown.token().clone(),
    }
}
