//! What is told to those who keep answers of the control plane.

use crate::{AppId, FnId};

/// Something that was created, changed or deleted, so that what is cached of it is stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// An app, and with it whatever was looked up by its name.
    App(AppId),
    /// A function.
    Fn(FnId),
    /// A trigger of the app was created, changed or deleted.
    Triggers(AppId),
    /// Changes may have been missed: nothing that was read before is certain.
    Everything,
}
