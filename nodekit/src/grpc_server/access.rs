//! Who may ask for what: each method of a node is for one kind of node, and there are no others.

use crate::tls::{Role, Roles};

/// The methods that a node serves, by their paths, and the role that a caller must have. What is not
/// in the list is not served, whoever asks; so a new method is not open before somebody has decided
/// for whom it is.
#[derive(Debug, Clone, Copy)]
pub struct Access(pub &'static [(&'static str, Role)]);

/// Why a call is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is no such method.
    Unknown,
    /// It is for nodes of this role.
    NotFor(Role),
}

impl Access {
    /// Whether one with `roles` may call the method at `path`; without TLS nobody has any, and all
    /// are let in.
    pub(super) fn check(self, path: &str, roles: Option<Roles>) -> Result<(), Denied> {
        let Self(methods) = self;
        let method = methods.iter().find(|(method, _)| *method == path);
        let (_, role) = method.ok_or(Denied::Unknown)?;
        match roles {
            Some(roles) if !roles.contain(*role) => Err(Denied::NotFor(*role)),
            _ => Ok(()),
        }
    }
}
