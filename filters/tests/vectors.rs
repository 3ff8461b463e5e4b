//! The recorded cases against the arithmetic itself, without a store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vectors/cases.rs"]
#[allow(dead_code, reason = "the arithmetic is always live; stores ask")]
mod cases;

use std::collections::HashMap;
use std::time::Duration;

use cases::{Act, Case, Expected};
use filters::limit::Now;
use filters::limit::reservation::{Cell, Check, Held, Remaining, plan};
use filters::units::Tokens;
use proptest::prelude::*;

#[test]
fn the_arithmetic_agrees_with_every_recorded_case() {
    let cases = cases::all();
    assert!(cases.len() > 20, "only {} cases", cases.len());
    for case in &cases {
        Run::new(case).all();
    }
}

struct Run<'a> {
    case: &'a Case,
    cells: HashMap<(usize, String), Cell>,
    open: HashMap<String, (String, Vec<Held>)>,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case) -> Self {
        Run {
            case,
            cells: HashMap::new(),
            open: HashMap::new(),
        }
    }

    fn all(mut self) {
        for step in &self.case.steps {
            let now = self.case.now(step);
            let key = match &step.act {
                Act::Call {
                    name,
                    key,
                    prompt,
                    completion,
                    expected,
                } => {
                    let decided = self.call(name, key, (*prompt, *completion), now);
                    assert_eq!(
                        decided, *expected,
                        "{} at {} us: {name}",
                        self.case.name, step.at_us
                    );
                    key.clone()
                }
                Act::Settle { name, used } => self.settle(name, *used, now),
                Act::Drop { name } => self.settle(name, Tokens::ZERO, now),
            };
            if let Some(expected) = &step.remaining {
                assert_eq!(
                    self.remaining(&key, now),
                    *expected,
                    "{} at {} us",
                    self.case.name,
                    step.at_us
                );
            }
        }
    }

    fn call(&mut self, name: &str, key: &str, estimates: (Tokens, Tokens), now: Now) -> Expected {
        let check = |(index, (limit, mode)): (usize, &'a (_, _))| Check {
            limit,
            amount: filters::limit::Limit::hold(limit).amount(estimates.0, estimates.1),
            mode: *mode,
            cell: self.cell(index, key),
        };
        let checks: Vec<Check<'_>> = self.case.limits.iter().enumerate().map(check).collect();
        let grant = match plan(&checks, now) {
            Err(refused) => return Expected::from(Err(refused)),
            Ok(grant) => grant,
        };
        for (index, check) in checks.iter().enumerate() {
            let after = check.cell.take(check.limit, grant.held[index], now);
            self.cells.insert((index, key.to_owned()), after);
        }
        let told = Expected::from(Ok(&grant.would_refuse));
        self.open
            .insert(name.to_owned(), (key.to_owned(), grant.held));
        told
    }

    fn settle(&mut self, name: &str, used: Tokens, now: Now) -> String {
        let (key, held) = self.open.remove(name).unwrap();
        for (index, (limit, _)) in self.case.limits.iter().enumerate() {
            let after = self.cell(index, &key).settle(limit, held[index], used, now);
            self.cells.insert((index, key.clone()), after);
        }
        key
    }

    fn remaining(&self, key: &str, now: Now) -> Vec<Remaining> {
        let left = |(index, (limit, _)): (usize, &(_, _))| Remaining {
            reset: Duration::ZERO,
            ..self.cell(index, key).remaining(limit, now)
        };
        self.case.limits.iter().enumerate().map(left).collect()
    }

    fn cell(&self, index: usize, key: &str) -> Cell {
        let key = (index, key.to_owned());
        self.cells.get(&key).copied().unwrap_or(Cell::UNUSED)
    }
}

/// A property's moments, a microsecond and more apart.
fn at(micros: u64) -> Now {
    let now_us = 1_795_342_830_000_000 + micros;
    Now {
        time: filters::time::Time::from_nanoseconds(now_us * 1_000),
        unix: filters::time::UnixTime::from_seconds(now_us / 1_000_000),
    }
}

proptest! {
    /// Whatever is asked whenever: what was admitted in any stretch of time is no more than the limit and
    /// what flowed in during it.
    #[test]
    fn what_is_held_never_passes_the_rate(
        rate in 1u64..2_000_000,
        calls in proptest::collection::vec((0u64..5_000_000, 1u64..3_000), 1..60),
    ) {
        let rule = filters::limit::bucket::Rate::new(rate).unwrap();
        let mut bucket = filters::limit::bucket::Bucket::FULL;
        let mut now_us = 0;
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (pause, amount) in calls {
            now_us += pause;
            let (now, tokens) = (at(now_us), Tokens::new(amount));
            if bucket.check(rule, tokens, now.time) == filters::limit::bucket::Verdict::Admitted {
                bucket = bucket.take(rule.cost(tokens), now.time);
                admitted.push((now_us, amount));
            }
            for (index, (from, _)) in admitted.iter().enumerate() {
                let sum: u64 = admitted[index..].iter().map(|(_, amount)| amount).sum();
                let flowed = u128::from(rate) * u128::from(now_us - from) / 60_000_000;
                prop_assert!(u128::from(sum) <= u128::from(rate) + flowed);
            }
        }
    }

    /// Who waits as told gets through, and not a nanosecond before.
    #[test]
    fn a_wait_is_exact(rate in 1u64..10_000_000, used in 0u64..50_000_000, part in 0u64..=1_000) {
        use filters::limit::bucket::{Bucket, Rate, Verdict};
        let rule = Rate::new(rate).unwrap();
        let amount = Tokens::new(rate * part / 1_000);
        let now = at(0).time;
        let bucket = Bucket::FULL.take(rule.cost(Tokens::new(used)), now);
        if let Verdict::Wait(wait) = bucket.check(rule, amount, now) {
            let nanoseconds = u64::try_from(wait.as_nanos()).unwrap();
            let then = now.plus_nanoseconds(nanoseconds);
            prop_assert_eq!(bucket.check(rule, amount, then), Verdict::Admitted);
            let before = now.plus_nanoseconds(nanoseconds - 1);
            prop_assert_eq!(bucket.check(rule, amount, before), Verdict::Wait(Duration::from_nanos(1)));
        }
    }
}
