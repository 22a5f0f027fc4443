//! What tells requests apart that carry one idempotency key: verb, path, query, content type and
//! body. Other headers differ between two tries of one request, and so does the name by which a
//! client reaches the platform.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::new_call::NewCall;

/// The fingerprint of a request for `url`, which may be absolute.
pub fn fingerprint(method: &str, url: &str, content_type: &str, body: &[u8]) -> Bytes {
    let mut hash = Sha256::new();
    for part in [method, path_and_query(url), content_type] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(body);
    Bytes::copy_from_slice(&hash.finalize())
}

impl NewCall {
    /// See [`fingerprint`].
    pub fn fingerprint(&self) -> Bytes {
        let content_type = self.headers.get("content-type").unwrap_or_default();
        fingerprint(&self.method, &self.url, content_type, &self.body)
    }
}

fn path_and_query(url: &str) -> &str {
    match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_request_has_another_fingerprint_and_another_host_has_not() {
        let first = fingerprint("POST", "http://a/t/x/y?z", "text/plain", b"body");
        for same in ["https://b:1/t/x/y?z", "/t/x/y?z"] {
            assert_eq!(fingerprint("POST", same, "text/plain", b"body"), first);
        }
        for (method, url, content_type, body) in [
            ("PUT", "/t/x/y?z", "text/plain", "body"),
            ("POST", "/t/x/y", "text/plain", "body"),
            ("POST", "/t/x/y?z", "text/html", "body"),
            ("POST", "/t/x/y?z", "text/plain", "bod"),
            ("POST", "/t/x/y?z", "text/plai", "nbody"),
        ] {
            assert_ne!(
                fingerprint(method, url, content_type, body.as_bytes()),
                first
            );
        }
        assert_eq!(path_and_query("http://a"), "/");
    }
}
