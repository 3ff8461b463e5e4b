//! `[[budget]]`: money per period, as a limit that counts it.

use std::sync::Arc;

use filters::limit::budget::Budget;
use filters::limit::reservation::Mode;
use filters::limit::{Hold, Limit, OnRedisError};
use filters::price::NanoUsd;
use http::header;

use super::super::error::Located;
use super::super::file::policy as written;
use super::super::plan::{LimitHeaders, TokenLimit};
use super::limit::refuse_uncountable;
use super::{Loader, or};

/// Every budget.
pub(super) fn budgets(loader: &Loader<'_>) -> Vec<Arc<TokenLimit>> {
    let files = loader.file.policies.budgets.iter();
    let budget = |file| budget(loader, file).map(Arc::new);
    files.filter_map(budget).collect()
}

fn budget(loader: &Loader<'_>, file: &written::Budget) -> Option<TokenLimit> {
    let when = loader.condition(file.when.as_ref());
    let counter_key = loader.request_text(file.counter_key.as_ref());
    if let (Some(expression), Some(text)) = (&counter_key, &file.counter_key) {
        refuse_uncountable(loader, expression, when.as_ref(), text);
    }
    if loader.file.records.prices.is_none() {
        let message = "a budget counts money, and there is no [prices] to count it by; expected [prices] with a file";
        loader.findings.error(&file.place, message);
    }
    let amount = file.amount.as_ref().and_then(|text| amount(loader, text));
    let warn_permille = (or(file.warn_at.as_ref(), WARN_AT) * 1_000.0).round();
    let budget = Budget::new(amount?, file.period.as_ref()?.value, warn_permille as u16)?;
    let name = &file.name.as_ref()?.value;
    let limit = Limit::new(None, Some(budget.quota()), Hold::Nothing).ok()?;
    Some(TokenLimit {
        name: name.clone(),
        counter: format!("budget:{}:{name}", budget.unit().nano()),
        budget: Some(budget),
        when,
        counter_key: counter_key?,
        limit,
        on_redis_error: OnRedisError::Local,
        mode: Mode::Enforce,
        headers: LimitHeaders {
            retry_after: header::RETRY_AFTER,
            remaining_tokens: None,
            remaining_quota: None,
            consumed: None,
            standard: false,
        },
    })
}

/// Up to nine digits before the point and nine after it: money is counted in billionths.
fn amount(loader: &Loader<'_>, text: &Located<String>) -> Option<NanoUsd> {
    let number = text.value.strip_suffix(" USD");
    let few = |number: &&str| {
        number
            .split('.')
            .next()
            .is_some_and(|whole| whole.len() <= MAX_DIGITS)
    };
    let amount = number.filter(few).and_then(|number| number.parse().ok());
    let amount = amount.filter(|amount| *amount > NanoUsd::ZERO);
    if amount.is_none() {
        let message = format!(
            "found \"{}\", expected an amount in US dollars, such as \"500 USD\" or \"0.50 USD\"",
            text.value.escape_debug()
        );
        loader.findings.error(&text.place, message);
    }
    amount
}

/// A thousand million dollars is a slip of the keyboard.
const MAX_DIGITS: usize = 9;
/// The default of `warn-at`.
const WARN_AT: f64 = 0.8;
