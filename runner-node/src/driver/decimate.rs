//! Down-sampling of resource samples (spec/05 5.9): pure functions.

use super::samples::Sample;

/// The mean of each value and of the time, rounded down; nothing for no samples.
pub fn average(samples: &[Sample]) -> Option<Sample> {
    let count = i128::try_from(samples.len()).ok().filter(|n| *n > 0)?;
    let mean = |sum: i128| sum.div_euclid(count);
    let time = mean(samples.iter().map(|s| i128::from(s.unix_millis)).sum());
    let mut average = Sample {
        unix_millis: i64::try_from(time).unwrap_or(i64::MAX),
        ..Sample::default()
    };
    for (at, value) in average.values.iter_mut().enumerate() {
        let sum = samples.iter().map(|s| i128::from(s.values[at])).sum();
        *value = u64::try_from(mean(sum)).unwrap_or(u64::MAX);
    }
    Some(average)
}

/// At most `max` samples that stand for `samples`, which are sorted by time.
///
/// The time they span is cut into `max` windows, and the samples of one window become their
/// average. A window without samples yields none, so that gaps shorten the list.
pub fn decimate(max: usize, samples: &[Sample]) -> Vec<Sample> {
    if samples.len() <= max {
        return samples.to_vec();
    }
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Vec::new();
    };
    let span = (i128::from(last.unix_millis) - i128::from(first.unix_millis)).max(1);
    let Some(last_window) = max.checked_sub(1) else {
        return Vec::new();
    };
    let window = |sample: &Sample| {
        let offset = i128::from(sample.unix_millis) - i128::from(first.unix_millis);
        // `max` is small, and the product of 65 and 64 bits fits in 128 only because it is.
        let window = offset.saturating_mul(max as i128) / span;
        usize::try_from(window).map_or(0, |window| window.min(last_window))
    };
    samples
        .chunk_by(|a, b| window(a) == window(b))
        .filter_map(average)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(unix_millis: i64, value: u64) -> Sample {
        Sample {
            unix_millis,
            values: [value; 9],
        }
    }

    #[test]
    fn averages_are_integer_means() {
        assert_eq!(average(&[]), None);
        assert_eq!(average(&[sample(7, 9)]), Some(sample(7, 9)));
        let three = [sample(1, 10), sample(2, 20), sample(6, 31)];
        assert_eq!(average(&three), Some(sample(3, 20)));
        let large = [sample(0, u64::MAX), sample(0, u64::MAX)];
        assert_eq!(average(&large), Some(sample(0, u64::MAX)));
    }

    #[test]
    fn few_samples_stay_as_they_are() {
        let samples: Vec<_> = (0..240).map(|n| sample(n * 1000, n as u64)).collect();
        assert_eq!(decimate(240, &samples), samples);
        assert_eq!(decimate(240, &[]), []);
    }

    #[test]
    fn twice_too_many_are_averaged_in_pairs() {
        let samples: Vec<_> = (0..480).map(|n| sample(n * 1000, n as u64)).collect();
        let fewer = decimate(240, &samples);
        assert_eq!(fewer.len(), 240);
        assert_eq!(fewer[0], sample(500, 0));
    }

    #[test]
    fn none_are_wanted() {
        assert_eq!(decimate(0, &[sample(1, 1)]), []);
    }

    #[test]
    fn one_instant_is_one_point() {
        assert_eq!(decimate(2, &[sample(5, 1); 9]), [sample(5, 1)]);
    }

    #[test]
    fn a_gap_shortens_the_list() {
        let mut samples: Vec<_> = (0..10).map(|n| sample(n, 1)).collect();
        samples.push(sample(1000, 3));
        assert_eq!(decimate(5, &samples), [sample(4, 1), sample(1000, 3)]);
    }

    proptest! {
        #[test]
        fn never_more_than_asked_in_order_and_within_bounds(
            max in 0usize..50,
            mut times in prop::collection::vec(any::<i64>(), 0..200),
            seed: u64,
        ) {
            times.sort_unstable();
            let samples: Vec<_> = times
                .iter()
                .enumerate()
                .map(|(n, time)| sample(*time, seed.rotate_left(n as u32)))
                .collect();
            let fewer = decimate(max, &samples);
            prop_assert!(fewer.len() <= max);
            prop_assert!(max == 0 || samples.is_empty() || !fewer.is_empty());
            prop_assert!(fewer.is_sorted_by_key(|s| s.unix_millis));
            let low = samples.iter().map(|s| s.values[0]).min().unwrap_or(0);
            let high = samples.iter().map(|s| s.values[0]).max().unwrap_or(0);
            let first = times.first().copied().unwrap_or(0);
            let last = times.last().copied().unwrap_or(0);
            for s in fewer {
                prop_assert!((low..=high).contains(&s.values[0]));
                prop_assert!((first..=last).contains(&s.unix_millis));
            }
        }
    }
}
