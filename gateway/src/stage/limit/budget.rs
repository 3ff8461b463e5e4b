//! What budgets among a call's limits count: money, by the price of the model that was asked for.

use filters::price::{NanoUsd, Price};
use filters::usage::Usage;

use super::{Call, Line};
use crate::limits;
use crate::state::State;
use crate::store::Reservation;

/// The price that budgets count by. Warnings, and calls without a price, are counted here.
pub fn price(
    state: &State,
    call: &Call<'_>,
    lines: &[Line],
    reservation: &Reservation,
) -> Option<Price> {
    if lines.iter().all(|line| line.limit.budget.is_none()) {
        return None;
    }
    let left = reservation.remaining(limits::now());
    for (line, left) in lines.iter().zip(&left) {
        let budget = line.limit.budget.zip(left.quota);
        if budget.is_some_and(|(budget, left)| budget.warns(left).is_some()) {
            state.metrics.budget_warning(&line.limit.name);
        }
    }
    let prices = call.plan.prices.as_ref();
    let price = prices.and_then(|prices| prices.find(&call.admitted.model, limits::now().unix));
    if price.is_none() {
        let budgets = lines.iter().filter(|line| line.limit.budget.is_some());
        budgets.for_each(|line| state.metrics.budget_unpriced(&line.limit.name));
    }
    price.copied()
}

/// What a call cost; nothing where nothing is known of it.
pub fn cost(usage: Option<Usage>, price: Option<Price>) -> NanoUsd {
    let cost = usage.zip(price).and_then(|(usage, price)| price.of(&usage));
    cost.unwrap_or(NanoUsd::ZERO)
}
