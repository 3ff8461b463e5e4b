//! A trip as one replica writes it and the others read it.
//!
//! JSON, so that `redis-cli subscribe` shows what is said, and so that a later version may add fields. Times are
//! milliseconds since 1970 by Redis' clock, which each replica knows against its own: replicas' clocks needn't agree, and
//! a message that was held up says nothing wrong. What can't be read is no message. Never decides whether a trip is believed.

use filters::breaker::{News, TripReason};
use filters::time::Time;
use serde_json::{Value, json};

/// Of the fields' meaning. A replica ignores what it doesn't know.
const VERSION: u64 = 1;

/// No message is longer; a backend's name is nearly all of it.
const MAX_BYTES: usize = 2_048;

/// No trip lasts longer than a day, so whatever says so doesn't know.
const LONGEST_MS: i64 = 86_400_000;

const NANOSECONDS: i64 = 1_000_000;

/// Redis' clock against this process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerClock {
    ahead_ms: i64,
}

/// Who tells, and of which backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The replica that tells.
    pub replica: String,
    /// The backend's name.
    pub backend: String,
    /// What became of it, on this process's clock.
    pub news: News,
}

impl ServerClock {
    /// Redis said `server_ms` at some moment between these two.
    pub fn new(server_ms: i64, asked: Time, answered: Time) -> Self {
        let (asked, answered) = (milliseconds(asked), milliseconds(answered));
        let local_ms = asked + answered.saturating_sub(asked) / 2;
        ServerClock {
            ahead_ms: server_ms.saturating_sub(local_ms),
        }
    }

    /// What it shows when this process's shows `time`.
    pub fn ms(self, time: Time) -> i64 {
        milliseconds(time).saturating_add(self.ahead_ms)
    }

    /// The other way; the clock's beginning for what was before it.
    fn time(self, server_ms: i64) -> Time {
        let local_ms = server_ms.saturating_sub(self.ahead_ms).max(0);
        Time::from_nanoseconds(local_ms.saturating_mul(NANOSECONDS).unsigned_abs())
    }
}

impl Message {
    /// As it goes over the wire.
    pub fn write(&self, clock: ServerClock) -> String {
        json!({
            "version": VERSION,
            "replica": self.replica,
            "backend": self.backend,
            "reason": self.news.reason.label(),
            "tripped_at_ms": clock.ms(self.news.tripped_at),
            "until_ms": clock.ms(self.news.until),
        })
        .to_string()
    }

    /// Reads one; none if it makes no sense at this time.
    pub fn read(bytes: &[u8], clock: ServerClock, now: Time) -> Option<Self> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let value: Value = serde_json::from_slice(bytes).ok()?;
        if value["version"].as_u64() != Some(VERSION) {
            return None;
        }
        let reason = value["reason"].as_str()?;
        let tripped_at_ms = value["tripped_at_ms"].as_i64()?;
        let until_ms = value["until_ms"].as_i64()?;
        let lasts_ms = until_ms.saturating_sub(tripped_at_ms);
        if !(0..=LONGEST_MS).contains(&lasts_ms) {
            return None;
        }
        Some(Message {
            replica: value["replica"].as_str()?.to_owned(),
            backend: value["backend"].as_str()?.to_owned(),
            news: News {
                // Clocks are compared to within a call's time: what just happened may seem to be about to.
                tripped_at: clock.time(tripped_at_ms).min(now),
                until: clock.time(until_ms),
                reason: TripReason::ALL
                    .into_iter()
                    .find(|known| known.label() == reason)?,
            },
        })
    }
}

fn milliseconds(time: Time) -> i64 {
    i64::try_from(time.as_nanoseconds()).unwrap_or(i64::MAX) / NANOSECONDS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn at(ms: u64) -> Time {
        Time::from_nanoseconds(ms * 1_000_000)
    }

    fn message(tripped_at: Time, until: Time) -> Message {
        Message {
            replica: "17-af".into(),
            backend: "ptu \"east\"".into(),
            news: News {
                tripped_at,
                until,
                reason: TripReason::Throttled,
            },
        }
    }

    #[test]
    fn another_replica_reads_the_same_moments_on_its_own_clock() {
        let teller = ServerClock::new(1_795_000_000_000, at(60_000), at(60_000));
        let hearer = ServerClock::new(1_795_000_000_500, at(100), at(104));
        let text = message(at(60_400), at(90_400)).write(teller);
        let read = Message::read(text.as_bytes(), hearer, at(5_000)).unwrap();
        assert_eq!(read, message(at(2), at(30_002)));
        // It hadn't begun when the other tripped, or takes it for a moment that is yet to come.
        let late = ServerClock::new(1_795_000_010_000, at(1), at(1));
        let read = Message::read(text.as_bytes(), late, at(5_000)).unwrap();
        assert_eq!(read.news.tripped_at, at(0));
        assert_eq!(read.news.until, at(20_401));
        let read = Message::read(text.as_bytes(), hearer, at(1)).unwrap();
        assert_eq!(read.news.tripped_at, at(1));
    }

    #[test]
    fn what_makes_no_sense_is_no_message() {
        let clock = ServerClock::new(0, at(0), at(0));
        let good = message(at(1_000), at(2_000)).write(clock);
        let read = |text: &str| Message::read(text.as_bytes(), clock, at(1_500));
        assert!(read(&good).is_some());
        assert!(read(&good.replace("{", "{\"later\":[1],")).is_some());
        let wrong = [
            good.replace("\"version\":1", "\"version\":2"),
            good.replace(",\"version\":1", ""),
            good.replace("throttled", "bored"),
            good.replace("2000", "\"2000\""),
            good.replace("2000", "2000.5"),
            good.replace("2000", "999"),
            good.replace("2000", "86401001"),
            good.replace("2000", "9223372036854775807"),
            good.replace("1000", "-9223372036854775808"),
            good.replace("2000", "18446744073709551615"),
            good.replace("\"17-af\"", "17"),
            good.replace("17-af", &"x".repeat(MAX_BYTES)),
            good[..good.len() - 1].to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            String::new(),
        ];
        for text in wrong {
            assert_ne!(text, good);
            assert_eq!(read(&text), None, "{text}");
        }
        assert_eq!(Message::read(b"\xff\xfe", clock, at(1)), None);
        assert!(read(&good.replace("2000", "86401000")).is_some(), "a day");
    }
}
