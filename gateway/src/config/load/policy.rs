//! `[[token-metric]]`, and the checks of `[[budget]]`, which this version doesn't do yet.

use std::sync::Arc;

use filters::dimensions::{DefaultDimension, Dimension, DimensionValue, NameError};
use filters::dimensions::{label_name_ok, metric_name_ok};
use filters::expression::{Place as Scope, Want};

use super::super::error::{Located, Place, suggestion};
use super::super::file::policy as written;
use super::super::plan::TokenMetric;
use super::names::report_duplicates;
use super::{Loader, or};

/// Every token metric.
pub(super) fn token_metrics(loader: &Loader<'_>) -> Vec<Arc<TokenMetric>> {
    let files = &loader.file.policies.token_metrics;
    let mut namespaces: Vec<&str> = Vec::new();
    for file in files {
        let namespace = namespace(file);
        if namespaces.contains(&namespace) {
            let place = file
                .namespace
                .as_ref()
                .map_or(&file.place, |text| &text.place);
            let message = format!(
                "found namespace \"{namespace}\" a second time, expected another: both would write the same metrics"
            );
            loader.findings.error(place, message);
        }
        namespaces.push(namespace);
    }
    files
        .iter()
        .map(|file| Arc::new(token_metric(loader, file)))
        .collect()
}

fn namespace(file: &written::TokenMetric) -> &str {
    file.namespace
        .as_ref()
        .map_or(DEFAULT_NAMESPACE, |text| text.value.as_str())
}

fn token_metric(loader: &Loader<'_>, file: &written::TokenMetric) -> TokenMetric {
    if let Some(text) = &file.namespace {
        refuse_name(loader, text, metric_name_ok(&text.value));
    }
    let found = file.dimensions.len();
    if found > MAX_DIMENSIONS {
        let message = format!("found {found} dimensions, expected at most {MAX_DIMENSIONS}");
        loader.findings.error(&file.dimensions_place, message);
    }
    let names = file
        .dimensions
        .iter()
        .filter_map(|dimension| dimension.name.as_ref());
    report_duplicates(loader.findings, "dimension", names);
    let dimension = |written| dimension(loader, written);
    TokenMetric {
        namespace: namespace(file).to_owned(),
        dimensions: file.dimensions.iter().filter_map(dimension).collect(),
        max_series: usize::try_from(or(file.max_series.as_ref(), MAX_SERIES)).unwrap_or(usize::MAX),
    }
}

fn refuse_name(loader: &Loader<'_>, text: &Located<String>, verdict: Result<(), NameError>) {
    if let Err(error) = verdict {
        let message = format!("found \"{}\": {error}", text.value.escape_debug());
        loader.findings.error(&text.place, message);
    }
}

fn dimension(loader: &Loader<'_>, file: &written::Dimension) -> Option<Dimension> {
    let name = file.name.as_ref()?;
    refuse_name(loader, name, label_name_ok(&name.value));
    let value = match &file.value {
        Some(source) => {
            let expression = loader.expression(source, Scope::Answer, Want::Text)?;
            DimensionValue::Expression(expression)
        }
        None => match DefaultDimension::parse(&name.value) {
            Some(default) => DimensionValue::Default(default),
            None => {
                let near = suggestion(
                    &name.value,
                    DefaultDimension::ALL.iter().map(|(name, _)| *name),
                );
                let message = format!(
                    "\"{}\" is no default dimension, expected a value beside the name{near}",
                    name.value.escape_debug()
                );
                loader.findings.error(&name.place, message);
                return None;
            }
        },
    };
    let name = name.value.clone();
    Some(Dimension { name, value })
}

/// Checks what this version doesn't do, and notes it as pending.
pub(super) fn check_pending(loader: &Loader<'_>) {
    let policies = &loader.file.policies;
    let budgets = &policies.budgets;
    let findings = loader.findings;
    report_duplicates(
        findings,
        "budget",
        budgets.iter().filter_map(|budget| budget.name.as_ref()),
    );
    for file in budgets {
        budget(loader, file);
    }
}

/// Notes a table of a list as pending.
pub(super) fn pending(
    loader: &Loader<'_>,
    place: &Place,
    section: &str,
    name: Option<&Located<String>>,
) {
    let name = name
        .map(|name| format!(" \"{}\"", name.value))
        .unwrap_or_default();
    loader
        .findings
        .pending(place, format!("[[{section}]]{name}"));
}

fn budget(loader: &Loader<'_>, file: &written::Budget) {
    loader.request_text(file.counter_key.as_ref());
    let amount = file.amount.as_ref();
    if let Some(amount) = amount.filter(|amount| !is_amount(&amount.value)) {
        let message = format!(
            "found \"{}\", expected an amount in US dollars, such as \"500 USD\" or \"0.50 USD\"",
            amount.value.escape_debug()
        );
        loader.findings.error(&amount.place, message);
    }
    if loader.file.records.prices.is_none() {
        let message = "a budget counts money, and there is no [prices] to count it by; expected [prices] with a file";
        loader.findings.error(&file.place, message);
    }
    pending(loader, &file.place, "budget", file.name.as_ref());
}

/// Up to nine digits before the point and nine after it: money is counted in billionths.
fn is_amount(text: &str) -> bool {
    let Some(number) = text.strip_suffix(" USD") else {
        return false;
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits =
        |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let is_zero = number.bytes().all(|b| b == b'0' || b == b'.');
    digits(whole) && digits(part) && !is_zero
}

/// As in API Management: every dimension multiplies the number of series.
const MAX_DIMENSIONS: usize = 10;
/// A series costs about a kilobyte.
const MAX_SERIES: u64 = 10_000;
const DEFAULT_NAMESPACE: &str = "tollgate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_dollars_and_not_nothing() {
        for right in ["500 USD", "0.50 USD", "999999999.999999999 USD"] {
            assert!(is_amount(right), "{right}");
        }
        for wrong in [
            "500",
            "500 EUR",
            "500USD",
            "0 USD",
            "0.00 USD",
            "-5 USD",
            ".5 USD",
            "1e3 USD",
            "9999999999 USD",
        ] {
            assert!(!is_amount(wrong), "{wrong}");
        }
    }
}
