//! What every request passes through on its way to a backend allocates nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::hint::black_box;
use std::time::Duration;

use filters::balance::remaining::Remaining;
use filters::balance::{MAX_MEMBERS, Pool, Standing, Turns};
use filters::breaker::{Cell, Condition, FailureReasons, Failures, Rule};
use filters::outcome::{Credential, FailureReason, Outcome};
use filters::retry::{self, Budget, Caller, Left, SoFar};
use filters::retry_after;
use filters::status::StatusRanges;
use filters::time::{Time, UnixTime};
use filters::units::Tokens;

fn allocates_nothing(what: &str, run: impl FnOnce()) {
    let allocations = allocation_counter::measure(run).count_total;
    assert_eq!(allocations, 0, "{what}");
}

#[test]
fn choosing_among_thirty_members_allocates_nothing() {
    let standing = |priority, weight| Standing { priority, weight };
    for (what, members) in [
        (
            "equal weights",
            (0..30).map(|_| standing(1, 1)).collect::<Vec<_>>(),
        ),
        (
            "30 weights",
            (0..30).map(|place| standing(1, 7 + 31 * place)).collect(),
        ),
        (
            "30 priorities",
            (0..30).map(|place| standing(place, 1)).collect(),
        ),
    ] {
        assert_eq!(members.len(), MAX_MEMBERS);
        let (pool, turns) = (Pool::new(&members).unwrap(), Turns::beginning_at(0));
        allocates_nothing(what, || {
            let mut usable = pool.all();
            for _ in 0..1_000 {
                let turn = turns.take(pool.best(usable));
                let choice = pool.choose(usable, turn).unwrap();
                usable = usable.without(black_box(choice).member);
                if usable.is_empty() {
                    usable = pool.all();
                }
            }
            black_box(pool.candidates(pool.all(), 7).count());
        });
    }
}

#[test]
fn judging_an_answer_and_what_follows_allocates_nothing() {
    let statuses = || StatusRanges::new([429..=429, 500..=599]).unwrap();
    let failures = Failures {
        statuses: statuses(),
        reasons: FailureReasons::new([FailureReason::Connect]),
    };
    let minute = Duration::from_secs(60);
    let rule = Rule::new(Condition::Count(3), minute, failures, minute, Some(minute)).unwrap();
    let retry = retry::Rule {
        count: 2,
        statuses: statuses(),
    };
    let headers: &[(&str, &str)] = &[
        ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("x-ratelimit-reset-tokens", "1m30s"),
    ];
    let (mut cell, remaining) = (Cell::default(), Remaining::default());
    allocates_nothing("an answer", || {
        for second in 1..1_000 {
            let now = Time::from_nanoseconds(second * 1_000_000_000);
            let wait = retry_after::wait(&headers, UnixTime::from_seconds(784_111_700));
            let outcome = Outcome::of_answer(429, wait, Credential::Gateway);
            black_box(cell.admit(now));
            black_box(cell.record(&rule, &outcome, now, now));
            remaining.read(&headers, now);
            black_box(remaining.can_take(Tokens::new(9), now));
            let so_far = SoFar {
                attempts: 1,
                stale: 0,
                members: 30,
                left: Left::Another,
                caller: Caller::Waits,
            };
            black_box(retry.next(&outcome, so_far, &mut Budget::new(now), now));
        }
    });
}
