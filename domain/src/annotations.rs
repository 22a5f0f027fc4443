//! Annotations: free JSON values under short keys, with their limits and merge rules (spec/01 1.6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{ApiError, ErrorCode};

const MAX_KEYS: usize = 100;
const MAX_KEY_BYTES: usize = 128;
const MAX_VALUE_BYTES: usize = 512;

/// A map of annotation keys to JSON values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Annotations(BTreeMap<String, Value>);

impl Annotations {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Sets `key` without checking any limit: for what the server itself adds to its output.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Checks the annotations of something new.
    ///
    /// # Errors
    /// The first rule of spec/01 1.6 that a key, a value or their number breaks.
    pub fn validate(&self) -> Result<(), ApiError> {
        for (key, value) in &self.0 {
            check_key(key)?;
            if deletes(value) {
                return Err(ErrorCode::AnnotationInvalidValue.into());
            }
            check_value_length(value)?;
        }
        self.check_count()
    }

    /// Merges a patch: `""` and `null` delete their key, everything else is set. The limit on the
    /// number of keys holds for the result.
    ///
    /// # Errors
    /// The rule that a key, a value or the number of keys breaks; `self` is unchanged then.
    pub fn patched(&self, patch: &Self) -> Result<Self, ApiError> {
        let mut merged = self.clone();
        for (key, value) in &patch.0 {
            check_key(key)?;
            if deletes(value) {
                merged.0.remove(key);
            } else {
                check_value_length(value)?;
                merged.0.insert(key.clone(), value.clone());
            }
        }
        merged.check_count()?;
        Ok(merged)
    }

    /// These annotations with those of `over` on top.
    pub fn overlaid(&self, over: &Self) -> Self {
        let mut merged = self.clone();
        merged.0.extend(over.0.clone());
        merged
    }

    fn check_count(&self) -> Result<(), ApiError> {
        if self.0.len() > MAX_KEYS {
            return Err(ErrorCode::AnnotationTooMany.into());
        }
        Ok(())
    }
}

impl FromIterator<(String, Value)> for Annotations {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

fn deletes(value: &Value) -> bool {
    matches!(value, Value::Null) || value.as_str() == Some("")
}

fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ErrorCode::AnnotationInvalidKey.into());
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(ErrorCode::AnnotationKeyTooLong.into());
    }
    Ok(())
}

fn check_value_length(value: &Value) -> Result<(), ApiError> {
    if value.to_string().len() > MAX_VALUE_BYTES {
        return Err(ErrorCode::AnnotationValueTooLong.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(key: &str, value: Value) -> Annotations {
        Annotations([(key.to_owned(), value)].into())
    }

    fn many(count: usize) -> Annotations {
        (0..count).map(|n| (format!("k{n}"), json!(n))).collect()
    }

    #[track_caller]
    fn refused(annotations: &Annotations, code: ErrorCode) {
        assert_eq!(
            annotations.validate().expect_err("must be refused").code(),
            code
        );
    }

    #[test]
    fn limits_of_keys_values_and_their_number() {
        for key in ["", "with space", "ümlaut", "tab\t"] {
            refused(&one(key, json!(1)), ErrorCode::AnnotationInvalidKey);
        }
        one(&"k".repeat(128), json!(1))
            .validate()
            .expect("128 bytes are allowed");
        refused(
            &one(&"k".repeat(129), json!(1)),
            ErrorCode::AnnotationKeyTooLong,
        );
        for value in [json!(null), json!("")] {
            refused(&one("k", value), ErrorCode::AnnotationInvalidValue);
        }
        for value in [
            json!([]),
            json!({}),
            json!(true),
            json!(1.5),
            json!("v".repeat(510)),
        ] {
            one("k", value)
                .validate()
                .expect("a value of this kind is allowed");
        }
        refused(
            &one("k", json!("v".repeat(511))),
            ErrorCode::AnnotationValueTooLong,
        );
        many(100).validate().expect("100 keys are allowed");
        refused(&many(101), ErrorCode::AnnotationTooMany);
    }

    #[test]
    fn a_patch_sets_and_deletes() {
        let before = one("keep", json!(1)).overlaid(&one("gone", json!(2)));
        let patch = one("gone", json!("")).overlaid(&one("new", json!([])));
        let after = before.patched(&patch).expect("a valid patch");
        assert_eq!(
            after,
            one("keep", json!(1)).overlaid(&one("new", json!([])))
        );
        assert_eq!(
            after
                .patched(&one("new", json!(null)))
                .expect("null deletes"),
            one("keep", json!(1))
        );
    }

    #[test]
    fn a_full_map_takes_a_new_key_only_for_an_old_one() {
        let error = many(100)
            .patched(&one("new", json!(1)))
            .expect_err("one too many");
        assert_eq!(error.code(), ErrorCode::AnnotationTooMany);
        let swap = one("new", json!(1)).overlaid(&one("k0", json!("")));
        many(100).patched(&swap).expect("one in, one out");
    }
}
