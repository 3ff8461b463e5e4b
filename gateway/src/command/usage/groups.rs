//! Sums by group: the only thing that is held while records pass.

use std::collections::{BTreeMap, HashMap};

use filters::price::NanoUsd;
use filters::record::{Field, Record};
use filters::usage::Usage;

use super::pricing::Pricing;

/// A group takes a few hundred bytes: half a gigabyte at most.
const MAX_GROUPS: usize = 1_000_000;
const MILLIS_PER_HOUR: u64 = 3_600_000;

/// There are more groups than are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooManyGroups;

/// What some requests used, and what that cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Requests, refused ones too.
    pub requests: u64,
    /// Tokens.
    pub usage: Usage,
    /// Of those that have a price.
    pub cost: NanoUsd,
    /// Requests that used tokens without a price.
    pub unpriced_requests: u64,
    /// Their tokens.
    pub unpriced_tokens: u64,
}

impl Totals {
    /// The sum; stops at the end of the range.
    pub fn add(&mut self, more: &Totals) {
        let sum = |one: &mut u64, other: u64| *one = one.saturating_add(other);
        sum(&mut self.requests, more.requests);
        sum(&mut self.usage.prompt, more.usage.prompt);
        sum(&mut self.usage.completion, more.usage.completion);
        sum(&mut self.usage.total, more.usage.total);
        sum(&mut self.usage.cached, more.usage.cached);
        sum(&mut self.usage.reasoning, more.usage.reasoning);
        sum(&mut self.unpriced_requests, more.unpriced_requests);
        sum(&mut self.unpriced_tokens, more.unpriced_tokens);
        self.cost = self.cost.saturating_add(more.cost);
    }
}

/// Sums by the values of some fields, and by hour.
#[derive(Debug)]
pub(super) struct Groups {
    by: Vec<Field>,
    pricing: Option<Pricing>,
    groups: HashMap<Vec<String>, Totals>,
    hours: BTreeMap<u64, Totals>,
    /// The values of the record at hand: kept, so that a record of a known group allocates nothing.
    key: Vec<String>,
}

/// All sums.
#[derive(Debug)]
pub(super) struct Sums {
    /// Names of the fields.
    pub by: Vec<String>,
    /// By their values, in no order.
    pub groups: Vec<(Vec<String>, Totals)>,
    /// By the hour since 1970.
    pub hours: BTreeMap<u64, Totals>,
    /// Whether there were prices.
    pub is_priced: bool,
}

impl Groups {
    /// Nothing yet.
    pub fn new(by: Vec<Field>, pricing: Option<Pricing>) -> Self {
        Self {
            key: vec![String::new(); by.len()],
            by,
            pricing,
            groups: HashMap::new(),
            hours: BTreeMap::new(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &Record<'_>) -> Result<(), TooManyGroups> {
        for (field, value) in self.by.iter().zip(&mut self.key) {
            value.clear();
            field.write(record, value);
        }
        let totals = self.totals(record);
        let is_full = self.groups.len() >= MAX_GROUPS;
        match self.groups.get_mut(self.key.as_slice()) {
            Some(group) => group.add(&totals),
            None if is_full => return Err(TooManyGroups),
            None => {
                self.groups.insert(self.key.clone(), totals);
            }
        }
        let hour = record.time.as_millis() / MILLIS_PER_HOUR;
        if self.hours.len() >= MAX_GROUPS && !self.hours.contains_key(&hour) {
            return Err(TooManyGroups);
        }
        self.hours.entry(hour).or_default().add(&totals);
        Ok(())
    }

    fn totals(&mut self, record: &Record<'_>) -> Totals {
        let mut totals = Totals {
            requests: 1,
            usage: record.usage,
            ..Totals::default()
        };
        let Some(pricing) = &mut self.pricing else {
            return totals;
        };
        match pricing.cost(record) {
            Some(cost) => totals.cost = cost,
            None => {
                totals.unpriced_requests = 1;
                totals.unpriced_tokens = record.usage.total;
            }
        }
        totals
    }

    /// All of it.
    pub fn into_sums(self) -> Sums {
        Sums {
            by: self
                .by
                .iter()
                .map(|field| field.name().to_owned())
                .collect(),
            groups: self.groups.into_iter().collect(),
            hours: self.hours,
            is_priced: self.pricing.is_some(),
        }
    }
}
