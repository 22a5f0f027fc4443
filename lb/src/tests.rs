//! What tests of several modules need.

use std::time::Duration;

use domain::{Annotations, AppId, FnId, FnSpec, MilliCpus};

/// A function.
pub(crate) fn spec() -> FnSpec {
    FnSpec {
        app_id: AppId::from("A"),
        app_name: "a".into(),
        fn_id: FnId::from("F"),
        fn_name: "f".into(),
        image: "x/y:1".into(),
        memory_mb: 64,
        cpus: MilliCpus::default(),
        tmpfs_mb: 0,
        timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(30),
        env: Default::default(),
        annotations: Annotations::default(),
        syslog_url: None,
    }
}
