//! A report as a table for a terminal: names to the left, figures to the right, the total at the end.
//!
//! Dollars are rounded to four digits, to be read; CSV and JSON have them all.

use std::io::{self, Write};

use super::groups::Totals;
use super::report::Report;

/// Shows it.
pub(super) fn show(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = vec![header(report)];
    lines.extend(
        report
            .rows
            .iter()
            .map(|(names, totals)| row(report, names, totals)),
    );
    lines.push(total(report));
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let last = lines.len() - 1;
    for (index, line) in lines.iter().enumerate() {
        if index == 1 || index == last {
            writeln!(out, "{}", rule(&widths))?;
        }
        writeln!(out, "{}", aligned(line, &widths, report.by.len()))?;
    }
    notes(report, out)
}

/// Shown where a value is empty.
const NOTHING: &str = "-";

fn header(report: &Report) -> Vec<String> {
    let figures = [
        "requests",
        "prompt",
        "cached",
        "completion",
        "reasoning",
        "total",
    ];
    let money = ["cost USD", "unpriced"];
    let money = money.iter().filter(|_| report.is_priced);
    let names = report.by.iter().map(String::as_str);
    names
        .chain(figures)
        .chain(money.copied())
        .map(str::to_owned)
        .collect()
}

fn row(report: &Report, names: &[String], totals: &Totals) -> Vec<String> {
    let name = |name: &String| match name.as_str() {
        "" => NOTHING.to_owned(),
        // A caller's own text: it shall not move the cursor.
        name => name.chars().filter(|c| !c.is_control()).collect(),
    };
    let usage = &totals.usage;
    let figures = [
        totals.requests,
        usage.prompt,
        usage.cached,
        usage.completion,
        usage.reasoning,
        usage.total,
    ];
    let mut cells: Vec<String> = names.iter().map(name).collect();
    cells.extend(figures.map(grouped));
    if report.is_priced {
        cells.push(totals.cost.shown());
        cells.push(grouped(totals.unpriced_tokens));
    }
    cells
}

fn total(report: &Report) -> Vec<String> {
    let mut names = vec![String::new(); report.by.len()];
    if let Some(first) = names.first_mut() {
        *first = "total".to_owned();
    }
    let mut cells = row(report, &names, &report.total);
    for cell in cells.iter_mut().take(report.by.len()).skip(1) {
        cell.clear();
    }
    cells
}

fn rule(widths: &[usize]) -> String {
    let parts: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    parts.join("  ")
}

fn aligned(cells: &[String], widths: &[usize], names: usize) -> String {
    let cell = |(index, (cell, width)): (usize, (&String, &usize))| match index < names {
        true => format!("{cell:<width$}"),
        false => format!("{cell:>width$}"),
    };
    let cells = cells.iter().zip(widths).enumerate().map(cell);
    let line = cells.collect::<Vec<_>>().join("  ");
    line.trim_end().to_owned()
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn notes(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.total.unpriced_tokens > 0 {
        writeln!(
            out,
            "\n{} tokens of {} requests have no price and are not in the cost.",
            grouped(report.total.unpriced_tokens),
            grouped(report.total.unpriced_requests)
        )?;
    }
    if report.bad_lines > 0 {
        writeln!(out, "\n{} lines were left out.", grouped(report.bad_lines))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_by_threes() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (123_456, "123,456"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
