//! The http-stream contract between the agent and one container (spec/03 3.1): the directory of the
//! function's socket, the safe opening of that socket, and calls over it.
//!
//! ```text
//! SocketDir::create ─► container starts ─► SocketDir::ready ─► Link ─► Dispatcher::dispatch ─► Link …
//! ```

mod answer;
mod call;
mod connection;
mod dir_removal;
mod dispatch;
mod exchange;
mod link;
mod listener_watch;
mod outcome;
mod pump;
mod socket_dir;
mod socket_open;
mod unread;

pub use answer::Answer;
pub use call::Call;
pub use dispatch::{DispatchError, Dispatcher, Limits};
pub use link::Link;
pub use outcome::{Cause, Outcome, Report};
pub use socket_dir::{SocketDir, SocketDirConfig};
pub use socket_open::{Refusal, Socket};

#[cfg(test)]
mod tests;
