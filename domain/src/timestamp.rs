//! Points in time as the API prints them: RFC 3339 in UTC with exactly three fractional digits
//! (spec/01 1.2).

use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since the Unix epoch. The default value is "unset", which prints as the year one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// 0001-01-01T00:00:00Z in milliseconds before the Unix epoch.
const UNSET_MILLIS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can tell.
const LAST_MILLIS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// The value of a time that was never set.
    pub const UNSET: Self = Self(UNSET_MILLIS);

    /// From milliseconds since the Unix epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Whether this is [`Timestamp::UNSET`].
    pub const fn is_unset(self) -> bool {
        self.0 == UNSET_MILLIS
    }

    /// The same for serde, which hands out references.
    pub(crate) fn is_unset_ref(&self) -> bool {
        self.is_unset()
    }

    /// Reads RFC 3339 with up to nine fractional digits; what is finer than a millisecond is cut. An
    /// offset can lead out of the years 1 to 9999: such a time could not be printed, and is none.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000))
            .ok()
            .filter(|millis| (UNSET_MILLIS..=LAST_MILLIS).contains(millis))
            .map(Self)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::UNSET
    }
}

impl fmt::Display for Timestamp {
    /// Never fails, because whoever turns a value into text counts on that: what is out of the years
    /// 1 to 9999 is printed as the first or the last time in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.clamp(UNSET_MILLIS, LAST_MILLIS);
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
            .map_err(|_| fmt::Error)?;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not an RFC 3339 time"))
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(
                utoipa::openapi::KnownFormat::DateTime,
            )))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_three_digits_and_the_year_one_when_unset() {
        assert_eq!(Timestamp::UNSET.to_string(), "0001-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp(1_551_434_400_007).to_string(),
            "2019-03-01T10:00:00.007Z"
        );
    }

    #[test]
    fn reads_zero_to_nine_digits_and_offsets() {
        let expected = Some(Timestamp(1_551_434_400_000));
        assert_eq!(Timestamp::parse("2019-03-01T10:00:00Z"), expected);
        assert_eq!(Timestamp::parse("2019-03-01T10:00:00.000000001Z"), expected);
        assert_eq!(Timestamp::parse("2019-03-01T11:00:00.0+01:00"), expected);
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn a_time_that_cannot_be_printed_is_not_read() {
        let last = Timestamp::parse("9999-12-31T23:59:59.999Z").expect("a time");
        assert_eq!(last, Timestamp(LAST_MILLIS));
        assert_eq!(Timestamp::parse("9999-12-31T23:59:59-23:00"), None);
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00+23:00"), None);
        assert_eq!(
            Timestamp(LAST_MILLIS + 1).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            Timestamp(UNSET_MILLIS - 1).to_string(),
            "0001-01-01T00:00:00.000Z"
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read(millis in UNSET_MILLIS..=LAST_MILLIS) {
            let at = Timestamp(millis);
            prop_assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
        }

        #[test]
        fn every_time_can_be_printed(millis: i64) {
            let at = Timestamp(millis);
            prop_assert!(serde_json::to_string(&at).is_ok());
            prop_assert!(Timestamp::parse(&at.to_string()).is_some());
        }
    }
}
