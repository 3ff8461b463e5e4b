//! What tokens cost: a list of prices by model and date, and the price of one call.
//!
//! Reading order: `money` (whole nano-dollars), `list` (which price holds for a model at a time), this file
//! (what a call costs under it).
//!
//! **Exactness.** A price is whole nano-dollars per million tokens, so tokens times price is a whole number of
//! femto-dollars: the parts of a call are added up exactly, in 128 bits, and the sum is rounded once, to the
//! nearest nano-dollar, half up. From there on everything is a sum of whole numbers: whatever a report groups by,
//! its rows add up to its total. A million calls are off by half a tenth of a cent at most.
//!
//! A model without a price is *unpriced*, which is no price of zero: who adds up money has to say how many
//! tokens are missing from the sum. Never a float, and never overflows: sums stop at the end of the range.

mod list;
mod money;

use crate::usage::Usage;

pub use list::{Entry, PriceList, Twice, Validity};
pub use money::{MoneyError, NanoUsd};

/// Tokens that a price is for.
const TOKENS_PER_PRICE: u128 = 1_000_000;

/// What tokens of one model cost, each kind per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Prompt tokens, but for those that were cached.
    pub prompt: NanoUsd,
    /// Prompt tokens that the backend had cached.
    pub cached: NanoUsd,
    /// Completion tokens, but for those of reasoning. Absent where the model has none (embeddings): should any
    /// come all the same, the call is unpriced.
    pub completion: Option<Completion>,
}

/// What completion tokens cost, each kind per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Those that the caller sees.
    pub visible: NanoUsd,
    /// Those of reasoning.
    pub reasoning: NanoUsd,
}

impl Price {
    /// What a call costs; `None` if it used tokens of a kind that has no price.
    ///
    /// Cached tokens are a part of the prompt's and reasoning tokens of the completion's: more of a part than
    /// there is of the whole is an odd figure, and counts as the whole.
    pub fn of(&self, usage: &Usage) -> Option<NanoUsd> {
        let cached = usage.cached.min(usage.prompt);
        let reasoning = usage.reasoning.min(usage.completion);
        let asked = femto_usd(usage.prompt - cached, self.prompt)
            .saturating_add(femto_usd(cached, self.cached));
        let answered = match self.completion {
            Some(price) => femto_usd(usage.completion - reasoning, price.visible)
                .saturating_add(femto_usd(reasoning, price.reasoning)),
            None if usage.completion == 0 => 0,
            None => return None,
        };
        Some(rounded(asked.saturating_add(answered)))
    }
}

/// Exact: the product of two 64-bit numbers fits.
fn femto_usd(tokens: u64, per_million: NanoUsd) -> u128 {
    u128::from(tokens) * u128::from(per_million.nano())
}

fn rounded(femto_usd: u128) -> NanoUsd {
    let nano = femto_usd.saturating_add(TOKENS_PER_PRICE / 2) / TOKENS_PER_PRICE;
    NanoUsd::from_nano(u64::try_from(nano).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Usage {
        Usage {
            prompt,
            completion,
            total: prompt.saturating_add(completion),
            cached,
            reasoning,
        }
    }

    fn price(prompt: u64, cached: u64, visible: u64, reasoning: u64) -> Price {
        let [prompt, cached, visible, reasoning] =
            [prompt, cached, visible, reasoning].map(NanoUsd::from_nano);
        let completion = Some(Completion { visible, reasoning });
        Price {
            prompt,
            cached,
            completion,
        }
    }

    /// 2.50, 1.25 and 10.00 dollars.
    const SOME: [u64; 4] = [2_500_000_000, 1_250_000_000, 10_000_000_000, 10_000_000_000];

    #[test]
    fn each_kind_has_its_price() {
        let [prompt, cached, visible, reasoning] = SOME;
        let price = price(prompt, cached, visible, 2 * reasoning);
        let nano = |usage| price.of(&usage).unwrap().nano();
        assert_eq!(nano(usage(1_000_000, 0, 0, 0)), 2_500_000_000);
        assert_eq!(nano(usage(1_000_000, 1_000_000, 0, 0)), 1_250_000_000);
        assert_eq!(nano(usage(0, 0, 1_000_000, 0)), 10_000_000_000);
        assert_eq!(nano(usage(0, 0, 1_000_000, 1_000_000)), 20_000_000_000);
        assert_eq!(
            nano(usage(100, 64, 8, 3)),
            36 * 2_500 + 64 * 1_250 + 5 * 10_000 + 3 * 20_000
        );
        assert_eq!(nano(usage(0, 0, 0, 0)), 0);
    }

    #[test]
    fn a_call_is_rounded_once_and_half_up() {
        let half = price(500_000, 0, 500_000, 0);
        let nano = |usage| half.of(&usage).unwrap().nano();
        assert_eq!(nano(usage(1, 0, 0, 0)), 1);
        assert_eq!(nano(usage(1, 0, 1, 0)), 1);
        assert_eq!(nano(usage(2, 0, 1, 0)), 2);
        let less = price(499_999, 0, 0, 0);
        assert_eq!(less.of(&usage(1, 0, 0, 0)).unwrap().nano(), 0);
    }

    #[test]
    fn a_kind_without_a_price_is_not_free() {
        let embeddings = Price {
            completion: None,
            ..price(20_000_000, 20_000_000, 0, 0)
        };
        assert_eq!(
            embeddings.of(&usage(1_000, 0, 0, 0)).unwrap().nano(),
            20_000
        );
        assert_eq!(embeddings.of(&usage(1_000, 0, 1, 0)), None);
    }

    #[test]
    fn more_of_a_part_than_of_the_whole_counts_as_the_whole() {
        let [prompt, cached, visible, reasoning] = SOME;
        let price = price(prompt, cached, visible, reasoning);
        assert_eq!(
            price.of(&usage(10, 99, 5, 99)),
            price.of(&usage(10, 10, 5, 5))
        );
    }

    proptest! {
        #[test]
        fn the_parts_of_a_call_add_up(
            prompt in 0..1_u64 << 40, cached in 0..1_u64 << 40, completion in 0..1_u64 << 40, reasoning in 0..1_u64 << 40,
            prices in prop::array::uniform4(0..1_u64 << 20),
        ) {
            // Whole nano-dollars a token: nothing is rounded, so the parts add up exactly.
            let [p, c, v, r] = prices.map(|price| price * 1_000_000);
            let price = price(p, c, v, r);
            let (cached, reasoning) = (cached.min(prompt), reasoning.min(completion));
            let nano = |usage: Usage| u128::from(price.of(&usage).unwrap().nano());
            let parts = nano(usage(prompt - cached, 0, 0, 0)) + nano(usage(cached, cached, 0, 0))
                + nano(usage(0, 0, completion - reasoning, 0)) + nano(usage(0, 0, reasoning, reasoning));
            let whole = nano(usage(prompt, cached, completion, reasoning));
            prop_assert_eq!(whole, parts.min(u128::from(u64::MAX)));
        }

        #[test]
        fn rounding_is_never_off_by_more_than_half(
            tokens in 0..1_u64 << 30, per_million in 0..1_u64 << 30,
        ) {
            let nano = price(per_million, 0, 0, 0).of(&usage(tokens, 0, 0, 0)).unwrap().nano();
            let exact = i128::from(tokens) * i128::from(per_million);
            let off = i128::from(nano) * 1_000_000 - exact;
            prop_assert!((-499_999..=500_000).contains(&off), "{off}");
        }

        #[test]
        fn nothing_overflows_and_more_never_costs_less(
            figures in prop::array::uniform4(any::<u64>()), prices in prop::array::uniform4(any::<u64>()),
            more in any::<u64>(),
        ) {
            let [prompt, cached, completion, reasoning] = figures;
            let [p, c, v, r] = prices;
            let price = price(p, c, v, r);
            let before = price.of(&usage(prompt, cached, completion, reasoning)).unwrap();
            let cached = cached.min(prompt);
            let after = price.of(&usage(prompt.saturating_add(more), cached, completion, reasoning)).unwrap();
            prop_assert!(after >= before);
        }
    }
}
