//! The key under which calls share containers: a hash over everything that a container is made of
//! (spec/04 4.4).

use std::fmt;

use sha2::{Digest, Sha256};

use crate::fn_spec::FnSpec;

/// SHA-256 of a function's identity, image, limits and environment. Two calls with one key may use
/// the same container.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey([u8; 32]);

impl SlotKey {
    /// The key of `spec`, with `extensions` added by the container driver.
    pub fn of(spec: &FnSpec, extensions: &str) -> Self {
        let mut hash = Sha256::new();
        let texts = [
            spec.app_id.as_str(),
            spec.syslog_url.as_deref().unwrap_or_default(),
            spec.fn_id.as_str(),
            &spec.image,
        ];
        for text in texts {
            hash.update(text);
            hash.update([0]);
        }
        let seconds =
            |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        hash.update(seconds(spec.timeout).to_le_bytes());
        hash.update(seconds(spec.idle_timeout).to_le_bytes());
        hash.update(spec.tmpfs_mb.to_le_bytes());
        hash.update(spec.memory_mb.to_le_bytes());
        hash.update(spec.cpus.millis().to_le_bytes());
        hash.update([0]);
        for (name, value) in &spec.env {
            hash.update(name);
            hash.update([0]);
            hash.update(value);
            hash.update([0]);
        }
        hash.update([0]);
        for (key, value) in spec.annotations.iter() {
            hash.update(key);
            hash.update([0]);
            hash.update(value.to_string());
            hash.update([0]);
        }
        if !extensions.is_empty() {
            hash.update(extensions);
            hash.update([0]);
        }
        Self(hash.finalize().into())
    }

    /// A key that another node has told.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for SlotKey {
    /// The key as another node tells it.
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
