//! The only file that asks what time it is.
//!
//! Decisions take the time as an argument, so that they can be tested without waiting. Never does more
//! than read a clock.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filters::time::{Time, UnixMillis, UnixTime};

static START: OnceLock<Instant> = OnceLock::new();

/// A date as HTTP has it. Bytes.
const HTTP_DATE_BYTES: usize = 29;

thread_local! {
    /// The last date that was asked for, and its second.
    static HTTP_DATE: Cell<(u64, [u8; HTTP_DATE_BYTES])> = const { Cell::new((0, [0; HTTP_DATE_BYTES])) };
}

/// A point in monotonic time, as the duration since the process first asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Time that passed since an earlier moment; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment that comes so much later.
    pub fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(duration))
    }

    /// The same moment as policy takes it.
    pub fn time(self) -> Time {
        let nanoseconds = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        // One, so that the clock's beginning stays before everything that happens.
        Time::from_nanoseconds(nanoseconds.saturating_add(1))
    }
}

/// Now, monotonic.
pub fn now() -> Moment {
    Moment(START.get_or_init(Instant::now).elapsed())
}

/// Seconds since 1970-01-01T00:00:00Z.
pub fn unix_seconds() -> u64 {
    since_epoch().as_secs()
}

/// The same, as policy takes it.
pub fn unix_time() -> UnixTime {
    UnixTime::from_seconds(unix_seconds())
}

/// Milliseconds since 1970, as records bear them.
pub fn unix_millis() -> UnixMillis {
    UnixMillis::from_millis(u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX))
}

/// Nanoseconds since 1970, for seeds of identifiers.
pub fn unix_nanoseconds() -> u128 {
    since_epoch().as_nanos()
}

/// The date of now as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7). Made once a second.
pub fn http_date() -> [u8; HTTP_DATE_BYTES] {
    let now = SystemTime::now();
    let second = unix_seconds_of(now);
    let (made, date) = HTTP_DATE.get();
    if made == second {
        return date;
    }
    let mut date = [0; HTTP_DATE_BYTES];
    let text = httpdate::fmt_http_date(now);
    // Both have 29 bytes, until the year 10000.
    for (to, from) in date.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    HTTP_DATE.set((second, date));
    date
}

fn unix_seconds_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
