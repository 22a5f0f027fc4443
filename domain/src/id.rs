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
        text(bits)
    }

    /// The first of all identifiers that can be made at `unix_millis`.
    pub fn first_at(unix_millis: u64) -> Arc<str> {
        text(u128::from(unix_millis & 0xFFFF_FFFF_FFFF) << 80)
    }
}

/// Five bits a letter.
fn text(bits: u128) -> Arc<str> {
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

fn made_at(text: &str) -> Option<u64> {
    if text.len() != TEXT_LEN {
        return None;
    }
    let mut bits = 0u128;
    for (at, letter) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        if at == 0 && value > 7 {
            return None;
        }
        bits = bits << 5 | value as u128;
    }
    u64::try_from(bits >> 80).ok()
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

            /// When it was made, in milliseconds since 1970; none if the text is not one that an
            /// [`IdSource`] makes.
            pub fn made_at(&self) -> Option<u64> {
                made_at(&self.0)
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

    #[test]
    fn a_text_that_no_source_makes_has_no_time() {
        for text in [
            "",
            "0000000000000000000000000",
            "000000000000000000000000000",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01D0S0000000000000000000l1",
            "../../../../../../etc/passw",
            "0000000000000000000000000\u{e9}",
        ] {
            assert_eq!(made_at(text), None, "{text}");
        }
        assert_eq!(made_at("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), Some((1 << 48) - 1));
    }

    proptest! {
        #[test]
        fn an_id_tells_when_it_was_made(process: u64, time in 0u64..1 << 48) {
            let id = CallId::from(IdSource::new(process).next(time));
            prop_assert_eq!(id.made_at(), Some(time));
            prop_assert!(*IdSource::first_at(time) <= *id.as_str());
            prop_assert!(time == 0 || *IdSource::first_at(time - 1) < *id.as_str());
        }

        #[test]
        fn ids_sort_by_time(process: u64, earlier in 0u64..1 << 47, gap in 1u64..1 << 40) {
            let source = IdSource::new(process);
            prop_assert!(source.next(earlier) < source.next(earlier + gap));
        }
    }
}
