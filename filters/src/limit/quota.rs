//! Tokens per period: fixed windows of the UTC calendar, and how much of the current one is used.
//!
//! Fixed, not sliding: a quota is a budget, and budgets begin with the hour, the day, the week (on
//! Monday), the month or the year. The cell is one word: the hour at which its window began, and the
//! tokens used in it. An older hour than the current window's means that nothing is used yet, so a window
//! ends without a write.
//!
//! **What is settled late** belongs to the window that it was reserved in. Once that is over there is
//! nothing left to correct, and it is dropped: a call that began at 23:59 doesn't burden the new day.
//!
//! **A changed period** keeps what still makes sense: what today used counts against the month; a month's
//! use doesn't count against today.

use std::time::Duration;

use crate::time::UnixTime;
use crate::time::calendar::{Date, first_day};
use crate::units::Tokens;

use super::bucket::Verdict;

/// The most tokens that a quota can allow and a cell can count: 2^42 - 1, 4.4 million million.
pub const MOST: Tokens = Tokens::new((1 << USED_BITS) - 1);

/// 22 bits are left for the hour: enough until the year 2448.
const USED_BITS: u32 = 42;
const SECONDS_PER_HOUR: u64 = 3_600;
const HOURS_PER_DAY: u64 = 24;

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From one full hour to the next.
    Hourly,
    /// From midnight to midnight.
    Daily,
    /// From Monday to Monday.
    Weekly,
    /// From the first of a month to the next.
    Monthly,
    /// From the first of January to the next.
    Yearly,
}

/// A full hour of UTC, counted from 1970. Every window begins at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(u64);

/// A stretch of the calendar: `from` belongs to it, `until` to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first hour.
    pub from: Hour,
    /// The next window's first hour.
    pub until: Hour,
}

/// Tokens per period; at least one, at most [`MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    tokens: Tokens,
    period: Period,
}

/// The cell: how much of which window is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// When the window began.
    pub since: Hour,
    /// What is used and held in it.
    pub tokens: Tokens,
}

impl Period {
    /// The window that `now` is in.
    pub fn window(self, now: UnixTime) -> Window {
        let hour = Hour::of(now).0;
        let day = hour / HOURS_PER_DAY;
        let days = |from: u64, until: u64| Window {
            from: Hour(from * HOURS_PER_DAY),
            until: Hour(until * HOURS_PER_DAY),
        };
        match self {
            Period::Hourly => Window {
                from: Hour(hour),
                until: Hour(hour + 1),
            },
            Period::Daily => days(day, day + 1),
            Period::Weekly => {
                // 1970-01-01 was a Thursday: that week began three days before the calendar.
                let monday = (day + 3) / 7 * 7;
                days(monday.saturating_sub(3), monday + 4)
            }
            Period::Monthly => {
                let Date { year, month, .. } = Date::of_day(day);
                let (next_year, next) = if month == 12 {
                    (year + 1, 1)
                } else {
                    (year, month + 1)
                };
                days(first_day(year, month), first_day(next_year, next))
            }
            Period::Yearly => {
                let year = Date::of_day(day).year;
                days(first_day(year, 1), first_day(year + 1, 1))
            }
        }
    }
}

impl Hour {
    /// The hour that `now` is in.
    pub const fn of(now: UnixTime) -> Self {
        Hour(now.as_seconds() / SECONDS_PER_HOUR)
    }

    /// The hour with this number.
    pub const fn from_number(number: u64) -> Self {
        Hour(number)
    }

    /// Hours since 1970-01-01 00:00 UTC.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Its first second.
    pub const fn start(self) -> UnixTime {
        UnixTime::from_seconds(self.0 * SECONDS_PER_HOUR)
    }
}

impl Quota {
    /// A quota; `None` for zero tokens or more than [`MOST`].
    pub fn new(tokens: u64, period: Period) -> Option<Self> {
        let tokens = Tokens::new(tokens);
        let possible = tokens > Tokens::ZERO && tokens <= MOST;
        possible.then_some(Quota { tokens, period })
    }

    /// How many tokens.
    pub const fn tokens(self) -> Tokens {
        self.tokens
    }

    /// In which time.
    pub const fn period(self) -> Period {
        self.period
    }

    /// One of `replicas` equal parts, rounded down, at least one token.
    pub fn share(self, replicas: u64) -> Self {
        Quota {
            tokens: Tokens::new((self.tokens.get() / replicas.max(1)).max(1)),
            period: self.period,
        }
    }
}

impl Used {
    /// Nothing was ever used.
    pub const NOTHING: Self = Used {
        since: Hour(0),
        tokens: Tokens::ZERO,
    };

    /// The cell that this word holds.
    pub const fn from_word(word: u64) -> Self {
        Used {
            since: Hour(word >> USED_BITS),
            tokens: Tokens::new(word & MOST.get()),
        }
    }

    /// The word that holds this cell. Counts to [`MOST`] and stays there.
    pub fn word(self) -> u64 {
        self.since.0 << USED_BITS | self.tokens.min(MOST).get()
    }

    /// What is used of the window that `now` is in. A cell from a later window than the clock's stays as
    /// it is: another asked a moment later, or the clock was set back.
    pub fn in_window(self, period: Period, now: UnixTime) -> Self {
        let from = period.window(now).from;
        if self.since >= from {
            return self;
        }
        Used {
            since: from,
            tokens: Tokens::ZERO,
        }
    }

    /// Tokens left in the window that `now` is in.
    pub fn left(self, quota: Quota, now: UnixTime) -> Tokens {
        quota
            .tokens
            .saturating_sub(self.in_window(quota.period, now).tokens)
    }

    /// Whether a call that holds `amount` may pass. With no amount: whether any token is left.
    pub fn check(self, quota: Quota, amount: Tokens, now: UnixTime) -> Verdict {
        if amount > quota.tokens {
            return Verdict::Never;
        }
        if self.left(quota, now) >= amount.max(Tokens::new(1)) {
            return Verdict::Admitted;
        }
        let end = quota.period.window(now).until.start();
        Verdict::Wait(Duration::from_secs(end.seconds_since(now)))
    }

    /// The cell after `amount` was taken in the window that `now` is in.
    pub fn take(self, quota: Quota, amount: Tokens, now: UnixTime) -> Self {
        let used = self.in_window(quota.period, now);
        Used {
            since: used.since,
            tokens: used.tokens.saturating_add(amount).min(MOST),
        }
    }

    /// The cell after what was held in the window of `since` became what was used.
    pub fn settle(self, since: Hour, held: Tokens, used: Tokens) -> Self {
        if self.since > since {
            return self;
        }
        // An older cell, or none: it was idle and went, and with it nothing but zeros.
        let before = if self.since == since {
            self.tokens
        } else {
            held
        };
        Used {
            since,
            tokens: before.saturating_sub(held).saturating_add(used).min(MOST),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn bounds(period: Period, seconds: u64) -> (u64, u64) {
        let window = period.window(at(seconds));
        (
            window.from.start().as_seconds(),
            window.until.start().as_seconds(),
        )
    }

    #[test]
    fn windows_of_known_days() {
        // 2026-11-22 10:20:30 UTC, a Sunday.
        let now = 1_795_342_830;
        let day = 1_795_305_600;
        assert_eq!(bounds(Period::Hourly, now), (1_795_341_600, 1_795_345_200));
        assert_eq!(bounds(Period::Daily, now), (day, day + 86_400));
        assert_eq!(
            bounds(Period::Weekly, now),
            (day - 6 * 86_400, day + 86_400)
        );
        assert_eq!(
            bounds(Period::Monthly, now),
            (day - 21 * 86_400, day + 9 * 86_400)
        );
        assert_eq!(bounds(Period::Yearly, now), (1_767_225_600, 1_798_761_600));
        // 2028-02-29 is there, 2100-02-29 isn't.
        assert_eq!(
            bounds(Period::Monthly, 1_835_395_200),
            (1_832_976_000, 1_835_481_600)
        );
        assert_eq!(
            bounds(Period::Monthly, 4_107_456_000),
            (4_105_123_200, 4_107_542_400)
        );
    }

    #[test]
    fn the_calendar_agrees_with_counting_day_by_day() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let mut day = 0;
        for year in 1970..2500 {
            for month in 1..=12 {
                let length = match month {
                    2 if leap(year) => 29,
                    2 => 28,
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                assert_eq!(first_day(year, month), day, "{year}-{month}");
                for _ in 0..length {
                    let date = Date::of_day(day);
                    assert_eq!((date.year, date.month), (year, month), "day {day}");
                    day += 1;
                }
            }
        }
    }

    const PERIODS: [Period; 5] = [
        Period::Hourly,
        Period::Daily,
        Period::Weekly,
        Period::Monthly,
        Period::Yearly,
    ];

    proptest! {
        #[test]
        fn windows_follow_each_other_without_gap(seconds in 700_000u64..15_000_000_000, which in 0usize..5) {
            let period = PERIODS[which];
            let (from, until) = bounds(period, seconds);
            prop_assert!(from <= seconds && seconds < until);
            prop_assert_eq!(bounds(period, until - 1), (from, until));
            prop_assert_eq!(bounds(period, from), (from, until));
            prop_assert_eq!(bounds(period, until).0, until);
        }

        #[test]
        fn a_word_holds_a_cell(hour in 0u64..(1 << 22), tokens in 0u64..(1 << 42)) {
            let used = Used { since: Hour(hour), tokens: Tokens::new(tokens) };
            prop_assert_eq!(Used::from_word(used.word()), used);
        }
    }

    #[test]
    fn a_wait_ends_with_the_window_and_not_a_second_before() {
        let quota = Quota::new(100, Period::Hourly).unwrap();
        let used = Used::NOTHING.take(quota, Tokens::new(100), at(7_200 + 100));
        let check = |seconds| used.check(quota, Tokens::ZERO, at(seconds));
        assert_eq!(check(7_300), Verdict::Wait(Duration::from_secs(3_500)));
        assert_eq!(check(10_799), Verdict::Wait(Duration::from_secs(1)));
        assert_eq!(check(10_800), Verdict::Admitted);
    }

    #[test]
    fn what_is_settled_after_its_window_is_dropped() {
        let quota = Quota::new(100, Period::Hourly).unwrap();
        let held = Used::NOTHING.take(quota, Tokens::new(40), at(3_600));
        let settled = held.settle(held.since, Tokens::new(40), Tokens::new(90));
        assert_eq!(settled.tokens, Tokens::new(90));
        let next = held.take(quota, Tokens::new(5), at(7_200));
        assert_eq!(
            next.settle(held.since, Tokens::new(40), Tokens::new(90)),
            next
        );
        let gone = Used::NOTHING.settle(held.since, Tokens::ZERO, Tokens::new(90));
        assert_eq!(gone, settled);
    }

    #[test]
    fn a_changed_period_keeps_what_makes_sense() {
        let now = at(1_795_342_830);
        let daily = Quota::new(100, Period::Daily).unwrap();
        let monthly = Quota::new(1_000, Period::Monthly).unwrap();
        let today = Used::NOTHING.take(daily, Tokens::new(60), now);
        assert_eq!(today.left(monthly, now), Tokens::new(940));
        let month = Used::NOTHING.take(monthly, Tokens::new(60), now);
        assert_eq!(month.left(daily, now), Tokens::new(100));
    }

    #[test]
    fn a_cell_counts_to_its_end_and_stays_there() {
        let quota = Quota::new(MOST.get(), Period::Yearly).unwrap();
        let used = Used::NOTHING.take(quota, Tokens::new(u64::MAX), at(3_600));
        assert_eq!(Used::from_word(used.word()).tokens, MOST);
        assert_eq!(Quota::new(MOST.get() + 1, Period::Daily), None);
    }
}
