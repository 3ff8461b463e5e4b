//! `[[token-metric]]`.

use std::sync::Arc;

use filters::dimensions::{DefaultDimension, Dimension, DimensionValue, NameError};
use filters::dimensions::{label_name_ok, metric_name_ok};
use filters::expression::{Place as Scope, Want};

use super::super::error::{Located, suggestion};
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

/// As in API Management: every dimension multiplies the number of series.
const MAX_DIMENSIONS: usize = 10;
/// A series costs about a kilobyte.
const MAX_SERIES: u64 = 10_000;
const DEFAULT_NAMESPACE: &str = "tollgate";
