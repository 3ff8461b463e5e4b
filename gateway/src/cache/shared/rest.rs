//! When Redis isn't asked: a command that fails costs its whole timeout, so after a few in a row there is a pause.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use filters::time::Time;

/// Failures in a row. One alone may be a slow moment.
const MAX_FAILURES: u32 = 3;
/// The pause. Then one call tries, and the next failure begins another.
const PAUSE_NS: u64 = 1_000_000_000;

/// What Redis refuses is told so often at most.
const TELLING_NS: u64 = 10_000_000_000;

/// Failures in a row, and the pause that they brought.
#[derive(Debug, Default)]
pub(super) struct Rest {
    failures: AtomicU32,
    until_ns: AtomicU64,
    /// When a refusal may be told again.
    telling_ns: AtomicU64,
}

impl Rest {
    pub(super) fn may_ask(&self, now: Time) -> bool {
        self.until_ns.load(Ordering::Relaxed) <= now.as_nanoseconds()
    }

    pub(super) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Redis answered, and won't: it is full, say. That takes no time, so there is no pause. Whether to tell it.
    pub(super) fn refused(&self, now: Time) -> bool {
        self.answered();
        let now = now.as_nanoseconds();
        let is_due = self.telling_ns.load(Ordering::Relaxed) <= now;
        if is_due {
            let next = now.saturating_add(TELLING_NS);
            self.telling_ns.store(next, Ordering::Relaxed);
        }
        is_due
    }

    /// Whether a pause begins.
    pub(super) fn failed(&self, now: Time) -> bool {
        let is_many = self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILURES;
        if is_many {
            let until = now.as_nanoseconds().saturating_add(PAUSE_NS);
            self.until_ns.store(until, Ordering::Relaxed);
        }
        is_many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanoseconds(ms * 1_000_000)
    }

    #[test]
    fn three_failures_in_a_row_bring_a_pause_of_a_second_and_an_answer_ends_the_row() {
        let rest = Rest::default();
        assert!(!rest.failed(at(0)) && !rest.failed(at(1)));
        rest.answered();
        assert!(!rest.failed(at(2)) && !rest.failed(at(3)));
        assert!(rest.may_ask(at(3)));
        assert!(rest.failed(at(4)));
        assert!(!rest.may_ask(at(1_003)));
        assert!(rest.may_ask(at(1_004)));
        assert!(rest.failed(at(1_004)), "the one that tried");
        assert!(!rest.may_ask(at(2_003)));
    }

    #[test]
    fn a_refusal_is_no_failure_and_is_told_every_ten_seconds() {
        let rest = Rest::default();
        assert!(!rest.failed(at(0)) && !rest.failed(at(0)));
        assert!(rest.refused(at(1)));
        assert!(!rest.refused(at(10_000)));
        assert!(rest.refused(at(10_001)));
        assert!(rest.may_ask(at(10_001)));
        assert!(!rest.failed(at(10_002)), "the first of another row");
    }
}
