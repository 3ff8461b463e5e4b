//! How long an answer is likely to be at most, learned from those before it.
//!
//! Held for a call whose caller names no maximum, per subscription and model: one caller's answers
//! resemble each other. A moving mean and a moving deviation, as TCP guesses round trips (RFC 6298):
//! mean + 4 deviations lies above nearly every answer of a steady caller and follows a change within some
//! ten calls. Integers, one word, no history.
//!
//! It is an estimate: an answer may be longer, and is then counted when it is settled. Only a maximum
//! named by the caller is a bound.

use crate::units::Tokens;

/// Held while nothing is learned yet: a page and a half of text.
pub const UNSEEN: Tokens = Tokens::new(1_024);

/// Mean and deviation, in sixteenths of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    mean: u32,
    deviation: u32,
}

impl Learned {
    /// What this word holds; 0 is nothing learned yet.
    pub const fn from_word(word: u64) -> Self {
        Learned {
            mean: (word >> u32::BITS) as u32,
            deviation: word as u32,
        }
    }

    /// The word that holds it.
    pub const fn word(self) -> u64 {
        (self.mean as u64) << u32::BITS | self.deviation as u64
    }

    /// What to hold for the next answer.
    pub fn estimate(self) -> Tokens {
        if self == Self::default() {
            return UNSEEN;
        }
        let sixteenths = u64::from(self.mean) + 4 * u64::from(self.deviation);
        Tokens::new(sixteenths.div_ceil(u64::from(PARTS)))
    }

    /// After one more answer of this length.
    pub fn after(self, completion: Tokens) -> Self {
        let sample = u32::try_from(completion.get().saturating_mul(u64::from(PARTS)))
            .unwrap_or(u32::MAX)
            .max(1);
        if self == Self::default() {
            return Learned {
                mean: sample,
                deviation: sample / 2,
            };
        }
        Learned {
            mean: toward(self.mean, sample, 8),
            deviation: toward(self.deviation, self.mean.abs_diff(sample), 4),
        }
    }
}

const PARTS: u32 = 16;

/// A step of one `part` of the way from `old` to `new`.
fn toward(old: u32, new: u32, part: u32) -> u32 {
    if new >= old {
        old + (new - old) / part
    } else {
        old - (old - new).div_ceil(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(lengths: impl Iterator<Item = u64>) -> Learned {
        lengths.fold(Learned::default(), |learned, length| {
            learned.after(Tokens::new(length))
        })
    }

    #[test]
    fn steady_answers_are_estimated_closely_and_from_above() {
        let estimate = taught(std::iter::repeat_n(300, 100)).estimate();
        assert!((300..=305).contains(&estimate.get()), "{estimate}");
    }

    #[test]
    fn answers_that_vary_stay_below_the_estimate() {
        let lengths = |index: u64| 100 + index * 7_919 % 400;
        let learned = taught((0..1_000).map(lengths));
        let above = (1_000..2_000).filter(|index| lengths(*index) > learned.estimate().get());
        assert_eq!(above.count(), 0);
        assert!(learned.estimate().get() < 1_000);
    }

    #[test]
    fn a_change_is_followed_within_some_ten_calls() {
        let learned = taught(std::iter::repeat_n(100, 50).chain(std::iter::repeat_n(1_000, 10)));
        assert!(learned.estimate().get() >= 1_000);
        let learned = taught(std::iter::repeat_n(1_000, 50).chain(std::iter::repeat_n(100, 40)));
        assert!(learned.estimate().get() < 200, "{}", learned.estimate());
    }

    #[test]
    fn nothing_learned_and_absurd_lengths_give_a_number() {
        assert_eq!(Learned::from_word(0).estimate(), UNSEEN);
        let absurd = taught([u64::MAX, 0, u64::MAX].into_iter());
        assert_eq!(Learned::from_word(absurd.word()), absurd);
        assert!(taught([0, 0].into_iter()).estimate() > Tokens::ZERO);
    }
}
