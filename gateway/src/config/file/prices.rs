//! A price list as the user wrote it: `[[price]]`, each with a model, dates and dollars per million tokens.
//!
//! A file of its own, since prices change more often than a configuration and come from elsewhere. Dollars are read from
//! their digits: a float never stands between the text and the nano-dollars.

use filters::price::NanoUsd;
use filters::time::calendar::Date;
use toml::de::DeValue;

use super::super::error::{Findings, Located, Place};
use super::field::Field;
use super::table::{Reading, Table};

/// `[[price]]`
#[derive(Debug)]
pub struct Entry {
    /// Where it stands.
    pub place: Place,
    /// A model's name, with `*`.
    pub model: Option<Located<String>>,
    /// The first day.
    pub from: Option<Located<Date>>,
    /// The first day that it no longer holds on.
    pub until: Option<Located<Date>>,
    /// Dollars per million prompt tokens.
    pub prompt: Option<Located<NanoUsd>>,
    /// Of which cached.
    pub cached: Option<Located<NanoUsd>>,
    /// Dollars per million completion tokens.
    pub completion: Option<Located<NanoUsd>>,
    /// Of which reasoning.
    pub reasoning: Option<Located<NanoUsd>>,
}

/// Reads a whole text. Mistakes are in `findings`.
pub fn read(findings: &Findings<'_>) -> Vec<Entry> {
    let document = super::parsed(findings);
    let reading = Reading::of(findings);
    let root = Table::root(&reading, Some(document.get_ref()));
    let prices = root.field("price");
    let prices = prices.required("at least one [[price]]");
    let entries = prices.tables().into_iter().map(entry).collect();
    root.finish();
    entries
}

fn entry(table: Table<'_, '_>) -> Entry {
    let model = table.field("model");
    let prompt = table.field("prompt");
    let completion = table.field("completion");
    let reasoning = table.field("reasoning");
    if reasoning.is_there() && !completion.is_there() {
        table.missing("completion", DOLLARS);
    }
    let entry = Entry {
        place: table.place().clone(),
        model: model.required("a model's name, such as \"gpt-4o*\"").text(),
        from: date(&table.field("from")),
        until: date(&table.field("until")),
        prompt: usd(&prompt.required(DOLLARS)),
        cached: usd(&table.field("cached")),
        completion: usd(&completion),
        reasoning: usd(&reasoning),
    };
    table.finish();
    entry
}

fn date(field: &Field<'_, '_, '_>) -> Option<Located<Date>> {
    let value = field.value?;
    let written = match value.get_ref() {
        DeValue::Datetime(written) if written.time.is_none() => written.date,
        _ => None,
    };
    let date = written.and_then(|date| {
        let [month, day] = [date.month, date.day].map(u64::from);
        Date::new(u64::from(date.year), month, day)
    });
    match date {
        Some(date) => Some(field.located(date)),
        None => field.wrong("a date without quotes from 1970 on, such as 2026-11-01"),
    }
}

/// A number, or text: either way its digits are read as they stand.
fn usd(field: &Field<'_, '_, '_>) -> Option<Located<NanoUsd>> {
    let amount = match field.value?.get_ref() {
        DeValue::Float(number) => number.as_str().parse::<NanoUsd>(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse(),
        DeValue::String(text) => text.parse(),
        _ => return field.wrong(DOLLARS),
    };
    match amount {
        Ok(amount) if amount <= MAX_PRICE => Some(field.located(amount)),
        Ok(_) => field.wrong("a million dollars at most"),
        Err(error) => {
            let found = field.value.map_or_else(String::new, super::field::describe);
            field.refuse(&format!("found {found}, {error}"));
            None
        }
    }
}

const DOLLARS: &str = "dollars per million tokens, such as 2.50";
/// Per million tokens; more is a slip of a unit.
const MAX_PRICE: NanoUsd = NanoUsd::from_nano(1_000_000_000_000_000);
