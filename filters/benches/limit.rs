//! What a decision over the limits of a request costs: `cargo bench -p filters --bench limit`.
//!
//! The pure part only, on cells in hand: planning, taking, and settling after the answer. What a store adds is
//! measured in the gateway. Times are printed and not judged: they are the machine's.

#![allow(clippy::print_stdout, reason = "it prints its result")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use filters::limit::bucket::Rate;
use filters::limit::quota::{Period, Quota};
use filters::limit::reservation::{Cell, Check, Held, Mode, plan};
use filters::limit::{Hold, Limit, Now};
use filters::time::{Time, UnixTime};
use filters::units::Tokens;

const DECISIONS: u64 = 2_000_000;

fn main() {
    let rate = Rate::new(1_000_000_000);
    let quota = Quota::new(1 << 40, Period::Monthly);
    let [by_rate, by_quota, by_both] = [(rate, None), (None, quota), (rate, quota)]
        .map(|(rate, quota)| Limit::new(rate, quota, Hold::PromptAndCompletion).ok());
    for (name, limits) in [
        ("one limit, a rate", vec![by_rate]),
        ("one limit, a quota", vec![by_quota]),
        ("one limit, both", vec![by_both]),
        ("two limits, a rate and a quota", vec![by_rate, by_quota]),
        ("two limits, both of each", vec![by_both, by_both]),
    ] {
        let limits: Vec<Limit> = limits.into_iter().flatten().collect();
        println!(
            "{name}: {} ns to decide and take, {} ns with settling",
            decide(&limits, false),
            decide(&limits, true)
        );
    }
    let spent = Limit::new(Rate::new(1), None, Hold::Prompt).ok();
    let spent: Vec<Limit> = spent.into_iter().collect();
    println!("a refusal: {} ns", decide(&spent, false));
}

fn decide(limits: &[Limit], settles: bool) -> u128 {
    let mut cells = vec![Cell::UNUSED; limits.len()];
    let began = Instant::now();
    for decision in 0..DECISIONS {
        let now = Now {
            time: Time::from_nanoseconds(1_000_000_000_000 + decision * 1_000),
            unix: UnixTime::from_seconds(1_760_000_000 + decision / 1_000_000),
        };
        let checks: Vec<Check<'_>> = limits
            .iter()
            .zip(&cells)
            .map(|(limit, cell)| check(limit, *cell))
            .collect();
        let Ok(grant) = black_box(plan(black_box(&checks), now)) else {
            continue;
        };
        for ((limit, cell), held) in limits.iter().zip(&mut cells).zip(grant.held) {
            *cell = taken(limit, *cell, held, settles, now);
        }
    }
    black_box(&cells);
    began.elapsed().as_nanos() / u128::from(DECISIONS)
}

fn check(limit: &Limit, cell: Cell) -> Check<'_> {
    Check {
        limit,
        amount: Tokens::new(700),
        mode: Mode::Enforce,
        cell,
    }
}

fn taken(limit: &Limit, cell: Cell, held: Held, settles: bool, now: Now) -> Cell {
    let cell = cell.take(limit, held, now);
    match settles {
        true => cell.settle(limit, held, Tokens::new(650), now),
        false => cell,
    }
}
