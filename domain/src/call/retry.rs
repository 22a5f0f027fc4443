//! How long a failed call waits for its next attempt. After a fault of the function's: decorrelated
//! jitter between a second and five minutes, and what the function asks for, up to the same cap. After
//! a fault of the platform's, which may be over at once: a second that doubles up to a minute.

use std::time::Duration;

/// The shortest pause.
pub const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause.
pub const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// The longest pause after a fault of the platform.
pub const MAX_PLATFORM_BACKOFF: Duration = Duration::from_secs(60);

/// The pause that follows the pause `last`: at random between the shortest one and three times the
/// last one. `random` is any number.
pub fn backoff(last: Duration, random: u64) -> Duration {
    let low = millis(MIN_BACKOFF);
    let high = millis(last)
        .saturating_mul(3)
        .clamp(low, millis(MAX_BACKOFF));
    Duration::from_millis(low + random % (high - low + 1))
}

/// The pause after a fault of the platform that follows `before` others: a second, which doubles each
/// time, and from its half on is at random, so that calls that fail together do not come back together.
pub fn platform_backoff(before: u32, random: u64) -> Duration {
    let most = millis(MIN_BACKOFF)
        .saturating_mul(1 << before.min(16))
        .min(millis(MAX_PLATFORM_BACKOFF));
    let least = millis(MIN_BACKOFF).max(most / 2);
    Duration::from_millis(least + random % (most - least + 1))
}

/// The pause if the function asked for one of `asked`: never less than what the platform would take,
/// never more than the cap.
pub fn asked(own: Duration, asked: Option<Duration>) -> Duration {
    asked.map_or(own, |asked| asked.max(own)).min(MAX_BACKOFF)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_stay_between_their_bounds(last in 0u64..1_000_000, random: u64) {
            let pause = backoff(Duration::from_millis(last), random);
            prop_assert!(pause >= MIN_BACKOFF && pause <= MAX_BACKOFF);
            prop_assert!(pause.as_millis() <= u128::from(last.max(334)) * 3);
        }
    }

    proptest! {
        #[test]
        fn pauses_for_the_platform_grow_up_to_a_minute(before: u32, random: u64) {
            let pause = platform_backoff(before, random);
            prop_assert!(pause >= MIN_BACKOFF && pause <= MAX_PLATFORM_BACKOFF);
            if before >= 6 {
                prop_assert!(pause >= MAX_PLATFORM_BACKOFF / 2);
            }
        }
    }

    #[test]
    fn the_first_pause_for_the_platform_is_a_second() {
        assert_eq!(platform_backoff(0, u64::MAX), MIN_BACKOFF);
    }

    #[test]
    fn what_the_function_asks_for_is_kept_up_to_the_cap() {
        let own = Duration::from_secs(2);
        assert_eq!(asked(own, None), own);
        assert_eq!(asked(own, Some(Duration::from_secs(1))), own);
        assert_eq!(
            asked(own, Some(Duration::from_secs(9))),
            Duration::from_secs(9)
        );
        assert_eq!(asked(own, Some(Duration::from_secs(9999))), MAX_BACKOFF);
    }
}
