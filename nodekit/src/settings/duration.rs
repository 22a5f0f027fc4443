//! Durations as Go writes them: `300ms`, `1.5h`, `2h45m`.

use std::time::Duration;

const EXPECTED: &str = "not a duration such as 300ms, 10s or 2m30s";

/// Reads a duration; `None` for a negative one.
///
/// # Errors
/// What was expected.
pub(crate) fn parse_go(text: &str) -> Result<Option<Duration>, String> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| EXPECTED.to_owned())?;
        let number: f64 = rest[..number_end]
            .parse()
            .map_err(|_| EXPECTED.to_owned())?;
        rest = &rest[number_end..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number * unit_seconds(&rest[..unit_end]).ok_or_else(|| EXPECTED.to_owned())?;
        rest = &rest[unit_end..];
    }
    if negative {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds)
        .map(Some)
        .map_err(|_| "too long a duration".to_owned())
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("300ms", 300),
            ("1.5s", 1500),
            ("2m30s", 150_000),
            ("+1h", 3_600_000),
            (".5s", 500),
        ] {
            assert_eq!(
                parse_go(text),
                Ok(Some(Duration::from_millis(millis))),
                "{text}"
            );
        }
        assert_eq!(parse_go("-1s"), Ok(None));
        for text in [
            "",
            "-",
            "1",
            "s",
            "1x",
            "1 s",
            "1.2.3s",
            "1e400h",
            "999999999999999999999h",
        ] {
            assert!(parse_go(text).is_err(), "{text}");
        }
    }
}
