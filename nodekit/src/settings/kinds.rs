//! The kinds of settings: how text becomes a value, and how it is shown.

use std::marker::PhantomData;
use std::time::Duration;

use secrecy::SecretString;

use super::duration::parse_go;
use super::{Kind, mask};

/// Longer times are taken for this one: a hundred years. Added to a time of day they must not run
/// out of numbers.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `true` or `false`, in every spelling that Go reads.
#[derive(Debug)]
pub struct Bool;

impl Kind for Bool {
    type Value = bool;
    const NAME: &'static str = "bool";

    fn parse(text: &str) -> Result<bool, String> {
        match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err("neither true nor false".to_owned()),
        }
    }
}

/// A whole number that fits `T`.
#[derive(Debug)]
pub struct Int<T>(PhantomData<T>);

macro_rules! int {
    ($($type:ty),+) => {$(
        impl Kind for Int<$type> {
            type Value = $type;
            const NAME: &'static str = "integer";

            fn parse(text: &str) -> Result<$type, String> {
                let expected = || {
                    format!("not a whole number from {} to {}", <$type>::MIN, <$type>::MAX)
                };
                text.parse().map_err(|_| expected())
            }
        }
    )+};
}

int!(u16, u32, u64, i64);

/// An IP address.
#[derive(Debug)]
pub struct Ip;

impl Kind for Ip {
    type Value = std::net::IpAddr;
    const NAME: &'static str = "IP address";

    fn parse(text: &str) -> Result<Self::Value, String> {
        text.parse()
            .map_err(|_| "not an IP address such as 127.0.0.1 or ::1".to_owned())
    }
}

/// A number of bytes.
#[derive(Debug)]
pub struct Bytes;

impl Kind for Bytes {
    type Value = u64;
    const NAME: &'static str = "bytes";

    fn parse(text: &str) -> Result<u64, String> {
        Int::<u64>::parse(text)
    }
}

/// Any text.
#[derive(Debug)]
pub struct Text;

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "text";

    fn parse(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

/// A URL, or empty; its password is masked when it is shown. Whoever opens it checks its scheme.
#[derive(Debug)]
pub struct Url;

impl Kind for Url {
    type Value = String;
    const NAME: &'static str = "URL";

    fn parse(text: &str) -> Result<String, String> {
        if !text.is_empty() && !text.contains("://") {
            return Err("not a URL".to_owned());
        }
        Ok(text.to_owned())
    }

    fn show(text: &str) -> String {
        mask::url(text)
    }
}

/// Text that must never be shown.
#[derive(Debug)]
pub struct Secret;

impl Kind for Secret {
    type Value = SecretString;
    const NAME: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<SecretString, String> {
        Ok(SecretString::from(text))
    }
}

/// Words separated by white space or commas (spec/A: both are accepted).
#[derive(Debug)]
pub struct Words;

impl Kind for Words {
    type Value = Vec<String>;
    const NAME: &'static str = "list of words";

    fn parse(text: &str) -> Result<Vec<String>, String> {
        Ok(text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

/// A time-out: whole seconds, or a duration as Go writes it. Zero or less is none (spec/01 1.1).
#[derive(Debug)]
pub struct Timeout;

impl Kind for Timeout {
    type Value = Option<Duration>;
    const NAME: &'static str = "seconds or duration, 0 = none";

    fn parse(text: &str) -> Result<Option<Duration>, String> {
        let duration = match text.parse::<i64>() {
            Ok(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
            Err(_) => parse_go(text)?,
        };
        Ok(duration
            .filter(|duration| !duration.is_zero())
            .map(|duration| duration.min(LONGEST)))
    }
}

/// Whole milliseconds; a negative number means never (spec/04 4.10).
#[derive(Debug)]
pub struct Millis;

impl Kind for Millis {
    type Value = Option<Duration>;
    const NAME: &'static str = "milliseconds, negative = never";

    fn parse(text: &str) -> Result<Option<Duration>, String> {
        let millis = Int::<i64>::parse(text)?;
        let duration = u64::try_from(millis).ok().map(Duration::from_millis);
        Ok(duration.map(|duration| duration.min(LONGEST)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn booleans_are_gos() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(Bool::parse(text), Ok(true));
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(Bool::parse(text), Ok(false));
        }
        for text in ["", "yes", "tRUE", " true"] {
            assert!(Bool::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_told_what_would() {
        assert_eq!(Int::<u16>::parse("65535"), Ok(65535));
        for text in ["65536", "-1", "80a", ""] {
            let error = Int::<u16>::parse(text).expect_err(text);
            assert_eq!(error, "not a whole number from 0 to 65535");
        }
    }

    #[test]
    fn words_are_separated_by_space_or_comma() {
        let expected: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        for text in ["a b c", "a,b,c", " a,  b\n,c,", "a\tb c"] {
            assert_eq!(Words::parse(text).as_ref(), Ok(&expected), "{text}");
        }
        assert_eq!(Words::parse(" , ").as_deref(), Ok(&[][..]));
    }

    #[test]
    fn timeouts_are_seconds_or_durations() {
        for (text, expected) in [
            ("30", Some(Duration::from_secs(30))),
            ("250ms", Some(Duration::from_millis(250))),
            ("0", None),
            ("0s", None),
            ("-1", None),
            ("-1s", None),
        ] {
            assert_eq!(Timeout::parse(text), Ok(expected), "{text}");
        }
        assert!(Timeout::parse("soon").is_err());
    }

    #[test]
    fn the_longest_time_can_be_added_to_now() {
        let most = i64::MAX.to_string();
        for text in [most.as_str(), "2000000h", "9223372036854775807s"] {
            let timeout = Timeout::parse(text).ok().flatten().expect(text);
            assert!(Instant::now().checked_add(timeout).is_some(), "{text}");
        }
        let millis = Millis::parse(&most).ok().flatten().expect("a time");
        assert!(Instant::now().checked_add(millis).is_some());
    }

    #[test]
    fn negative_milliseconds_are_never() {
        assert_eq!(Millis::parse("50"), Ok(Some(Duration::from_millis(50))));
        assert_eq!(Millis::parse("0"), Ok(Some(Duration::ZERO)));
        assert_eq!(Millis::parse("-1"), Ok(None));
        assert!(Millis::parse("50ms").is_err());
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(Secret::show("hunter2"), "****");
        assert_eq!(Secret::show(""), "");
    }
}
