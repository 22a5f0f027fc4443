//! The knobs of one call: a JSON object in its body, in its `Test-Knobs` header, or in `TEST_KNOBS`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::misbehaviour;
use crate::script::Step;

/// What a call asks for. The first group is that of the original's test function (spec/03 3.7).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Knobs {
    pub(crate) echo_content: String,
    pub(crate) sleep_time: u64,
    pub(crate) is_debug: bool,
    pub(crate) is_crash: bool,
    pub(crate) is_exit: bool,
    pub(crate) exit_code: i32,
    pub(crate) read_file: String,
    pub(crate) create_file: String,
    pub(crate) create_file_size: u64,
    pub(crate) allocate_memory: usize,
    pub(crate) leak_memory: usize,
    pub(crate) trailer_repeat: usize,
    pub(crate) invalid_response: bool,
    pub(crate) post_sleep_time: u64,
    pub(crate) post_out_garbage: String,
    pub(crate) post_err_garbage: String,
    pub(crate) is_empty_body: bool,
    pub(crate) expect_headers: BTreeMap<String, Vec<String>>,
    pub(crate) return_headers: BTreeMap<String, Vec<String>>,
    pub(crate) response_code: u16,
    pub(crate) response_content_type: String,
    pub(crate) jason_content_type: String,
    pub(crate) is_shutdown: bool,

    pub(crate) wire_status: Option<u16>,
    pub(crate) no_content_type: bool,
    pub(crate) body_size: usize,
    pub(crate) busy_time: u64,
    pub(crate) allocate_until_killed: bool,
    pub(crate) open_files: usize,
    pub(crate) spawn_threads: usize,
    pub(crate) connect: String,
    pub(crate) tell: Option<Tell>,
    pub(crate) ledger: String,
    pub(crate) fail_attempts: u32,
    pub(crate) list_directory: String,
    pub(crate) misbehave: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) script: Option<Vec<Step>>,

    /// The object itself, for the answer.
    #[serde(skip)]
    pub(crate) given: Value,
}

/// A text for somebody outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tell {
    /// `HOST:PORT`.
    pub(crate) to: String,
    /// One line.
    pub(crate) text: String,
}

impl Knobs {
    /// Reads them from JSON; unknown fields and unknown names are errors, because a misspelt knob
    /// would make a test pass for the wrong reason.
    pub(crate) fn from_value(given: Value) -> Result<Self, String> {
        let read = Self::deserialize(&given).map_err(|error| format!("knobs: {error}"))?;
        let knobs = Self { given, ..read };
        knobs.script()?;
        Ok(knobs)
    }

    /// Reads them from a body. One that is no JSON object asks for nothing.
    pub(crate) fn from_body(body: &[u8]) -> Result<Self, String> {
        if !body.trim_ascii_start().starts_with(b"{") {
            return Self::from_value(Value::Object(serde_json::Map::new()));
        }
        let value = serde_json::from_slice(body).map_err(|error| format!("knobs: {error}"))?;
        Self::from_value(value)
    }

    /// The bytes to answer with instead of an honest answer, if any.
    pub(crate) fn script(&self) -> Result<Option<Vec<Step>>, String> {
        match (&self.script, &self.misbehave) {
            (Some(_), Some(_)) => Err("knobs: both script and misbehave".to_owned()),
            (Some(script), None) => Ok(Some(script.clone())),
            (None, Some(name)) => misbehaviour::script(name, self.size).map(Some),
            (None, None) if self.invalid_response => {
                misbehaviour::script("notHttp", None).map(Some)
            }
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_of_the_original_is_read_by_its_name() {
        let body =
            br#"{"echoContent":"a","sleepTime":1,"isDebug":true,"isCrash":true,"isExit":true,
            "exitCode":3,"readFile":"/a","createFile":"/b","createFileSize":4,"allocateMemory":5,
            "leakMemory":6,"trailerRepeat":7,"invalidResponse":true,"postSleepTime":8,
            "postOutGarbage":"o","postErrGarbage":"e","isEmptyBody":true,
            "expectHeaders":{"A":["1","2"]},"returnHeaders":{"B":["3"]},"responseCode":202,
            "responseContentType":"foo/bar","jasonContentType":"j/k","isShutdown":true}"#;
        let knobs = Knobs::from_body(body).unwrap();
        assert_eq!(
            (knobs.exit_code, knobs.trailer_repeat, knobs.response_code),
            (3, 7, 202)
        );
        assert_eq!(knobs.expect_headers["A"], ["1", "2"]);
        assert_eq!(knobs.given["sleepTime"], 1);
        assert!(knobs.script().unwrap().is_some());
    }

    #[test]
    fn a_body_without_knobs_asks_for_nothing() {
        for body in ["", "hello", "[1]", "{}"] {
            let knobs = Knobs::from_body(body.as_bytes()).unwrap();
            assert!(knobs.script().unwrap().is_none(), "{body}");
        }
    }

    #[test]
    fn typing_errors_are_refused() {
        let bad = [
            r#"{"sleeptime": 1}"#,
            r#"{"sleepTime": "1"}"#,
            r#"{"misbehave": "politely"}"#,
            r#"{"script": [{"say": "x"}]}"#,
            r#"{"script": [{"hex": "0x"}]}"#,
            r#"{"script": [], "misbehave": "notHttp"}"#,
            "{",
        ];
        for body in bad {
            Knobs::from_body(body.as_bytes()).unwrap_err();
        }
    }
}
