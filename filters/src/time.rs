//! Two kinds of time that never mix: a monotonic one to measure with, and the calendar's to name
//! windows with.
//!
//! Policy takes `now` as an argument, so every decision can be tested at any moment without waiting.
//! Nothing here asks what time it is.

pub mod calendar;
pub mod words;

/// Nanoseconds on a clock that never goes back; only differences mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment `nanoseconds` after the clock's own beginning.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the clock's own beginning.
    pub const fn as_nanoseconds(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` until this moment; 0 if `earlier` is later.
    pub const fn nanoseconds_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and `nanoseconds` more; stays at the end of the clock rather than wrapping.
    pub const fn plus_nanoseconds(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// Whole seconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The moment `seconds` after 1970-01-01 00:00 UTC.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970-01-01 00:00 UTC.
    pub const fn as_seconds(self) -> u64 {
        self.0
    }

    /// Seconds from `earlier` until this moment; 0 if `earlier` is later.
    pub const fn seconds_since(self, earlier: UnixTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whole milliseconds since 1970-01-01 00:00 UTC, as records of what happened bear them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// The moment `millis` after 1970-01-01 00:00 UTC.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The second that it is in.
    pub const fn second(self) -> UnixTime {
        UnixTime::from_seconds(self.0 / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_the_other_is_no_time_after_it() {
        let (early, late) = (Time::from_nanoseconds(5), Time::from_nanoseconds(9));
        assert_eq!(late.nanoseconds_since(early), 4);
        assert_eq!(early.nanoseconds_since(late), 0);
        assert_eq!(
            late.plus_nanoseconds(u64::MAX),
            Time::from_nanoseconds(u64::MAX)
        );
        assert_eq!(
            UnixTime::from_seconds(1).seconds_since(UnixTime::from_seconds(3)),
            0
        );
    }
}
