//! Identifiers: 26 characters that sort by creation time (spec/09 9.5), and one newtype per thing
//! that has an identifier.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TEXT_LEN: usize = 26;

/// Makes identifiers: 48 bits of milliseconds, 48 bits that name this process, a 32-bit counter.
///
/// The process part should be random: the original derives it from address and port, so that two
/// processes behind one address can collide.
#[derive(Debug)]
pub struct IdSource {
    process: u64,
    counter: AtomicU32,
}

impl IdSource {
    /// A source for the process that drew `random`; only its lower 48 bits count.
    pub fn new(random: u64) -> Self {
        Self {
            process: random & 0xFFFF_FFFF_FFFF,
            counter: AtomicU32::new(0),
        }
    }

    /// The next identifier for the wall clock time `unix_millis`.
    pub fn next(&self, unix_millis: u64) -> Arc<str> {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let bits = (u128::from(unix_millis & 0xFFFF_FFFF_FFFF) << 80)
            | (u128::from(self.process) << 32)
            | u128::from(count);
        let mut text = [0u8; TEXT_LEN];
        for (at, letter) in text.iter_mut().enumerate() {
            // 26 letters hold 130 bits: the first one carries only three of the 128.
            let shift = 5 * (TEXT_LEN - 1 - at);
            *letter = ALPHABET[((bits >> shift) & 31) as usize];
        }
        std::str::from_utf8(&text)
            .expect("the alphabet is ASCII")
            .into()
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Any text is accepted: an identifier that was never given out is simply not found.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the identifier.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                <String as utoipa::PartialSchema>::schema()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

id_type!(
    /// Names an app.
    AppId
);
id_type!(
    /// Names a function.
    FnId
);
id_type!(
    /// Names a trigger.
    TriggerId
);
id_type!(
    /// Names one call of a function.
    CallId
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_26_letters_of_the_alphabet() {
        let id = IdSource::new(u64::MAX).next(1_700_000_000_000);
        assert_eq!(id.len(), 26);
        assert!(id.bytes().all(|letter| ALPHABET.contains(&letter)));
    }

    #[test]
    fn time_comes_first_then_process_then_counter() {
        let source = IdSource::new(0);
        assert_eq!(&*source.next(0), "00000000000000000000000000");
        assert_eq!(&*source.next(0), "00000000000000000000000001");
        assert_eq!(&*IdSource::new(1).next(0), "00000000000000000004000000");
        assert_eq!(&*IdSource::new(0).next(1), "00000000010000000000000000");
    }

    proptest! {
        #[test]
        fn ids_sort_by_time(process: u64, earlier in 0u64..1 << 47, gap in 1u64..1 << 40) {
            let source = IdSource::new(process);
            prop_assert!(source.next(earlier) < source.next(earlier + gap));
        }
    }
}
