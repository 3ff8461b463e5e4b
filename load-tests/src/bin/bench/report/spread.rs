//! The few figures that many figures come down to.

use std::collections::BTreeMap;

/// Least, median and greatest of a figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) greatest: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        Some(Self {
            least,
            median: *values.get(values.len() / 2)?,
            greatest,
        })
    }

    /// How far apart the rounds are, as a share of the least.
    pub(super) fn noise(self) -> f64 {
        (self.greatest - self.least) / self.least.max(f64::EPSILON)
    }
}

/// What this share of the values doesn't exceed; none where fewer than two lie beyond it, since that is chance.
pub(super) fn percentile(mut values: Vec<u32>, share: f64) -> Option<f64> {
    if values.len() as f64 * (1.0 - share) < BEYOND_LEAST {
        return None;
    }
    let index = ((values.len() - 1) as f64 * share).round() as usize;
    let (_, value, _) = values.select_nth_unstable(index);
    Some(f64::from(*value))
}

/// The same of each slice by itself; those with too few values are left out.
pub(super) fn percentiles(values: &[u32], slices: &[u16], share: f64) -> Vec<f64> {
    let mut by_slice: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for (value, slice) in values.iter().zip(slices) {
        by_slice.entry(*slice).or_default().push(*value);
    }
    let each = by_slice.into_values();
    each.filter_map(|values| percentile(values, share))
        .collect()
}

const BEYOND_LEAST: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_without_values_beyond_it_is_none() {
        assert_eq!(percentile((1..=100).collect(), 0.5), Some(51.0));
        assert_eq!(percentile((1..=100).collect(), 0.99), None);
        assert_eq!(percentile((1..=1000).rev().collect(), 0.99), Some(990.0));
        assert_eq!(percentile(Vec::new(), 0.5), None);
    }

    #[test]
    fn a_halt_is_in_the_slice_in_which_it_was() {
        let values = [vec![10; 300], vec![900; 300], vec![11; 300], vec![5; 9]].concat();
        let slices = [vec![0; 300], vec![1; 300], vec![2; 300], vec![3; 9]].concat();
        assert_eq!(percentiles(&values, &slices, 0.99), [10.0, 900.0, 11.0]);
    }

    #[test]
    fn noise_is_a_share_of_the_least() {
        let spread = Spread::of(vec![110.0, 100.0, 130.0]).unwrap();
        assert_eq!((spread.least, spread.median), (100.0, 110.0));
        assert!((spread.noise() - 0.3).abs() < 1e-9);
        assert!(Spread::of(Vec::new()).is_none());
    }
}
