//! All that a runner must know to run calls of one function: the function and its app, merged and
//! frozen. It is made once per version of the function, not once per call.

use std::time::Duration;

use crate::annotations::Annotations;
use crate::app::App;
use crate::cpu::MilliCpus;
use crate::env::ConfigMap;
use crate::func::Func;
use crate::id::{AppId, FnId};
use crate::slot_key::SlotKey;

/// The frozen specification of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct FnSpec {
    /// The app.
    pub app_id: AppId,
    /// The app's name.
    pub app_name: String,
    /// The function.
    pub fn_id: FnId,
    /// The function's name.
    pub fn_name: String,
    /// The container image.
    pub image: String,
    /// Memory limit in MiB; zero for none.
    pub memory_mb: u64,
    /// CPU limit; zero for none.
    pub cpus: MilliCpus,
    /// Size of `/tmp` in MiB; zero for the driver's default.
    pub tmpfs_mb: u32,
    /// The longest execution.
    pub timeout: Duration,
    /// How long an idle container is kept.
    pub idle_timeout: Duration,
    /// The environment of the container, without what the runner adds (spec/03 3.1).
    pub env: ConfigMap,
    /// The app's annotations with the function's on top.
    pub annotations: Annotations,
    /// Where the container's output goes.
    pub syslog_url: Option<String>,
}

impl FnSpec {
    /// Merges a function with its app. The platform's `FN_*` values win over the function's
    /// configuration, which wins over the app's.
    pub fn new(app: &App, func: &Func) -> Self {
        let mut env = app.config.clone();
        env.extend(func.config.clone());
        let platform = [
            ("FN_APP_ID", app.id.as_str()),
            ("FN_APP_NAME", &app.name),
            ("FN_FN_ID", func.id.as_str()),
            ("FN_FN_NAME", &func.name),
            ("FN_MEMORY", &func.memory.to_string()),
            ("FN_TYPE", "sync"),
        ];
        for (name, value) in platform {
            env.insert(name.to_owned(), value.to_owned());
        }
        let seconds = |count: i64| Duration::from_secs(count.unsigned_abs());
        Self {
            app_id: app.id.clone(),
            app_name: app.name.clone(),
            fn_id: func.id.clone(),
            fn_name: func.name.clone(),
            image: func.image.clone(),
            memory_mb: func.memory,
            cpus: MilliCpus::default(),
            tmpfs_mb: 0,
            timeout: seconds(func.timeout),
            idle_timeout: seconds(func.idle_timeout),
            env,
            annotations: app.annotations.overlaid(&func.annotations),
            syslog_url: app.syslog_url.clone(),
        }
    }

    /// The key under which calls of this specification share containers.
    pub fn slot_key(&self) -> SlotKey {
        SlotKey::of(self, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppDraft;
    use crate::func::FuncDraft;
    use crate::timestamp::Timestamp;

    fn config(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn spec() -> FnSpec {
        let now = Timestamp::from_unix_millis(1);
        let app = AppDraft {
            name: "a".into(),
            config: config(&[("A", "app"), ("BOTH", "app"), ("FN_TYPE", "app")]),
            ..AppDraft::default()
        };
        let app = App::create(app, AppId::from("app-id"), now).expect("valid");
        let func = FuncDraft {
            app_id: "app-id".into(),
            name: "f".into(),
            image: "x/y:1".into(),
            config: config(&[("F", "fn"), ("BOTH", "fn"), ("FN_MEMORY", "fn")]),
            ..FuncDraft::default()
        };
        let func = Func::create(func, None, FnId::from("fn-id"), now).expect("valid");
        FnSpec::new(&app, &func)
    }

    #[test]
    fn the_function_wins_over_the_app_and_the_platform_over_both() {
        let expected = config(&[
            ("A", "app"),
            ("BOTH", "fn"),
            ("F", "fn"),
            ("FN_APP_ID", "app-id"),
            ("FN_APP_NAME", "a"),
            ("FN_FN_ID", "fn-id"),
            ("FN_FN_NAME", "f"),
            ("FN_MEMORY", "128"),
            ("FN_TYPE", "sync"),
        ]);
        assert_eq!(spec().env, expected);
    }

    #[test]
    fn every_part_of_a_container_changes_the_key() {
        let key = spec().slot_key();
        assert_eq!(key, spec().slot_key());
        let changes: [fn(&mut FnSpec); 11] = [
            |s| s.app_id = AppId::from("other"),
            |s| s.fn_id = FnId::from("other"),
            |s| s.syslog_url = Some("tcp://h:1".into()),
            |s| s.image.push('2'),
            |s| s.timeout = Duration::from_secs(1),
            |s| s.idle_timeout = Duration::from_secs(1),
            |s| s.tmpfs_mb = 1,
            |s| s.memory_mb = 1,
            |s| s.cpus = MilliCpus::new(1).expect("small"),
            |s| drop(s.env.insert("NEW".into(), "x".into())),
            |s| s.annotations.set("k", 1),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = spec();
            change(&mut other);
            assert_ne!(other.slot_key(), key, "change {at}");
        }
    }
}
