//! Durations as Go writes them, in letters of ASCII, so that they fit a header.

use std::time::Duration;

/// `1.5ms`, `2m3.25s`, `0s`. Microseconds are `us`, which Go reads as well.
pub(crate) fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}us", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let (hours, rest) = (nanos / 3_600_000_000_000, nanos % 3_600_000_000_000);
            let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `nanos` in units of so many, without zeros at the end.
fn decimal(nanos: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanos, expected) in [
            (0, "0s"),
            (7, "7ns"),
            (1_000, "1us"),
            (41_500, "41.5us"),
            (1_500_000, "1.5ms"),
            (10_000_000, "10ms"),
            (999_999_999, "999.999999ms"),
            (1_000_000_000, "1s"),
            (10_050_000_000, "10.05s"),
            (63_250_000_000, "1m3.25s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), expected);
        }
    }
}
