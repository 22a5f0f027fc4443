//! Who may act for a runner: over mutual TLS, only the runner itself.

use nodekit::tls::PeerIdentity;
use tonic::{Request, Status};

use super::request;

/// The name in the certificate of whoever sent `request`; none where nodes speak no TLS.
pub(super) fn identity<T>(request: &Request<T>) -> Option<PeerIdentity> {
    request.extensions().get().cloned()
}

/// Whether one whose certificate names `identity` may act as the runner `runner_id`: it must be
/// named so, or so and a slash and what tells its starts apart.
///
/// # Errors
/// It is no id: `INVALID_ARGUMENT`. It is another one's: `PERMISSION_DENIED`.
pub(super) fn runner(identity: Option<&PeerIdentity>, runner_id: &str) -> Result<(), Status> {
    request::runner_id(runner_id)?;
    authorize(identity.map(PeerIdentity::as_str), runner_id)
}

fn authorize(identity: Option<&str>, runner_id: &str) -> Result<(), Status> {
    let Some(identity) = identity else {
        return Ok(());
    };
    match runner_id.strip_prefix(identity) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(()),
        _ => Err(Status::permission_denied(format!(
            "runner_id: the certificate is of {identity}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_runner_acts_for_itself_only() {
        let allowed = [
            (None, "anyone"),
            (Some("runner-1"), "runner-1"),
            (Some("runner-1"), "runner-1/01F8"),
        ];
        for (identity, id) in allowed {
            assert!(authorize(identity, id).is_ok(), "{identity:?} {id}");
        }
        let refused = [
            (Some("runner-1"), "runner-10"),
            (Some("runner-1"), "runner-2"),
            (Some("runner-1"), "runner"),
            (Some("runner-1"), "x/runner-1"),
        ];
        for (identity, id) in refused {
            let status = authorize(identity, id).expect_err("another one");
            assert_eq!(status.code(), Code::PermissionDenied, "{identity:?} {id}");
        }
    }
}
