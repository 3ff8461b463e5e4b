//! `status-code-ranges`: of breakers and of retries, each with its own default.

use std::ops::RangeInclusive;

use filters::status::StatusRanges;

use super::super::error::Located;
use super::Loader;

/// The ranges that were written, or the default. None where they make no set, which is reported.
pub(super) fn statuses(
    loader: &Loader<'_>,
    written: Option<&Located<Vec<RangeInclusive<u16>>>>,
    default: &[RangeInclusive<u16>],
) -> Option<StatusRanges> {
    let ranges = written.map_or(default, |ranges| &ranges.value);
    let made = StatusRanges::new(ranges.iter().cloned());
    if let (Err(error), Some(ranges)) = (&made, written) {
        loader.findings.error(&ranges.place, error.to_string());
    }
    made.ok()
}
