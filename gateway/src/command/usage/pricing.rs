//! What a record cost: its model's price at its time, looked up once a day and model.
//!
//! Prices begin and end at midnight UTC, so within a day a model has one. Names come from callers, so what is
//! remembered is bounded.

use std::collections::HashMap;

use filters::price::{NanoUsd, Price, PriceList};
use filters::record::Record;

/// Models remembered; beyond it all are looked up anew.
const MODELS_REMEMBERED: usize = 4_096;
const MILLIS_PER_DAY: u64 = 86_400_000;

/// A price list in use.
#[derive(Debug)]
pub(super) struct Pricing {
    list: PriceList,
    remembered: HashMap<String, (u64, Option<Price>)>,
}

impl Pricing {
    /// By this list.
    pub fn new(list: PriceList) -> Self {
        Self {
            list,
            remembered: HashMap::new(),
        }
    }

    /// What a call cost; `None` if it used tokens that have no price.
    pub fn cost(&mut self, record: &Record<'_>) -> Option<NanoUsd> {
        let usage = &record.usage;
        if usage.prompt == 0 && usage.completion == 0 {
            return Some(NanoUsd::ZERO);
        }
        self.price(record)?.of(usage)
    }

    fn price(&mut self, record: &Record<'_>) -> Option<Price> {
        let model = record.asked.model.as_ref();
        let day = record.time.as_millis() / MILLIS_PER_DAY;
        if let Some((known, price)) = self.remembered.get(model)
            && *known == day
        {
            return *price;
        }
        let price = self.list.find(model, record.time.second()).copied();
        if self.remembered.len() >= MODELS_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(model.to_owned(), (day, price));
        price
    }
}
