//! Configuration maps of apps and functions: names and values that become the environment of the
//! container.

use std::collections::BTreeMap;

/// Names and values, ordered by name.
pub type ConfigMap = BTreeMap<String, String>;

/// Merges a patch into `config`: an empty value deletes its name (spec/01 1.3).
pub fn patched(config: &ConfigMap, patch: &ConfigMap) -> ConfigMap {
    let mut merged = config.clone();
    for (name, value) in patch {
        if value.is_empty() {
            merged.remove(name);
        } else {
            merged.insert(name.clone(), value.clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_deletes() {
        let map = |pairs: &[(&str, &str)]| -> ConfigMap {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let before = map(&[("a", "1"), ("b", "2")]);
        assert_eq!(
            patched(&before, &map(&[("a", ""), ("c", "3")])),
            map(&[("b", "2"), ("c", "3")])
        );
        assert_eq!(patched(&before, &map(&[("unknown", "")])), before);
    }
}
