//! Reads the text that Prometheus reads.

use std::collections::HashMap;

/// The sum of the samples of `name` that carry all these labels; 0 where there is none.
pub fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    page.lines()
        .filter_map(sample)
        .filter(|sample| sample.name == name)
        .filter(|sample| labels.iter().all(|label| sample.has(label)))
        .map(|sample| sample.value)
        .sum()
}

/// The samples of `name`, added up by the value of one label. One pass over the page, for many values at once.
pub fn by_label(page: &str, name: &str, label: &str) -> HashMap<String, f64> {
    let mut sums = HashMap::new();
    for sample in page.lines().filter_map(sample) {
        let value = sample.labels.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == label).then(|| value.trim_matches('"').to_owned())
        });
        if let Some(value) = value.filter(|_| sample.name == name) {
            *sums.entry(value).or_insert(0.0) += sample.value;
        }
    }
    sums
}

struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl Sample<'_> {
    /// Whether one of its labels is this one; the values that tests use need no escapes.
    fn has(&self, (name, value): &(&str, &str)) -> bool {
        let wanted = format!("{name}=\"{value}\"");
        let mut from = 0;
        while let Some(at) = self.labels[from..].find(&wanted) {
            let start = from + at;
            if start == 0 || self.labels.as_bytes()[start - 1] == b',' {
                return true;
            }
            from = start + 1;
        }
        false
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
        None => (series, ""),
    };
    Some(Sample {
        name,
        labels,
        value: value.parse().ok()?,
    })
}
