//! Medians, intervals and geometric means, of ratios that were measured in the same run.

use std::collections::BTreeMap;

/// Values by the number of their run.
pub type Series = BTreeMap<u32, f64>;

/// How often the values are drawn anew for an interval.
const RESAMPLES: usize = 2000;

/// A median, and the interval that holds the true median with 95 % confidence, by the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The median; of an even number of values the mean of the two in the middle. `None` of no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The estimate of some values; `None` of none. The interval is the middle 95 % of the medians of samples that are drawn with
/// replacement, always the same draws, so that a report can be made again. With fewer than six values it is their range:
/// nothing narrower would hold the median with that confidence.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    const FEWEST: usize = 6;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = median_of_sorted(&sorted)?;
    let count = sorted.len();
    if count < FEWEST {
        return Some(Estimate { median, low: sorted[0], high: sorted[count - 1] });
    }
    let mut state = 0x5EED_u64;
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let mut drawn: Vec<f64> = (0..count).map(|_| sorted[below(&mut state, count)]).collect();
            drawn.sort_by(f64::total_cmp);
            median_of_sorted(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let outside = RESAMPLES / 40;
    Some(Estimate { median, low: medians[outside], high: medians[RESAMPLES - 1 - outside] })
}

/// A number below `bound` from a sequence (splitmix64).
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((word ^ (word >> 31)) % bound as u64) as usize
}

/// The ratio in each run in which both were measured and the denominator is not zero.
pub fn ratios(numerators: &Series, denominators: &Series) -> Series {
    let both = numerators.iter().filter_map(|(run, value)| Some((*run, value / denominators.get(run)?)));
    both.filter(|(_, ratio)| ratio.is_finite()).collect()
}

/// Over several rows of ratios, the geometric mean in each run that all rows have, and where none of them is zero.
pub fn geometric_means(rows: &[Series]) -> Series {
    let Some(first) = rows.first() else { return Series::new() };
    let common = first.keys().filter(|run| rows.iter().all(|row| row.get(run).is_some_and(|ratio| *ratio > 0.0)));
    common
        .map(|run| {
            let logarithms: f64 = rows.iter().map(|row| row[run].ln()).sum();
            (*run, (logarithms / rows.len() as f64).exp())
        })
        .collect()
}

/// The values of a series.
pub fn values(series: &Series) -> Vec<f64> {
    series.values().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn an_interval_holds_the_median_and_ignores_one_outlier() {
        let found = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1000.0]).expect("there are values");
        assert_eq!(found.median, 5.5);
        assert!(found.low >= 2.0 && found.low < 4.5, "{found:?}");
        assert!(found.high > 6.5 && found.high <= 9.0, "{found:?}");
    }

    #[test]
    fn the_interval_holds_the_true_median_about_as_often_as_it_says() {
        // Samples of ten uniform numbers, whose true median is one half.
        let (mut state, mut held) = (1, 0);
        for _ in 0..200 {
            let sample: Vec<f64> = (0..10).map(|_| below(&mut state, 1_000_000) as f64 / 1e6).collect();
            let found = estimate(&sample).expect("there are values");
            held += u32::from(found.low <= 0.5 && 0.5 <= found.high);
        }
        assert!((178..=200).contains(&held), "{held} of 200 intervals held the median");
    }

    #[test]
    fn few_values_give_their_range() {
        assert_eq!(estimate(&[2.0, 1.0, 4.0]), Some(Estimate { median: 2.0, low: 1.0, high: 4.0 }));
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn equal_values_give_an_interval_of_no_width() {
        assert_eq!(estimate(&[3.0; 10]), Some(Estimate { median: 3.0, low: 3.0, high: 3.0 }));
    }

    #[test]
    fn ratios_are_formed_within_a_run() {
        let (left, right) =
            (Series::from([(0, 2.0), (1, 6.0), (2, 1.0)]), Series::from([(0, 1.0), (1, 3.0), (3, 9.0)]));
        assert_eq!(ratios(&left, &right), Series::from([(0, 2.0), (1, 2.0)]));
        assert!(ratios(&left, &Series::from([(0, 0.0)])).is_empty());
    }

    #[test]
    fn a_geometric_mean_needs_every_row() {
        let means = geometric_means(&[Series::from([(0, 1.0), (1, 2.0)]), Series::from([(0, 4.0)])]);
        assert_eq!(means.keys().copied().collect::<Vec<_>>(), [0]);
        assert!((means[&0] - 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_run_with_a_zero_has_no_geometric_mean() {
        let means = geometric_means(&[Series::from([(0, 0.0), (1, 2.0)]), Series::from([(0, 4.0), (1, 8.0)])]);
        assert_eq!(means.into_iter().map(|(run, mean)| (run, mean.round())).collect::<Vec<_>>(), [(1, 4.0)]);
    }
}
