//! Placement: which runner a call is sent to. Pure: no I/O, no runtime, no clock and no randomness
//! of its own, so that the load balancer and the simulator run the very same code.
//!
//! Events go into the [`Fleet`], a [`Placer`] reads it:
//!
//! ```text
//!  state feed, answers, probes ──► Fleet ◄── choose ── Placer
//! ```
//!
//! The caller asks [`Placer::choose`], reports [`Fleet::begun`], sends the call, and reports
//! [`Fleet::ended`]. A runner that did not take the call goes into [`Ask::tried`] and the caller
//! asks again, until the answer is `None`: then the pass is over, and it waits until
//! [`Fleet::generation`] has changed or [`Fleet::wake_at`] has come.

pub mod fleet;
pub mod placer;

mod ch;
mod ewma;
mod functions;
mod health;
pub(crate) mod jump_hash;
mod naive;
pub(crate) mod random;
mod ring;
pub(crate) mod runner;
mod settings;
mod slowness;
mod wait;

pub use fleet::Fleet;
pub use fleet::events::{Ended, FunctionState, NodeLoad, RunnerState, RunnerView};
pub use health::Health;
pub use placer::{Ask, Placer, PlacerKind, UnknownPlacer};
pub use runner::RunnerId;
pub use settings::FleetSettings;

/// Time since some fixed instant of the owner: a process's start, or a simulation's.
pub type Now = std::time::Duration;
