//! Configuration maps of apps and functions: names and values that become the environment of the
//! container.

use std::collections::BTreeMap;

use crate::{ApiError, ErrorCode};

/// Names and values, ordered by name.
pub type ConfigMap = BTreeMap<String, String>;

/// Merges a patch into `config`: an empty value deletes its name (spec/01 1.3).
///
/// # Errors
/// `ConfigInvalidKey` for a name that no environment can hold: its container could not be created,
/// or would have another variable.
pub fn patched(config: &ConfigMap, patch: &ConfigMap) -> Result<ConfigMap, ApiError> {
    let mut merged = config.clone();
    for (name, value) in patch {
        if value.is_empty() {
            merged.remove(name);
        } else if name.is_empty() || name.contains('=') {
            return Err(ErrorCode::ConfigInvalidKey.into());
        } else {
            merged.insert(name.clone(), value.clone());
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_empty_value_deletes() {
        let before = map(&[("a", "1"), ("b", "2")]);
        let patched = |patch| patched(&before, &map(patch)).expect("good names");
        assert_eq!(
            patched(&[("a", ""), ("c", "3")]),
            map(&[("b", "2"), ("c", "3")])
        );
        assert_eq!(patched(&[("unknown", "")]), before);
    }

    #[test]
    fn a_name_that_no_environment_can_hold_is_refused_but_can_be_deleted() {
        for name in ["", "=", "a=b"] {
            let before = map(&[(name, "1")]);
            let refused = patched(&ConfigMap::new(), &before).expect_err(name);
            assert_eq!(refused.code(), ErrorCode::ConfigInvalidKey);
            let deleted = patched(&before, &map(&[(name, "")]));
            assert_eq!(deleted.expect("deleted"), ConfigMap::new());
        }
    }
}
