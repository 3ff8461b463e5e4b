//! How many calls and failures there were lately, in a fixed number of buckets.
//!
//! The interval is cut into ten buckets, and the running one counts with the nine before it. So what
//! is counted is never older than the interval and reaches back over at least nine tenths of it, in
//! eighty bytes whatever the traffic. An exact window would have to keep a time for each call.

use crate::time::Time;

/// Enough that a window loses at most a tenth of the interval.
const BUCKETS: usize = 10;

/// Calls of the last interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    buckets: [Sums; BUCKETS],
    /// The running bucket's number since the clock began.
    newest: u64,
}

/// Calls, and those of them that failed. Both stop at the end of their range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) requests: u32,
    pub(super) failures: u32,
}

impl Window {
    /// Counts one call and gives the sums with it.
    pub(super) fn count(&mut self, has_failed: bool, interval_ns: u64, now: Time) -> Sums {
        self.advance(now.as_nanoseconds() / bucket_ns(interval_ns));
        let running = &mut self.buckets[place(self.newest)];
        running.requests = running.requests.saturating_add(1);
        running.failures = running.failures.saturating_add(u32::from(has_failed));
        self.sums()
    }

    fn sums(&self) -> Sums {
        let add = |sums: Sums, bucket: &Sums| Sums {
            requests: sums.requests.saturating_add(bucket.requests),
            failures: sums.failures.saturating_add(bucket.failures),
        };
        self.buckets.iter().fold(Sums::default(), add)
    }

    /// Two threads may come out of order by a little: the earlier counts where the later did. By a lot
    /// means that the interval was configured anew, and the numbers mean something else.
    fn advance(&mut self, number: u64) {
        let is_slightly_behind = number <= self.newest && self.newest - number < BUCKETS as u64;
        if is_slightly_behind {
            return;
        }
        if number < self.newest || number - self.newest >= BUCKETS as u64 {
            self.buckets = Default::default();
        } else {
            for gone in self.newest + 1..=number {
                self.buckets[place(gone)] = Sums::default();
            }
        }
        self.newest = number;
    }
}

fn bucket_ns(interval_ns: u64) -> u64 {
    interval_ns.div_ceil(BUCKETS as u64).max(1)
}

fn place(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_counted_reaches_back_nine_tenths_to_one_interval(
            steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..200),
        ) {
            let interval = 1_000;
            let mut window = Window::default();
            let mut seen = Vec::new();
            let mut now = 5_000;
            for (step, has_failed) in steps {
                now += step;
                seen.push((now, has_failed));
                let sums = window.count(has_failed, interval, Time::from_nanoseconds(now));
                let within = |age: u64| {
                    let is_young = |(at, failed): &&(u64, bool)| *failed && now - at < age;
                    seen.iter().filter(is_young).count() as u32
                };
                prop_assert!(within(interval * 9 / 10) <= sums.failures);
                prop_assert!(sums.failures <= within(interval));
                prop_assert!(sums.failures <= sums.requests);
            }
        }
    }

    #[test]
    fn another_interval_begins_anew() {
        let mut window = Window::default();
        let now = Time::from_nanoseconds(1_000_000);
        assert_eq!(window.count(true, 1_000, now).failures, 1);
        assert_eq!(window.count(true, 100_000, now).failures, 1);
        assert_eq!(window.count(true, 100_000, now).failures, 2);
    }
}
