//! One policy as one table: its lines, and what of it has no counterpart.

use filters::expression::{Place, Want};

use super::super::cel::translate;
use super::super::toml_text::{expression, text};
use super::asked::Element;

/// A table that is ready to be printed.
#[derive(Debug, Default)]
pub struct Table {
    /// What the header says, as `[[token-limit]]`.
    pub header: &'static str,
    /// Its lines, without the header.
    pub lines: Vec<String>,
    /// What has no counterpart, and leaves the table as good as it is.
    pub remarks: Vec<String>,
    /// Why the table can't be in force.
    pub faults: Vec<String>,
}

impl Table {
    fn new(header: &'static str, element: &Element) -> Self {
        let mut table = Self {
            header,
            ..Self::default()
        };
        match &element.when {
            Ok(None) => {}
            Ok(Some(when)) => table.lines.push(format!("when = {}", expression(when))),
            Err(why) => table.faults.push(format!("its condition: {why}")),
        }
        table
    }

    fn push(&mut self, key: &str, value: impl std::fmt::Display) {
        self.lines.push(format!("{key} = {value}"));
    }

    /// A whole number that stands in the policy as one.
    fn number(&mut self, element: &Element, (attribute, key): (&str, &str)) {
        let Some(value) = element.attribute(attribute) else {
            return;
        };
        match value.trim().parse::<u64>() {
            Ok(number) => self.push(key, number),
            Err(_) => self.faults.push(format!(
                "{attribute}=\"{value}\": expected a number; write {key} by hand"
            )),
        }
    }

    fn translated(&mut self, element: &Element, (attribute, key): (&str, &str)) {
        let value = element.attribute(attribute).unwrap_or_default();
        match translate(value, &element.variables, (Place::Request, Want::Text)) {
            Ok(cel) => self.push(key, expression(&cel)),
            Err(why) => self.faults.push(format!(
                "{attribute}=\"{}\": {why}; write {key} by hand",
                one_line(value)
            )),
        }
    }
}

/// `llm-token-limit` as `[[token-limit]]`.
pub fn token_limit(element: &Element, name: &str) -> Table {
    let mut table = Table::new("[[token-limit]]", element);
    table.lines.insert(0, format!("name = {}", text(name)));
    table.translated(element, ("counter-key", "counter-key"));
    table.number(element, ("tokens-per-minute", "tokens-per-minute"));
    table.number(element, ("token-quota", "token-quota"));
    if let Some(period) = element.attribute("token-quota-period") {
        let word = period.trim().to_ascii_lowercase();
        match PERIODS.contains(&word.as_str()) {
            true => table.push("token-quota-period", text(&word)),
            false => table.faults.push(format!(
                "token-quota-period=\"{}\": expected Hourly, Daily, Weekly, Monthly or Yearly",
                one_line(period)
            )),
        }
    }
    if element.attribute("tokens-per-minute").is_none()
        && element.attribute("token-quota").is_none()
    {
        table
            .faults
            .push("found neither tokens-per-minute nor token-quota".to_owned());
    }
    let estimate = element
        .attribute("estimate-prompt-tokens")
        .map(|value| value.trim().eq_ignore_ascii_case("true"));
    if estimate == Some(true) {
        table.push("estimate-prompt-tokens", true);
    }
    for (attribute, value) in &element.attributes {
        let key = match attribute.as_str() {
            // The documentation called it so once.
            "consumed-tokens-header-name" => "tokens-consumed-header-name",
            attribute => attribute,
        };
        if HEADER_NAMES.contains(&key) {
            table.push(key, text(value));
        } else if key.ends_with("-variable-name") {
            let key = key.replace("-variable-name", "-header-name");
            table.remarks.push(format!(
                "{attribute}: there are no variables; {key} tells it in the answer"
            ));
        } else if !LIMIT_ATTRIBUTES.contains(&key) {
            table
                .remarks
                .push(format!("{attribute}: has no counterpart here"));
        }
    }
    table
}

/// `llm-emit-token-metric` as `[[token-metric]]`. `taken` are the namespaces before it.
pub fn token_metric(element: &Element, taken: &mut Vec<String>) -> Table {
    let mut table = Table::new("[[token-metric]]", element);
    if table.lines.pop().is_some() {
        table.remarks.push(
            "its condition: every call is counted; the dimensions tell calls apart".to_owned(),
        );
    }
    let written = element.attribute("namespace").unwrap_or("tollgate");
    let mut namespace = metric_name(written);
    while taken.contains(&namespace) {
        namespace.push_str("_again");
    }
    if namespace != written {
        table.remarks.push(format!(
            "namespace \"{}\" is {namespace} here, as Prometheus takes it",
            one_line(written)
        ));
    }
    taken.push(namespace.clone());
    table.push("namespace", text(&namespace));
    let mut dimensions: Vec<String> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (written, value) in &element.children {
        let name = metric_name(written);
        if names.contains(&name) || names.len() == MAX_DIMENSIONS {
            table.remarks.push(format!(
                "dimension \"{written}\": expected each name once, and {MAX_DIMENSIONS} at most"
            ));
            continue;
        }
        let dimension = match value {
            None if DEFAULT_DIMENSIONS.contains(&name.as_str()) => {
                format!("  {{ name = {} }},", text(&name))
            }
            None => {
                table.remarks.push(format!(
                    "dimension \"{written}\": has no value, and isn't one of those with a default"
                ));
                continue;
            }
            Some(value) => {
                match translate(value, &element.variables, (Place::Answer, Want::Text)) {
                    Ok(cel) => format!(
                        "  {{ name = {}, value = {} }},",
                        text(&name),
                        expression(&cel)
                    ),
                    Err(why) => {
                        table.remarks.push(format!(
                            "dimension \"{written}\" value=\"{}\": {why}",
                            one_line(value)
                        ));
                        continue;
                    }
                }
            }
        };
        names.push(name);
        dimensions.push(dimension);
    }
    if dimensions.is_empty() {
        table.faults.push("no dimension is left".to_owned());
    }
    table.lines.push("dimensions = [".to_owned());
    table.lines.extend(dimensions);
    table.lines.push("]".to_owned());
    table
}

/// `llm-semantic-cache-lookup` and `-store` as `[[semantic-cache]]`.
pub fn semantic_cache(element: &Element, name: &str, duration: Option<&str>) -> Table {
    let mut table = Table::new("[[semantic-cache]]", element);
    table.lines.insert(0, format!("name = {}", text(name)));
    let threshold = element.attribute("score-threshold").unwrap_or("0.05");
    match threshold.trim().parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => {
            table.push("score-threshold", threshold.trim());
            if number > LOOSE {
                table.remarks.push(format!("score-threshold {number} is a distance, so nearly any two questions are near enough; 0.05 is usual"));
            }
        }
        Ok(_) | Err(_) => table.faults.push(format!(
            "score-threshold=\"{}\": expected a number from 0 to 1",
            one_line(threshold)
        )),
    }
    match element.attribute("embeddings-backend-id") {
        Some(id) => table.push("embeddings", format!("{{ backend = {} }}", text(id))),
        None => table
            .faults
            .push("found no embeddings-backend-id".to_owned()),
    }
    let mut keys = Vec::new();
    for (_, value) in &element.children {
        let value = value.as_deref().unwrap_or_default();
        match translate(value, &element.variables, (Place::Request, Want::Text)) {
            Ok(cel) => keys.push(expression(&cel)),
            Err(why) => table.faults.push(format!(
                "vary-by {}: {why}; without it answers would be shared",
                one_line(value)
            )),
        }
    }
    match keys.is_empty() {
        false => table.push("vary-by", format!("[{}]", keys.join(", "))),
        true => table.remarks.push("without <vary-by>, API Management shares answers between all callers; here each subscription has its own unless you write vary-by = []".to_owned()),
    }
    if element
        .attribute("ignore-system-messages")
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    {
        table.push("ignore-system-messages", true);
    }
    table.number(element, ("max-message-count", "max-message-count"));
    match duration.map(|text| (text, text.trim().parse::<u64>())) {
        Some((_, Ok(seconds @ 1..=2_592_000))) => {
            table.push("duration", text(&format!("{seconds}s")))
        }
        Some((written, _)) => table.remarks.push(format!(
            "duration=\"{}\": expected 1 to 2592000 seconds; the default is kept",
            one_line(written)
        )),
        None => table
            .remarks
            .push("there is no -semantic-cache-store, so the default duration is kept".to_owned()),
    }
    table
}

/// As Prometheus takes it: `Subscription ID` is `subscription_id`.
fn metric_name(written: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let name: String = written.trim().chars().map(plain).collect();
    match name.starts_with(|c: char| c.is_ascii_lowercase()) {
        true => name,
        false => format!("d{name}"),
    }
}

/// A value as a remark shows it.
pub fn one_line(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

const PERIODS: [&str; 5] = ["hourly", "daily", "weekly", "monthly", "yearly"];
const HEADER_NAMES: [&str; 4] = [
    "retry-after-header-name",
    "remaining-tokens-header-name",
    "remaining-quota-tokens-header-name",
    "tokens-consumed-header-name",
];
const LIMIT_ATTRIBUTES: [&str; 5] = [
    "counter-key",
    "tokens-per-minute",
    "token-quota",
    "token-quota-period",
    "estimate-prompt-tokens",
];
const DEFAULT_DIMENSIONS: [&str; 8] = [
    "api_id",
    "operation_id",
    "product_id",
    "user_id",
    "subscription_id",
    "location",
    "gateway_id",
    "backend_id",
];
/// As the configuration has it.
const MAX_DIMENSIONS: usize = 10;
/// From here on the documentation expects wrong answers.
const LOOSE: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_prometheus_takes() {
        assert_eq!(metric_name("Subscription ID"), "subscription_id");
        assert_eq!(metric_name("Client IP"), "client_ip");
        assert_eq!(metric_name("x-user-id"), "x_user_id");
        assert_eq!(metric_name("4th"), "d4th");
    }
}
