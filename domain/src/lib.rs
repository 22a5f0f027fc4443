//! The vocabulary of Hearth: identifiers, models, validation rules, errors and the specification of
//! a call. Everything here is pure: no I/O, no clock of its own, no runtime.

pub mod annotations;
pub mod app;
pub mod call;
pub mod change;
pub mod container;
pub mod cpu;
pub mod env;
pub mod error;
pub mod fn_spec;
pub mod func;
pub mod id;
pub mod page;
pub mod runner;
pub mod slot_key;
pub mod timestamp;
pub mod trigger;

pub use annotations::Annotations;
pub use app::{App, AppDraft, AppPatch, Shape};
pub use call::{CallKind, CallRecord, CallState, DeadReason, NewCall};
pub use change::Change;
pub use container::ContainerState;
pub use cpu::MilliCpus;
pub use env::ConfigMap;
pub use error::{ApiError, Blame, ErrorCode};
pub use fn_spec::FnSpec;
pub use func::{Func, FuncDraft, FuncPatch};
pub use id::{AppId, CallId, FnId, IdSource, TriggerId};
pub use page::{Page, PageRequest};
pub use runner::{HostPort, HostPortError, RegisteredRunner};
pub use slot_key::SlotKey;
pub use timestamp::Timestamp;
pub use trigger::{Trigger, TriggerDraft, TriggerKind, TriggerPatch};
