//! Sets of HTTP statuses, as ranges: which answers count as failures, and which are tried elsewhere.
//!
//! A handful of ranges is searched from left to right: shorter than any table, and it reads as it was
//! configured. It gives a status no meaning of its own.

use std::fmt;
use std::ops::RangeInclusive;

/// The most ranges in a set, as in API Management. More would be a list of statuses.
pub const MAX_RANGES: usize = 10;

/// Which statuses an HTTP answer can have.
const STATUSES: RangeInclusive<u16> = 100..=599;

/// Statuses, as ranges with both ends in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRanges(Box<[RangeInclusive<u16>]>);

impl StatusRanges {
    /// Takes the ranges as configured; none at all is a set without a status.
    ///
    /// # Errors
    /// [`StatusRangesError`] for too many of them, and for one that is empty or leaves 100 to 599.
    pub fn new(
        ranges: impl IntoIterator<Item = RangeInclusive<u16>>,
    ) -> Result<Self, StatusRangesError> {
        let ranges: Box<[_]> = ranges.into_iter().take(MAX_RANGES + 1).collect();
        if ranges.len() > MAX_RANGES {
            return Err(StatusRangesError::TooMany);
        }
        for range in &ranges {
            let (first, last) = (*range.start(), *range.end());
            if first > last || !STATUSES.contains(&first) || !STATUSES.contains(&last) {
                return Err(StatusRangesError::Range { first, last });
            }
        }
        Ok(Self(ranges))
    }

    /// True if the status is in one of the ranges.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }

    /// True if no status is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for StatusRanges {
    /// As `408, 429, 500-599`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let (first, last) = (range.start(), range.end());
            write!(formatter, "{comma}{first}")?;
            if first != last {
                write!(formatter, "-{last}")?;
            }
        }
        Ok(())
    }
}

/// Why ranges are no set of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusRangesError {
    /// More than [`MAX_RANGES`].
    TooMany,
    /// A range that is empty, or leaves 100 to 599.
    Range {
        /// Its first status.
        first: u16,
        /// Its last one.
        last: u16,
    },
}

impl fmt::Display for StatusRangesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(
                formatter,
                "found more than {MAX_RANGES} ranges of statuses: join those that touch"
            ),
            Self::Range { first, last } => write!(
                formatter,
                "found [{first}, {last}], expected two statuses from 100 to 599, the lower first"
            ),
        }
    }
}

impl std::error::Error for StatusRangesError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::reversed_empty_ranges)]
    use super::*;

    #[test]
    fn both_ends_of_a_range_are_in_it() {
        let ranges = StatusRanges::new([429..=429, 500..=599]).unwrap();
        for (status, is_in) in [
            (428, false),
            (429, true),
            (430, false),
            (500, true),
            (599, true),
        ] {
            assert_eq!(ranges.contains(status), is_in, "{status}");
        }
        assert!(StatusRanges::new([]).unwrap().is_empty());
    }

    #[test]
    fn a_set_is_written_as_people_write_it() {
        let ranges = StatusRanges::new([408..=408, 500..=599]).unwrap();
        assert_eq!(ranges.to_string(), "408, 500-599");
    }

    #[test]
    fn ranges_that_mean_nothing_are_refused() {
        for (first, last) in [(500, 499), (99, 200), (500, 600)] {
            let error = StatusRangesError::Range { first, last };
            assert_eq!(StatusRanges::new([first..=last]), Err(error));
        }
        let many = (0..=MAX_RANGES).map(|_| 500..=500);
        assert_eq!(StatusRanges::new(many), Err(StatusRangesError::TooMany));
    }
}
