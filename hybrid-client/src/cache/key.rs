//! What a cached answer is filed under, owned and borrowed, so that a lookup allocates nothing.

use hashbrown::Equivalent;

/// A question that the cache answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The target with this function id.
    Fn(Box<str>),
    /// The target of the HTTP trigger with this source, in the app of this name.
    Trigger {
        app_name: Box<str>,
        source: Box<str>,
    },
}

/// A borrowed [`Key`]; it hashes as the owned one, since both derive `Hash` over the same variants.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) enum KeyRef<'a> {
    Fn(&'a str),
    Trigger { app_name: &'a str, source: &'a str },
}

impl KeyRef<'_> {
    pub(super) fn to_key(self) -> Key {
        match self {
            Self::Fn(id) => Key::Fn(id.into()),
            Self::Trigger { app_name, source } => Key::Trigger {
                app_name: app_name.into(),
                source: source.into(),
            },
        }
    }
}

impl Key {
    pub(super) fn as_ref(&self) -> KeyRef<'_> {
        match self {
            Self::Fn(id) => KeyRef::Fn(id),
            Self::Trigger { app_name, source } => KeyRef::Trigger { app_name, source },
        }
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::Fn(left), Key::Fn(right)) => **left == **right,
            (
                Self::Trigger { app_name, source },
                Key::Trigger {
                    app_name: other_app,
                    source: other_source,
                },
            ) => **source == **other_source && **app_name == **other_app,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashMap;

    #[test]
    fn a_borrowed_key_finds_the_owned_one_and_no_other() {
        let keys = [
            KeyRef::Fn("a"),
            KeyRef::Fn("b"),
            KeyRef::Trigger {
                app_name: "a",
                source: "/b",
            },
            KeyRef::Trigger {
                app_name: "a/b",
                source: "",
            },
        ];
        let map: HashMap<Key, usize> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| (key.to_key(), at))
            .collect();
        assert_eq!(map.len(), keys.len());
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(map.get(key), Some(&at));
        }
    }
}
