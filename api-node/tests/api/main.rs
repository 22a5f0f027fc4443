//! The REST API over real HTTP, in front of a real SQLite file: every rule of spec/01 1.1 to 1.7 with
//! its status and message; and the hybrid service over real gRPC.

mod annotations;
mod apps;
mod bodies;
mod calls;
mod changes;
mod cors;
mod document;
mod endpoints;
mod fns;
mod hybrid;
mod node;
mod paging;
mod paths;
#[path = "../support/postgres.rs"]
mod postgres;
mod server;
mod triggers;
mod unavailable;
