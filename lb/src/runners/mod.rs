//! The runners that a load balancer knows: found, connected to, looked after, and given calls.
//!
//! ```text
//!  static, DNS, registration, nodes ──► roster ──► members ──► Fleet ◄── placers
//!                                                  │ links       ▲
//!                                                  └ checks, feeds, ends of calls
//! ```

mod back_off;
mod member;
mod pace;
mod roster;
mod running;
mod sources;
mod table;
mod waiters;

pub use sources::{DirectoryWatch, NodeStore, RunnerDirectory, Sources};
pub use table::{Runners, RunnersParts, RunnersSettings};

pub(crate) use back_off::BackOff;
pub(crate) use running::Running;
pub(crate) use table::Shared;
