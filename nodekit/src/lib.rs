//! What every server process does the same way: bodies, settings, telemetry, metrics, listeners,
//! shutdown. Nothing here knows a kind of node.

pub mod admin_routes;
pub mod api_metrics;
pub mod body;
pub mod config;
pub mod error_response;
pub mod exchange;
pub mod grpc_channel;
pub mod grpc_server;
pub mod hop;
pub mod http_server;
pub mod metrics;
pub mod readiness;
pub mod request_id;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace_context;
pub mod trigger_headers;
