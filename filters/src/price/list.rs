//! Which price holds for a model at a time.
//!
//! Of the entries that are valid then, the one whose pattern says most about the name wins, as everywhere a model is
//! named (`pattern::best`); of several with the same pattern, the one that began last. So a new price is one more
//! entry with its first day: the old one needs no end and stays for the days before. A look-up reads the whole
//! list, a few dozen entries.

use crate::pattern::{self, Pattern};
use crate::time::UnixTime;

use super::Price;

/// From the first second to before the last; open where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first moment that belongs to it.
    pub from: Option<UnixTime>,
    /// The first moment that no longer does.
    pub until: Option<UnixTime>,
}

impl Validity {
    /// Whether `at` lies within.
    pub fn holds(&self, at: UnixTime) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }
}

/// A price, the models that it is for, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which models.
    pub model: Pattern,
    /// When.
    pub validity: Validity,
    /// How much.
    pub price: Price,
}

/// Two entries, by their places, that hold for the same models from the same moment on: neither would win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice {
    /// The one before.
    pub first: usize,
    /// The one that repeats it.
    pub second: usize,
}

/// All prices, those that began last first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceList {
    entries: Vec<(Pattern, (Validity, Price))>,
}

impl PriceList {
    /// A list of these.
    ///
    /// # Errors
    /// [`Twice`] where one entry repeats another's pattern and first moment.
    pub fn new(entries: Vec<Entry>) -> Result<Self, Twice> {
        for (second, entry) in entries.iter().enumerate() {
            let same = |other: &Entry| {
                other.model == entry.model && other.validity.from == entry.validity.from
            };
            if let Some(first) = entries[..second].iter().position(same) {
                return Err(Twice { first, second });
            }
        }
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.model, (entry.validity, entry.price)))
            .collect();
        entries.sort_by_key(|(_, (validity, _))| std::cmp::Reverse(validity.from));
        Ok(Self { entries })
    }

    /// The price of a model at a moment; `None`: it is unpriced.
    pub fn find(&self, model: &str, at: UnixTime) -> Option<&Price> {
        let valid = self
            .entries
            .iter()
            .filter(|(_, (validity, _))| validity.holds(at));
        pattern::best_of(valid, model).map(|(_, price)| price)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::price::NanoUsd;

    fn entry(model: &str, from: Option<u64>, until: Option<u64>, nano: u64) -> Entry {
        let nano = NanoUsd::from_nano(nano);
        Entry {
            model: Pattern::new(model).unwrap(),
            validity: Validity {
                from: from.map(UnixTime::from_seconds),
                until: until.map(UnixTime::from_seconds),
            },
            price: Price {
                prompt: nano,
                cached: nano,
                completion: None,
            },
        }
    }

    fn found(list: &PriceList, model: &str, at: u64) -> Option<u64> {
        let price = list.find(model, UnixTime::from_seconds(at))?;
        Some(price.prompt.nano())
    }

    #[test]
    fn a_price_holds_from_its_first_second_to_before_its_last() {
        let list = PriceList::new(vec![entry("m", Some(100), Some(200), 7)]).unwrap();
        for (at, price) in [(99, None), (100, Some(7)), (199, Some(7)), (200, None)] {
            assert_eq!(found(&list, "m", at), price, "{at}");
        }
    }

    #[test]
    fn a_new_price_follows_the_old_one_without_a_gap() {
        let list = PriceList::new(vec![
            entry("m", None, None, 1),
            entry("m", Some(300), None, 3),
            entry("m", Some(200), None, 2),
        ])
        .unwrap();
        for (at, price) in [
            (0, 1),
            (199, 1),
            (200, 2),
            (299, 2),
            (300, 3),
            (u64::MAX, 3),
        ] {
            assert_eq!(found(&list, "m", at), Some(price), "{at}");
        }
    }

    #[test]
    fn the_pattern_that_says_most_wins_among_those_that_hold() {
        let list = PriceList::new(vec![
            entry("gpt-4o*", None, None, 1),
            entry("gpt-4o-mini*", None, None, 2),
            entry("gpt-4o", Some(100), None, 3),
        ])
        .unwrap();
        assert_eq!(found(&list, "gpt-4o-mini-2024-07-18", 500), Some(2));
        assert_eq!(found(&list, "gpt-4o-2024-11-20", 500), Some(1));
        assert_eq!(found(&list, "gpt-4o", 99), Some(1));
        assert_eq!(found(&list, "gpt-4o", 100), Some(3));
        assert_eq!(found(&list, "o3", 100), None);
        assert_eq!(found(&PriceList::default(), "gpt-4o", 100), None);
    }

    #[test]
    fn a_price_of_nothing_is_a_price() {
        let list = PriceList::new(vec![entry("own-*", None, None, 0)]).unwrap();
        assert_eq!(found(&list, "own-llama", 0), Some(0));
    }

    #[test]
    fn two_that_begin_alike_are_refused() {
        let twice = vec![
            entry("a", None, None, 1),
            entry("m", Some(5), None, 1),
            entry("m", Some(5), Some(9), 2),
        ];
        let (first, second) = (1, 2);
        assert_eq!(PriceList::new(twice), Err(Twice { first, second }));
    }

    proptest! {
        #[test]
        fn of_one_model_the_last_that_began_and_has_not_ended_holds(
            spans in prop::collection::btree_map(0..1_000_u64, 1..1_000_u64, 0..8), at in 0..2_100_u64,
        ) {
            let entries: Vec<_> = spans.iter().map(|(from, length)| entry("m", Some(*from), Some(from + length), *from)).collect();
            let expected = spans.iter().rev().find(|(from, length)| (**from..**from + **length).contains(&at)).map(|(from, _)| *from);
            prop_assert_eq!(found(&PriceList::new(entries).unwrap(), "m", at), expected);
        }
    }
}
