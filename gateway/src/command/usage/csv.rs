//! A report as CSV (RFC 4180): a header, one line a group, every digit, no total, since a spreadsheet would add it again.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, and some names are callers' own: such a
//! cell gets an apostrophe before it.

use std::io::{self, Write};

use super::report::Report;

/// Shows it.
pub(super) fn show(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let figures = [
        "requests",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "total_tokens",
    ];
    let money = ["cost_usd", "unpriced_requests", "unpriced_tokens"];
    let mut header: Vec<String> = report.by.iter().map(|name| cell(name)).collect();
    header.extend(figures.map(str::to_owned));
    if report.is_priced {
        header.extend(money.map(str::to_owned));
    }
    line(&header, out)?;
    for (names, totals) in &report.rows {
        let usage = &totals.usage;
        let figures = [
            totals.requests,
            usage.prompt,
            usage.cached,
            usage.completion,
            usage.reasoning,
            usage.total,
        ];
        let mut cells: Vec<String> = names.iter().map(|name| cell(name)).collect();
        cells.extend(figures.iter().map(u64::to_string));
        if report.is_priced {
            cells.push(totals.cost.to_string());
            cells.push(totals.unpriced_requests.to_string());
            cells.push(totals.unpriced_tokens.to_string());
        }
        line(&cells, out)?;
    }
    Ok(())
}

fn line(cells: &[String], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}\r\n", cells.join(","))
}

fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mark = if formula { "'" } else { "" };
    match text.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{mark}{}\"", text.replace('"', "\"\"")),
        false => format!("{mark}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_need_to_be_and_are_never_formulas() {
        for (text, expected) in [
            ("", ""),
            ("team a", "team a"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "'=1+1"),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("@a", "'@a"),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
