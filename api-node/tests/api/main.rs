//! The REST API over real HTTP, in front of a real SQLite file: every rule of spec/01 1.1 to 1.7 with
//! its status and message.

mod annotations;
mod apps;
mod bodies;
mod changes;
mod cors;
mod document;
mod endpoints;
mod fns;
mod node;
mod paging;
mod paths;
mod server;
mod triggers;
mod unavailable;
