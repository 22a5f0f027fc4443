//! What every server process does the same way: bodies, settings, telemetry, metrics, listeners,
//! shutdown. Nothing here knows a kind of node.

pub mod body;
pub mod exchange;
