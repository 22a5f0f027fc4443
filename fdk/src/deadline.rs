//! The call's deadline: an RFC 3339 time, read without a calendar library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads `2019-03-01T10:00:30Z`, with any fraction and any offset. `None` for anything else, and for
/// times before 1970.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    let (head, mut rest) = bytes.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| head[at] != byte) || !b"Tt ".contains(&head[10]) {
        return None;
    }
    let year = digits(&head[..4])?;
    let (month, day) = (digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute) = (digits(&head[11..13])?, digits(&head[14..16])?);
    let second = digits(&head[17..])?;
    // 60 is a leap second.
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }

    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let used = length.min(9);
        if length == 0 {
            return None;
        }
        nanos = digits(&fraction[..used])? * 10_i64.pow(9 - u32::try_from(used).ok()?);
        rest = &fraction[length..];
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = u64::try_from(seconds - offset).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(nanos).ok()?))
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Days from 1970-01-01 in the Gregorian calendar. The year is taken to begin in March, so that the
/// leap day is its last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    #[test]
    fn known_times() {
        let seconds = |text| parse(text).unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Duration::ZERO);
        assert_eq!(
            seconds("2019-03-01T10:00:30Z"),
            Duration::from_secs(1_551_434_430)
        );
        assert_eq!(
            seconds("2019-03-01T12:00:30+02:00"),
            Duration::from_secs(1_551_434_430)
        );
        assert_eq!(
            seconds("2000-02-29T00:00:00.25Z"),
            Duration::from_millis(951_782_400_250)
        );
    }

    #[test]
    fn anything_else_is_no_deadline() {
        for bad in [
            "",
            "soon",
            "2019-03-01",
            "2019-03-01T10:00:30",
            "2019-03-01T10:00:30.Z",
            "2019-13-01T10:00:30Z",
            "2019-03-01T25:00:30Z",
            "2019-03-01T10:00:30+0200",
            "1969-12-31T23:59:59Z",
            "2019-03-01T10:00:30Z ",
            "２019-03-01T10:00:30Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_calendar(seconds in 0_i64..253_402_300_799, nanos in 0_i64..1_000_000_000) {
            let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap() + time::Duration::nanoseconds(nanos);
            let text = moment.format(&Rfc3339).unwrap();
            prop_assert_eq!(parse(&text), Some(SystemTime::from(moment)));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
