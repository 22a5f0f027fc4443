//! Memory and CPU of the node: how much there is, who holds it, who waits for it (spec/04 4.7).

#[cfg(test)]
pub(crate) mod manual_task;

mod cgroup;
pub mod pool;
pub mod reserve;
pub(crate) mod room;
pub mod totals;

use domain::FnSpec;

pub use pool::{Pool, Token};

/// Bytes in a MiB, the unit of a function's limits.
pub const MIB: u64 = 1024 * 1024;

/// An amount of memory and of CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
}

impl Resources {
    /// What a container of this function holds while it exists: its memory and its `/tmp`, and its
    /// CPUs. A limit of zero (none) reserves nothing.
    pub fn of(spec: &FnSpec) -> Self {
        Self {
            memory_bytes: spec
                .memory_mb
                .saturating_add(u64::from(spec.tmpfs_mb))
                .saturating_mul(MIB),
            cpu_millis: spec.cpus.millis(),
        }
    }

    /// Neither memory nor CPU.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Whether `room` has enough of both.
    pub fn fits_in(self, room: Self) -> bool {
        self.memory_bytes <= room.memory_bytes && self.cpu_millis <= room.cpu_millis
    }

    /// The sum of both amounts, each at most `u64::MAX`.
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
        }
    }

    /// What is left of `self` without `other`, each at least zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evictor::tests::spec;

    #[test]
    fn a_container_holds_its_memory_its_tmp_and_its_cpus() {
        let mut spec = spec("f");
        spec.memory_mb = 128;
        spec.tmpfs_mb = 64;
        spec.cpus = domain::MilliCpus::new(250).expect("small");
        let held = Resources {
            memory_bytes: 192 * MIB,
            cpu_millis: 250,
        };
        assert_eq!(Resources::of(&spec), held);
        spec.memory_mb = u64::MAX;
        assert_eq!(Resources::of(&spec).memory_bytes, u64::MAX);
    }

    #[test]
    fn a_function_without_limits_holds_nothing() {
        let mut spec = spec("f");
        spec.memory_mb = 0;
        assert!(Resources::of(&spec).is_zero());
    }
}
