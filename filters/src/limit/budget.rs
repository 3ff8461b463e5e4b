//! Money per period: a quota that is counted in a unit of money.
//!
//! A quota's cell is one word with room for 2^42 - 1 units. In nano-dollars that is 4 398 dollars, so a
//! larger budget is counted in a larger unit: the smallest of a thousand, a million, ... nano-dollars that it
//! fits in. A call's cost is rounded to the nearest unit, half up: nothing is lost of a budget of up to 4 398
//! dollars, and half a micro-dollar a call of one of up to four million.
//!
//! The unit belongs to the counter's name, since a count in one unit is no count in another: a budget that
//! grows over such a bound begins anew.

use crate::price::NanoUsd;
use crate::units::Tokens;

use super::quota::{MOST, Period, Quota};

/// What may be spent in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    amount: NanoUsd,
    unit: NanoUsd,
    quota: Quota,
    warn: Tokens,
}

impl Budget {
    /// A budget that warns when so many thousandths of it are spent; `None` for no money at all.
    pub fn new(amount: NanoUsd, period: Period, warn_permille: u16) -> Option<Self> {
        let mut unit = 1;
        while amount.nano() / unit > MOST.get() {
            unit *= STEP;
        }
        let units = amount.nano() / unit;
        let warn = u128::from(units) * u128::from(warn_permille.min(1_000));
        let warn = u64::try_from(warn.div_ceil(1_000)).unwrap_or(units);
        Some(Budget {
            amount,
            unit: NanoUsd::from_nano(unit),
            quota: Quota::new(units, period)?,
            warn: Tokens::new(warn),
        })
    }

    /// As the configuration has it.
    pub const fn amount(self) -> NanoUsd {
        self.amount
    }

    /// What is counted in.
    pub const fn unit(self) -> NanoUsd {
        self.unit
    }

    /// The same as a quota of units.
    pub const fn quota(self) -> Quota {
        self.quota
    }

    /// What a call counts that cost so much.
    pub const fn units(self, cost: NanoUsd) -> Tokens {
        let unit = self.unit.nano();
        Tokens::new(cost.nano() / unit + ((cost.nano() % unit) * 2 >= unit) as u64)
    }

    /// The share that is spent where so many units are left, in whole percent, rounded down; `None` where it is too
    /// little to warn of.
    pub fn warns(self, left: Tokens) -> Option<u64> {
        let all = self.quota.tokens();
        let spent = all.saturating_sub(left);
        (spent >= self.warn).then(|| {
            let percent = u128::from(spent.get()) * 100 / u128::from(all.get());
            u64::try_from(percent).unwrap_or(100)
        })
    }
}

const STEP: u64 = 1_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn budget(usd: &str) -> Budget {
        Budget::new(usd.parse().unwrap(), Period::Monthly, 800).unwrap()
    }

    #[test]
    fn the_unit_is_the_smallest_that_the_budget_fits_in() {
        let unit = |usd: &str| budget(usd).unit().nano();
        assert_eq!(unit("0.000000001"), 1);
        assert_eq!(unit("4398.046511103"), 1);
        assert_eq!(unit("4398.046511104"), 1_000);
        assert_eq!(unit("4000000"), 1_000);
        assert_eq!(unit("999999999"), 1_000_000);
        assert_eq!(budget("500").quota().tokens().get(), 500_000_000_000);
        assert_eq!(Budget::new(NanoUsd::ZERO, Period::Daily, 800), None);
    }

    #[test]
    fn a_cost_is_rounded_to_the_nearest_unit() {
        let small = budget("1");
        assert_eq!(small.units(NanoUsd::from_nano(1_499)).get(), 1_499);
        let large = budget("5000");
        assert_eq!(large.units(NanoUsd::from_nano(1_499)).get(), 1);
        assert_eq!(large.units(NanoUsd::from_nano(1_500)).get(), 2);
        assert_eq!(large.units(NanoUsd::from_nano(499)).get(), 0);
    }

    #[test]
    fn a_budget_warns_from_its_share_on() {
        let budget = budget("0.000001");
        let warns = |left: u64| budget.warns(Tokens::new(left));
        assert_eq!(warns(201), None);
        assert_eq!(warns(200), Some(80));
        assert_eq!(warns(1), Some(99));
        assert_eq!(warns(0), Some(100));
    }
}
