//! A price list, from what the user wrote to what is looked up.
//!
//! Defaults: a cached token costs what a prompt token costs and a reasoning token what a completion token costs, which is
//! how providers bill where they name no other price. Dates begin at midnight UTC.

use filters::pattern::Pattern;
use filters::price::{self, Completion, Price, PriceList, Twice, Validity};

use super::super::error::{Findings, position};
use super::super::file::prices::Entry;

/// The list, as far as its entries are right; what is wrong is in `findings`.
pub(in crate::config) fn price_list(
    entries: Vec<Entry>,
    findings: &Findings<'_>,
) -> Option<PriceList> {
    let read: Vec<(&Entry, price::Entry)> = entries
        .iter()
        .filter_map(|entry| Some((entry, loaded(entry, findings)?)))
        .collect();
    let list = read.iter().map(|(_, entry)| entry.clone()).collect();
    match PriceList::new(list) {
        Ok(list) => Some(list),
        Err(Twice { first, second }) => {
            let (first, second) = (read.get(first)?.0, read.get(second)?.0);
            let (line, _) = position(findings.text(), first.place.offset);
            let message = format!(
                "the price of line {line} has the same model and the same first day, expected one of them to differ"
            );
            findings.error(&second.place, message);
            None
        }
    }
}

fn loaded(entry: &Entry, findings: &Findings<'_>) -> Option<price::Entry> {
    let [from, until] = [&entry.from, &entry.until].map(Option::as_ref);
    if let (Some(from), Some(until)) = (from, until)
        && until.value <= from.value
    {
        let message = format!(
            "found {}, expected a day after \"from\", {}; it is the first day without this price",
            until.value, from.value
        );
        findings.error(&until.place, message);
    }
    let model = Pattern::new(&entry.model.as_ref()?.value).ok()?;
    let prompt = entry.prompt.as_ref()?.value;
    let visible = entry.completion.as_ref().map(|price| price.value);
    Some(price::Entry {
        model,
        validity: Validity {
            from: from.map(|date| date.value.start()),
            until: until.map(|date| date.value.start()),
        },
        price: Price {
            prompt,
            cached: entry.cached.as_ref().map_or(prompt, |price| price.value),
            completion: visible.map(|visible| Completion {
                visible,
                reasoning: entry
                    .reasoning
                    .as_ref()
                    .map_or(visible, |price| price.value),
            }),
        },
    })
}
