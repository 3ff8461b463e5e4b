//! Money as a whole number of nano-dollars, and as people write dollars.
//!
//! Nano, since a token of a small model costs a hundred of them. 64 bits hold 18 thousand million dollars; sums stop
//! there. Reading and writing are exact: nine digits after the point, no float in between.

use std::fmt;
use std::str::FromStr;

/// Digits after the point.
const DIGITS: usize = 9;
const NANO_PER_USD: u64 = 1_000_000_000;
/// Four digits after the point are enough to read.
const NANO_PER_SHOWN: u64 = 100_000;

/// US dollars, in thousand-millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(u64);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many nano-dollars.
    pub const fn from_nano(nano: u64) -> Self {
        Self(nano)
    }

    /// How many nano-dollars.
    pub const fn nano(self) -> u64 {
        self.0
    }

    /// The sum, or the largest amount if it doesn't fit.
    pub const fn saturating_add(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    /// Dollars with four digits after the point, rounded half up: to be read, not to be added.
    pub fn shown(self) -> String {
        let steps =
            self.0 / NANO_PER_SHOWN + u64::from(self.0 % NANO_PER_SHOWN >= NANO_PER_SHOWN / 2);
        format!("{}.{:04}", steps / 10_000, steps % 10_000)
    }
}

/// Dollars, exact: `0.000002500`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}.{:09}",
            self.0 / NANO_PER_USD,
            self.0 % NANO_PER_USD
        )
    }
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// It isn't digits with at most one point among them.
    NoNumber,
    /// There is more after the point than is counted.
    TooExact,
    /// It is more than there is.
    TooMuch,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoNumber => "expected an amount in dollars, such as 2.50",
            Self::TooExact => "expected nine digits after the point at most",
            Self::TooMuch => "expected less than 18 thousand million dollars",
        })
    }
}

impl std::error::Error for MoneyError {}

impl FromStr for NanoUsd {
    type Err = MoneyError;

    /// Reads dollars: `2`, `2.5`, `0.000000001`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let are_digits =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(fraction) {
            return Err(MoneyError::NoNumber);
        }
        if fraction.len() > DIGITS {
            return Err(MoneyError::TooExact);
        }
        let nano: u64 = format!("{fraction:0<DIGITS$}")
            .parse()
            .map_err(|_| MoneyError::NoNumber)?;
        // Digits alone: what can't be read is too large.
        let whole: u64 = whole.parse().map_err(|_| MoneyError::TooMuch)?;
        let sum = whole
            .checked_mul(NANO_PER_USD)
            .and_then(|sum| sum.checked_add(nano));
        sum.map(Self).ok_or(MoneyError::TooMuch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dollars_are_read_exactly() {
        for (text, nano) in [
            ("0", 0),
            ("2", 2_000_000_000),
            ("2.50", 2_500_000_000),
            ("0.075", 75_000_000),
            ("0.000000001", 1),
            ("18446744073.709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(NanoUsd(nano)), "{text}");
        }
        for (text, error) in [
            ("", MoneyError::NoNumber),
            (".5", MoneyError::NoNumber),
            ("5.", MoneyError::NoNumber),
            ("-1", MoneyError::NoNumber),
            ("+1", MoneyError::NoNumber),
            ("1e3", MoneyError::NoNumber),
            ("1_000", MoneyError::NoNumber),
            ("1.2.3", MoneyError::NoNumber),
            ("nan", MoneyError::NoNumber),
            ("0.0000000001", MoneyError::TooExact),
            ("18446744073.709551616", MoneyError::TooMuch),
            ("99999999999999999999999", MoneyError::TooMuch),
        ] {
            assert_eq!(text.parse::<NanoUsd>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_rounded_half_up() {
        for (nano, shown) in [
            (0, "0.0000"),
            (49_999, "0.0000"),
            (50_000, "0.0001"),
            (1_999_950_000, "2.0000"),
            (1_234_567_890, "1.2346"),
            (u64::MAX, "18446744073.7096"),
        ] {
            assert_eq!(NanoUsd(nano).shown(), shown, "{nano}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nano: u64) {
            let amount = NanoUsd(nano);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.+e ]{0,30}") {
            let _ = text.parse::<NanoUsd>();
        }
    }
}
