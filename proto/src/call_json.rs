//! The call as the runner protocol carries it: the JSON document `TryCall.models_call_json`
//! (spec/08 8.2, spec/13 13.5).
//!
//! Whoever reads it takes what an original load balancer writes: unknown fields are ignored, and
//! empty ones may be missing.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Annotations, AppId, CallId, FnId, FnSpec, MilliCpus, Timestamp};
use serde::{Deserialize, Serialize};

/// Environment entries that carry what the document has no field for.
const FN_NAME: &str = "FN_FN_NAME";

/// A call that no longer than its connection may run.
pub const SYNC: &str = "sync";
/// A call that is answered when it starts.
pub const DETACHED: &str = "detached";

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallJson {
    pub id: CallId,
    pub status: String,
    pub image: String,
    /// `sync` or `detached`.
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    pub method: String,
    /// Seconds.
    pub timeout: u64,
    /// Seconds.
    pub idle_timeout: u64,
    /// MiB.
    #[serde(skip_serializing_if = "is_zero")]
    pub tmpfs_size: u32,
    /// MiB.
    pub memory: u64,
    #[serde(skip_serializing_if = "is_unlimited")]
    pub cpus: MilliCpus,
    #[serde(deserialize_with = "null_is_default")]
    pub config: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub annotations: Annotations,
    #[serde(deserialize_with = "null_is_default")]
    pub headers: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syslog_url: Option<String>,
    pub completed_at: Timestamp,
    pub created_at: Timestamp,
    pub started_at: Timestamp,
    pub app_id: AppId,
    pub app_name: String,
    pub trigger_id: String,
    pub fn_id: FnId,
}

impl Default for CallJson {
    fn default() -> Self {
        Self {
            id: CallId::from(""),
            status: String::new(),
            image: String::new(),
            kind: String::new(),
            url: String::new(),
            method: String::new(),
            timeout: 0,
            idle_timeout: 0,
            tmpfs_size: 0,
            memory: 0,
            cpus: MilliCpus::default(),
            config: BTreeMap::new(),
            annotations: Annotations::default(),
            headers: BTreeMap::new(),
            syslog_url: None,
            completed_at: Timestamp::UNSET,
            created_at: Timestamp::UNSET,
            started_at: Timestamp::UNSET,
            app_id: AppId::from(""),
            app_name: String::new(),
            trigger_id: String::new(),
            fn_id: FnId::from(""),
        }
    }
}

impl CallJson {
    /// What all calls of the function have in common.
    pub fn of_function(spec: &FnSpec) -> Self {
        Self {
            status: "running".to_owned(),
            image: spec.image.clone(),
            kind: SYNC.to_owned(),
            timeout: spec.timeout.as_secs(),
            idle_timeout: spec.idle_timeout.as_secs(),
            tmpfs_size: spec.tmpfs_mb,
            memory: spec.memory_mb,
            cpus: spec.cpus,
            config: spec.env.clone(),
            annotations: spec.annotations.clone(),
            syslog_url: spec.syslog_url.clone(),
            app_id: spec.app_id.clone(),
            app_name: spec.app_name.clone(),
            fn_id: spec.fn_id.clone(),
            ..Self::default()
        }
    }

    /// The function of the call. Its name is known only if the sender put it into the environment.
    pub fn fn_spec(self) -> FnSpec {
        FnSpec {
            fn_name: self.config.get(FN_NAME).cloned().unwrap_or_default(),
            app_id: self.app_id,
            app_name: self.app_name,
            fn_id: self.fn_id,
            image: self.image,
            memory_mb: self.memory,
            cpus: self.cpus,
            tmpfs_mb: self.tmpfs_size,
            timeout: Duration::from_secs(self.timeout),
            idle_timeout: Duration::from_secs(self.idle_timeout),
            env: self.config,
            annotations: self.annotations,
            syslog_url: self.syslog_url,
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_unlimited(cpus: &MilliCpus) -> bool {
    cpus.millis() == 0
}

/// Go writes an empty map as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec/13 13.5
    #[test]
    fn reads_what_an_original_load_balancer_writes() {
        let text = r#"{"id":"01M8","status":"running","image":"x/y:1","type":"sync","url":"http://lb:8080/invoke/01F","method":"POST",
            "timeout":30,"idle_timeout":31,"memory":64,"config":{"AK":"AV","FN_FN_NAME":"f"},"annotations":{"a":[1]},
            "headers":{"Accept":["*/*"],"X-Foo":["bar","baz"]},"completed_at":"0001-01-01T00:00:00.000Z",
            "created_at":"2019-03-01T10:00:00.000Z","started_at":"0001-01-01T00:00:00.000Z","app_id":"01A","app_name":"a",
            "trigger_id":"","fn_id":"01F","something_new":{"x":1}}"#;
        let call: CallJson = serde_json::from_str(text).expect("a call");
        assert_eq!(call.id.as_str(), "01M8");
        assert_eq!(call.headers["X-Foo"], ["bar", "baz"]);
        let spec = call.fn_spec();
        assert_eq!((spec.image.as_str(), spec.memory_mb), ("x/y:1", 64));
        assert_eq!(
            (spec.timeout.as_secs(), spec.idle_timeout.as_secs()),
            (30, 31)
        );
        assert_eq!((spec.fn_name.as_str(), spec.app_name.as_str()), ("f", "a"));
        assert_eq!(spec.env["AK"], "AV");
        assert!(spec.annotations.get("a").is_some());
    }

    #[test]
    fn null_maps_are_empty() {
        let text =
            r#"{"config":null,"annotations":null,"headers":null,"cpus":null,"syslog_url":null}"#;
        let call: CallJson = serde_json::from_str(text).expect("a call");
        assert_eq!(call, CallJson::default());
    }

    #[test]
    fn a_function_is_the_same_on_both_sides() {
        let mut call = CallJson {
            image: "x/y:1".into(),
            timeout: 30,
            idle_timeout: 40,
            tmpfs_size: 5,
            memory: 64,
            cpus: MilliCpus::new(1500).expect("small"),
            syslog_url: Some("tcp://h:1".into()),
            app_id: AppId::from("A"),
            app_name: "a".into(),
            fn_id: FnId::from("F"),
            ..CallJson::default()
        };
        call.config.insert("K".into(), "V".into());
        call.config.insert("FN_FN_NAME".into(), "f".into());
        call.annotations.set("k", "v");
        let spec = call.fn_spec();
        let text = serde_json::to_string(&CallJson::of_function(&spec)).expect("JSON");
        let read: CallJson = serde_json::from_str(&text).expect("a call");
        let read = read.fn_spec();
        assert_eq!(read, spec);
        assert_eq!(read.slot_key(), spec.slot_key());
    }
}
