//! A finished report: rows in order, the total, the course of time, and what was left out.
//!
//! The most expensive group comes first; where a part of time is the first field, time goes on instead. The total is the
//! sum of the rows, to the nano-dollar.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use filters::time::UnixMillis;

use super::Span;
use super::groups::{Groups, Sums, Totals};

const MILLIS_PER_HOUR: u64 = 3_600_000;
/// More columns than this don't fit a chart.
const MAX_STEPS: usize = 72;
/// As much of a written time as is one hour, day, month or year: characters.
const STEPS_CHARACTERS: [usize; 4] = [13, 10, 7, 4];
const PARTS_OF_TIME: [&str; 5] = ["time", "hour", "day", "month", "year"];

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Report {
    /// Names of the fields that were grouped by.
    pub by: Vec<String>,
    /// Their values, with what was used.
    pub rows: Vec<(Vec<String>, Totals)>,
    /// All rows.
    pub total: Totals,
    /// The same by hour, day, month or year, whichever fits a chart.
    pub course: Vec<(String, Totals)>,
    /// Whether there were prices.
    pub is_priced: bool,
    /// What was asked for.
    pub span: Span,
    /// How many files were read.
    pub files: usize,
    /// Lines that were no records.
    pub bad_lines: u64,
}

impl Report {
    /// Of these sums.
    pub fn new(groups: Groups, span: Span, files: usize, bad_lines: u64) -> Self {
        let Sums {
            by,
            groups: mut rows,
            hours,
            is_priced,
        } = groups.into_sums();
        let goes_by_time = by
            .first()
            .is_some_and(|first| PARTS_OF_TIME.contains(&first.as_str()));
        rows.sort_by(|(one, a), (other, b)| {
            let size =
                |totals: &Totals| Reverse((totals.cost, totals.usage.total, totals.requests));
            match goes_by_time {
                true => one.cmp(other),
                false => size(a).cmp(&size(b)).then_with(|| one.cmp(other)),
            }
        });
        let mut total = Totals::default();
        rows.iter().for_each(|(_, row)| total.add(row));
        Self {
            by,
            rows,
            total,
            course: course(&hours),
            is_priced,
            span,
            files,
            bad_lines,
        }
    }

    /// What is drawn of some totals: nano-dollars, or tokens where nothing has a price.
    pub fn size(&self, totals: &Totals) -> u64 {
        match self.is_priced {
            true => totals.cost.nano(),
            false => totals.usage.total,
        }
    }
}

/// In the smallest steps that fit; the last years where none does.
fn course(hours: &BTreeMap<u64, Totals>) -> Vec<(String, Totals)> {
    let mut steps = Vec::new();
    for characters in STEPS_CHARACTERS {
        steps = folded(hours, characters);
        if steps.len() <= MAX_STEPS {
            return steps;
        }
    }
    steps.split_off(steps.len().saturating_sub(MAX_STEPS))
}

fn folded(hours: &BTreeMap<u64, Totals>, characters: usize) -> Vec<(String, Totals)> {
    let mut steps: Vec<(String, Totals)> = Vec::new();
    for (hour, totals) in hours {
        let mut name = UnixMillis::from_millis(hour.saturating_mul(MILLIS_PER_HOUR)).to_string();
        name.truncate(characters);
        match steps.last_mut() {
            Some((last, sum)) if *last == name => sum.add(totals),
            Some(_) | None => steps.push((name, *totals)),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_course_is_in_the_smallest_steps_that_fit() {
        let of = |hours: std::ops::Range<u64>| {
            let one = Totals {
                requests: 1,
                ..Totals::default()
            };
            course(&hours.map(|hour| (hour, one)).collect())
        };
        let names = |steps: &[(String, Totals)]| (steps[0].0.clone(), steps.len());
        assert_eq!(names(&of(0..72)), ("1970-01-01T00".to_owned(), 72));
        assert_eq!(names(&of(0..73)), ("1970-01-01".to_owned(), 4));
        assert_eq!(names(&of(0..24 * 73)), ("1970-01".to_owned(), 3));
        assert_eq!(of(0..24 * 73)[0].1.requests, 31 * 24);
        assert!(of(0..0).is_empty());
    }
}
