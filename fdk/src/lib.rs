//! A small kit for writing functions for Hearth (and the Fn Project) in Rust.
//!
//! A function is an async closure or `async fn` that takes a [`Context`] and a [`Body`] and returns
//! something that becomes a [`Response`]:
//!
//! ```no_run
//! use hearth_fdk::{Body, Context, Error, Response};
//!
//! async fn greet(_ctx: Context, body: Body) -> Result<Response, Error> {
//!     let name = body.text().await?;
//!     Ok(Response::text(format!("Hello {name}")))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     hearth_fdk::run(greet)
//! }
//! ```
//!
//! The platform starts the program in a container, waits for its Unix socket, and sends it one call
//! at a time (spec/03 3.1). What the kit answers:
//!
//! | the handler | status | the client of `/invoke` sees |
//! |---|---|---|
//! | returns a response | 200 | the response |
//! | returns an error, or panics | 502 | `function failed`; the error is on stderr |
//! | is not done by the call's deadline | 504 | `Timed out`; the handler is dropped |
//!
//! One thread runs the handler and the connection: work that keeps it busy belongs in
//! [`tokio::task::spawn_blocking`](https://docs.rs/tokio/latest/tokio/task/fn.spawn_blocking.html),
//! or the deadline cannot be kept.
//!
//! stdout and stderr are the function's log: the kit writes nothing but errors, to stderr. On
//! SIGTERM the running call is finished and the program ends with exit code 0.

mod body;
mod call;
mod context;
mod deadline;
mod error;
mod response;
mod server;
mod settings;
mod socket;
mod streaming;
mod timer;

pub use body::Body;
pub use bytes::Bytes;
pub use context::{Context, Intent};
pub use error::Error;
pub use http;
pub use response::Response;
pub use server::{run, serve, serve_until};
pub use settings::Settings;
pub use streaming::Writer;

/// What the kit calls itself in the `Fn-Fdk-Version` header of every answer.
pub const VERSION: &str = concat!("hearth-fdk-rust/", env!("CARGO_PKG_VERSION"));
