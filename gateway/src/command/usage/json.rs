//! A report as one JSON object. Dollars come twice: whole nano-dollars to reckon with, and a decimal as text.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::groups::Totals;
use super::report::Report;

/// Shows it.
pub(super) fn show(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let row = |(names, totals): &(Vec<String>, Totals)| {
        let names = report.by.iter().zip(names);
        let group: Map<String, Value> = names
            .map(|(field, name)| (field.clone(), Value::from(name.as_str())))
            .collect();
        let mut row = figures(report, totals);
        row.insert("group".to_owned(), Value::Object(group));
        Value::Object(row)
    };
    let rows: Vec<Value> = report.rows.iter().map(row).collect();
    let time = |time: Option<filters::time::UnixMillis>| time.map(|time| time.to_string());
    let whole = json!({
        "from": time(report.span.from),
        "to": time(report.span.to),
        "by": report.by,
        "rows": rows,
        "total": figures(report, &report.total),
        "files": report.files,
        "lines_left_out": report.bad_lines,
    });
    serde_json::to_writer_pretty(&mut *out, &whole)?;
    writeln!(out)
}

fn figures(report: &Report, totals: &Totals) -> Map<String, Value> {
    let usage = &totals.usage;
    let tokens = [
        ("requests", totals.requests),
        ("prompt_tokens", usage.prompt),
        ("cached_tokens", usage.cached),
        ("completion_tokens", usage.completion),
        ("reasoning_tokens", usage.reasoning),
        ("total_tokens", usage.total),
    ];
    let money = [
        ("cost_nano_usd", totals.cost.nano()),
        ("unpriced_requests", totals.unpriced_requests),
        ("unpriced_tokens", totals.unpriced_tokens),
    ];
    let money = money.iter().filter(|_| report.is_priced);
    let mut figures: Map<String, Value> = tokens
        .iter()
        .chain(money)
        .map(|(name, number)| ((*name).to_owned(), Value::from(*number)))
        .collect();
    if report.is_priced {
        let cost = totals.cost.to_string();
        figures.insert("cost_usd".to_owned(), Value::from(cost));
    }
    figures
}
