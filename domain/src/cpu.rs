//! CPU quantities: thousandths of a core, read from `"100m"` or `"0.1"` (spec/01 1.7).

use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{ApiError, ErrorCode};

const MAX_MILLIS: u64 = 1_024_000;

/// Thousandths of a CPU; zero means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MilliCpus(u64);

impl MilliCpus {
    /// `millis` thousandths of a CPU.
    ///
    /// # Errors
    /// `InvalidCpus` above 1024 CPUs.
    pub fn new(millis: u64) -> Result<Self, ApiError> {
        if millis > MAX_MILLIS {
            return Err(ErrorCode::InvalidCpus.into());
        }
        Ok(Self(millis))
    }

    /// Reads `"<n>m"` or a decimal number of CPUs; an empty text is unlimited.
    ///
    /// # Errors
    /// `InvalidCpus` for anything else, and outside of 0 to 1024 CPUs.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Ok(Self(0));
        }
        let millis = match text.strip_suffix('m') {
            Some(millis) => millis.parse().ok(),
            None => text
                .parse::<f64>()
                .ok()
                .map(|cpus| cpus * 1000.0)
                .filter(|millis| (0.0..=MAX_MILLIS as f64).contains(millis))
                .map(|millis| millis as u64),
        };
        Self::new(millis.ok_or(ErrorCode::InvalidCpus)?)
    }

    /// Thousandths of a CPU.
    pub fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            millis => write!(f, "{millis}m"),
        }
    }
}

impl Serialize for MilliCpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MilliCpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        for (text, millis) in [
            ("", 0),
            ("0", 0),
            ("100m", 100),
            ("0.1", 100),
            ("1.0009", 1000),
            ("1024", 1_024_000),
        ] {
            assert_eq!(
                MilliCpus::parse(text).expect(text).millis(),
                millis,
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "-1", "-1m", "1.5m", "m", "lots", "1025", "1024001m", "NaN", "inf", " 1",
        ] {
            assert!(MilliCpus::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prints_thousandths_and_nothing_for_unlimited() {
        assert_eq!(MilliCpus(100).to_string(), "100m");
        assert_eq!(MilliCpus(0).to_string(), "");
    }
}
