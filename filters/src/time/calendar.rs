//! The Gregorian calendar in UTC: days of months, and moments as RFC 3339 writes them.
//!
//! A date is worked out from the number of days since 1970 and back in a few divisions; no table, no
//! zone but UTC, no leap seconds, as in Unix time. Written moments have milliseconds and `Z`, so that
//! sorting the text sorts the time. Nothing here asks what time it is.
//!
//! The arithmetic is after H. Hinnant, "chrono-compatible low-level date algorithms": years are counted
//! from 0000-03-01, so that the leap day is the last of its year; 400 of them have 146,097 days.

use std::fmt;

use super::{UnixMillis, UnixTime};

/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;
const SECONDS_PER_DAY: u64 = 86_400;
const MILLIS_PER_SECOND: u64 = 1_000;
const MILLIS_PER_MINUTE: u64 = 60_000;

/// A day of the calendar, from 1970-01-01 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// 1970 and later.
    pub year: u64,
    /// From 1.
    pub month: u64,
    /// From 1.
    pub day: u64,
}

impl Date {
    /// A date that exists, from 1970 to 9999; nothing else.
    pub fn new(year: u64, month: u64, day: u64) -> Option<Self> {
        let exists = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day);
        exists.then_some(Date { year, month, day })
    }

    /// The date of a day since 1970-01-01.
    pub(crate) fn of_day(day: u64) -> Self {
        let day = day + DAYS_BEFORE_1970;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year;
        let (year, month) = if month < 10 {
            (year, month + 3)
        } else {
            (year + 1, month - 9)
        };
        Date { year, month, day }
    }

    /// The date in UTC at this moment.
    pub fn at(time: UnixTime) -> Self {
        Self::of_day(time.as_seconds() / SECONDS_PER_DAY)
    }

    /// Its first second.
    pub fn start(self) -> UnixTime {
        let day = first_day(self.year, self.month) + self.day - 1;
        UnixTime::from_seconds(day * SECONDS_PER_DAY)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day } = self;
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

/// `2026-11-22T13:05:09.123Z`
impl fmt::Display for UnixMillis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.second().as_seconds();
        let date = Date::at(self.second());
        let of_day = seconds % SECONDS_PER_DAY;
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        let millis = self.as_millis() % MILLIS_PER_SECOND;
        write!(
            formatter,
            "{date}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// Why a text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTime;

impl fmt::Display for NoTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "expected a time from 1970 on, such as 2026-11-01, 2026-11-01T13:05 or \
             2026-11-01T13:05:09.123Z; without a zone it is UTC",
        )
    }
}

impl std::error::Error for NoTime {}

impl std::str::FromStr for UnixMillis {
    type Err = NoTime;

    /// Reads RFC 3339, and what is short of it: a date, or a time of day without seconds or minutes.
    /// Without a zone it is UTC. Digits after the third of a second's fraction are left out.
    fn from_str(text: &str) -> Result<Self, NoTime> {
        let mut rest = Rest(text.as_bytes());
        let date = date(&mut rest).ok_or(NoTime)?;
        let millis = time_of_day(&mut rest).ok_or(NoTime)?;
        let zone = zone_minutes(&mut rest).ok_or(NoTime)?;
        if !rest.0.is_empty() {
            return Err(NoTime);
        }
        let local = date.start().as_seconds() * MILLIS_PER_SECOND + millis;
        let ahead = zone.minutes * MILLIS_PER_MINUTE;
        let utc = match zone.side {
            Side::East => local.checked_sub(ahead),
            Side::West => local.checked_add(ahead),
        };
        utc.map(UnixMillis::from_millis).ok_or(NoTime)
    }
}

/// The first day of a month, since 1970-01-01.
pub(crate) fn first_day(year: u64, month: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year) = (year / 400, year % 400);
    let day = (153 * month + 2) / 5;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day - DAYS_BEFORE_1970
}

fn days_in(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// What of a text isn't read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Takes one byte if it is one of these.
    fn take(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !wanted.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    /// Takes exactly so many digits.
    fn digits(&mut self, count: usize) -> Option<u64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        let number = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
        Some(digits.iter().fold(0, number))
    }
}

fn date(rest: &mut Rest<'_>) -> Option<Date> {
    let year = rest.digits(4)?;
    rest.take(b"-")?;
    let month = rest.digits(2)?;
    rest.take(b"-")?;
    Date::new(year, month, rest.digits(2)?)
}

/// Milliseconds since midnight; none where only a date is written.
fn time_of_day(rest: &mut Rest<'_>) -> Option<u64> {
    if rest.take(b"Tt ").is_none() {
        return Some(0);
    }
    let hour = rest.digits(2).filter(|hour| *hour < 24)?;
    let (mut minute, mut second, mut millis) = (0, 0, 0);
    if rest.take(b":").is_some() {
        minute = rest.digits(2).filter(|minute| *minute < 60)?;
        if rest.take(b":").is_some() {
            second = rest.digits(2).filter(|second| *second < 60)?;
            if rest.take(b".").is_some() {
                millis = fraction(rest)?;
            }
        }
    }
    Some(((hour * 60 + minute) * 60 + second) * MILLIS_PER_SECOND + millis)
}

fn fraction(rest: &mut Rest<'_>) -> Option<u64> {
    let (mut millis, mut scale) = (rest.digits(1)? * 100, 10);
    while let Some(digit) = rest.digits(1) {
        millis += digit * scale;
        scale /= 10;
    }
    Some(millis)
}

enum Side {
    East,
    West,
}

struct Zone {
    side: Side,
    minutes: u64,
}

fn zone_minutes(rest: &mut Rest<'_>) -> Option<Zone> {
    let side = match rest.take(b"Zz+-") {
        Some(b'+') => Side::East,
        Some(b'-') => Side::West,
        Some(_) | None => {
            let (side, minutes) = (Side::East, 0);
            return Some(Zone { side, minutes });
        }
    };
    let hours = rest.digits(2).filter(|hours| *hours < 24)?;
    rest.take(b":")?;
    let minutes = rest.digits(2).filter(|minutes| *minutes < 60)?;
    let minutes = hours * 60 + minutes;
    Some(Zone { side, minutes })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<u64> {
        text.parse().ok().map(UnixMillis::as_millis)
    }

    #[test]
    fn moments_are_written_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (1_795_353_909_123, "2026-11-22T13:25:09.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(UnixMillis::from_millis(millis).to_string(), text);
            assert_eq!(read(text), Some(millis));
        }
    }

    #[test]
    fn less_than_a_whole_moment_is_its_beginning() {
        let day = read("2026-11-22T00:00:00.000Z");
        for text in [
            "2026-11-22",
            "2026-11-22Z",
            "2026-11-22T00",
            "2026-11-22 00:00",
        ] {
            assert_eq!(read(text), day, "{text}");
        }
        assert_eq!(
            read("2026-11-22t13:05"),
            read("2026-11-22T13:05:00.000+00:00")
        );
        assert_eq!(
            read("2026-11-22T13:05:09.1Z"),
            read("2026-11-22T13:05:09.100999Z")
        );
    }

    #[test]
    fn a_zone_is_taken_off() {
        let utc = read("2026-11-22T13:05:00Z");
        assert_eq!(read("2026-11-22T15:05+02:00"), utc);
        assert_eq!(read("2026-11-22T08:35:00-04:30"), utc);
        assert_eq!(read("1970-01-01T00:00+01:00"), None);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026",
            "2026-11",
            "2026-13-01",
            "2026-02-29",
            "2100-02-29",
            "1969-12-31",
            "2026-11-31",
            "2026-11-22T24:00",
            "2026-11-22T13:60",
            "2026-11-22T13:05:60",
            "2026-11-22T13:05:09.",
            "2026-11-22T13:05+2",
            "2026-11-22T13:05Zx",
            "yesterday",
            "2026-1-2",
            "+026-11-22",
            "2026-11-22T",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(millis in 0..253_402_300_800_000_u64) {
            let moment = UnixMillis::from_millis(millis);
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }

        #[test]
        fn text_sorts_as_time_does(one in 0..253_402_300_800_000_u64, other in 0..253_402_300_800_000_u64) {
            let [a, b] = [one, other].map(|millis| UnixMillis::from_millis(millis).to_string());
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }

        #[test]
        fn a_date_begins_with_its_first_second(day in 0..2_932_896_u64) {
            let date = Date::of_day(day);
            prop_assert_eq!(date.start().as_seconds(), day * SECONDS_PER_DAY);
            prop_assert_eq!(Date::new(date.year, date.month, date.day), Some(date));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = read(&text);
        }
    }
}
