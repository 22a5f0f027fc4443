//! Images: references, credentials, pulls, and the cleaner of unused ones.

pub(super) mod auth;
pub(super) mod cache;
pub(super) mod cleaner;
pub(super) mod pull;
pub(super) mod reference;
