//! A report as one HTML page: figures, two charts and the table, for people and for paper.
//!
//! The page stands alone: charts are SVG within it, no script, no font, no request to anywhere; its policy forbids them. It
//! follows the reader's light or dark setting and prints black on white. Every name is escaped: some are callers' own.

mod chart;

use std::io::{self, Write};

use super::groups::Totals;
use super::report::Report;
use super::table::grouped;

/// Bars of the chart of groups; the others are one more.
const BARS: usize = 12;

/// Shows it.
pub(super) fn show(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let what = match report.is_priced {
        true => "Cost in US dollars",
        false => "Tokens",
    };
    let by = report.by.join(", ");
    out.write_all(HEAD.as_bytes())?;
    writeln!(
        out,
        "<h1>Token usage</h1>\n<p class=\"span\">{}</p>",
        span(report)
    )?;
    tiles(report, out)?;
    writeln!(out, "<h2>{what} by {}</h2>", escaped(&by))?;
    chart::bars(&bars(report), out)?;
    writeln!(out, "<h2>{what} over time (UTC)</h2>")?;
    chart::columns(&columns(report), out)?;
    writeln!(out, "<h2>All groups</h2>")?;
    table(report, out)?;
    notes(report, out)?;
    writeln!(out, "</main>\n</body>\n</html>")
}

/// One bar or column: a name, its size, and the size in words.
struct Mark {
    name: String,
    size: u64,
    shown: String,
}

fn mark(report: &Report, name: String, totals: &Totals) -> Mark {
    let shown = match report.is_priced {
        true => totals.cost.shown(),
        false => grouped(totals.usage.total),
    };
    Mark {
        name,
        size: report.size(totals),
        shown,
    }
}

/// The largest groups, and the sum of the others.
fn bars(report: &Report) -> Vec<Mark> {
    let mut rows: Vec<&(Vec<String>, Totals)> = report.rows.iter().collect();
    rows.sort_by_key(|(_, totals)| std::cmp::Reverse(report.size(totals)));
    let (shown, others) = rows.split_at(rows.len().min(BARS));
    let mut marks: Vec<Mark> = shown
        .iter()
        .map(|(names, totals)| mark(report, label(names), totals))
        .collect();
    if !others.is_empty() {
        let mut sum = Totals::default();
        others.iter().for_each(|(_, totals)| sum.add(totals));
        marks.push(mark(report, format!("{} others", others.len()), &sum));
    }
    marks
}

fn columns(report: &Report) -> Vec<Mark> {
    let course = report.course.iter();
    course
        .map(|(step, totals)| mark(report, step.clone(), totals))
        .collect()
}

fn label(names: &[String]) -> String {
    let names: Vec<&str> = names
        .iter()
        .map(|name| if name.is_empty() { "-" } else { name })
        .collect();
    names.join(" · ")
}

fn span(report: &Report) -> String {
    let side = |time: Option<filters::time::UnixMillis>, open: &str| {
        time.map_or(open.to_owned(), |time| time.to_string())
    };
    let files = report.files;
    format!(
        "from {} to {}, {} {}",
        side(report.span.from, "the first record"),
        side(report.span.to, "the last"),
        grouped(files as u64),
        if files == 1 { "file" } else { "files" }
    )
}

fn tiles(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let total = &report.total;
    let mut tiles = vec![
        ("requests", grouped(total.requests)),
        ("prompt tokens", grouped(total.usage.prompt)),
        ("completion tokens", grouped(total.usage.completion)),
        ("tokens in all", grouped(total.usage.total)),
    ];
    if report.is_priced {
        tiles.insert(0, ("US dollars", total.cost.shown()));
    }
    writeln!(out, "<dl>")?;
    for (name, value) in tiles {
        writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    writeln!(out, "</dl>")
}

fn table(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let figures = [
        "requests",
        "prompt",
        "cached",
        "completion",
        "reasoning",
        "total",
    ];
    let money = ["cost USD", "unpriced tokens"];
    let money = money.iter().filter(|_| report.is_priced);
    writeln!(out, "<table>\n<thead><tr>")?;
    for name in &report.by {
        writeln!(out, "<th scope=\"col\">{}</th>", escaped(name))?;
    }
    for name in figures.iter().chain(money) {
        writeln!(out, "<th scope=\"col\" class=\"n\">{name}</th>")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for (names, totals) in &report.rows {
        write!(out, "<tr>")?;
        for name in names {
            write!(out, "<td>{}</td>", escaped(name))?;
        }
        cells(report, totals, out)?;
    }
    let columns = report.by.len().max(1);
    write!(
        out,
        "</tbody>\n<tfoot><tr><th scope=\"row\" colspan=\"{columns}\">total</th>"
    )?;
    cells(report, &report.total, out)?;
    writeln!(out, "</tfoot>\n</table>")
}

fn cells(report: &Report, totals: &Totals, out: &mut dyn Write) -> io::Result<()> {
    let usage = &totals.usage;
    let figures = [
        totals.requests,
        usage.prompt,
        usage.cached,
        usage.completion,
        usage.reasoning,
        usage.total,
    ];
    for figure in figures {
        write!(out, "<td class=\"n\">{}</td>", grouped(figure))?;
    }
    if report.is_priced {
        let (cost, unpriced) = (totals.cost.shown(), grouped(totals.unpriced_tokens));
        write!(
            out,
            "<td class=\"n\">{cost}</td><td class=\"n\">{unpriced}</td>"
        )?;
    }
    writeln!(out, "</tr>")
}

fn notes(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.total.unpriced_tokens > 0 {
        writeln!(
            out,
            "<p>{} tokens of {} requests have no price and are not in the cost.</p>",
            grouped(report.total.unpriced_tokens),
            grouped(report.total.unpriced_requests)
        )?;
    }
    if report.bad_lines > 0 {
        let lines = grouped(report.bad_lines);
        writeln!(
            out,
            "<p>{lines} lines of the log couldn't be read and were left out.</p>"
        )?;
    }
    Ok(())
}

/// Text as it may stand between tags and within quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

const HEAD: &str = include_str!("html/head.html");
