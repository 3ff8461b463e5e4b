//! What choosing among 30 members costs: `cargo bench -p filters --bench balance`.
//!
//! It fails if a choice allocates: a choice is sets of bits and an array on the stack.
//! Times are printed and not asserted: they are the machine's.

#![allow(clippy::print_stdout, reason = "it prints its result")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use filters::balance::{MAX_MEMBERS, Pool, Standing, Turns};

/// Without a number as argument.
const CHOICES: u32 = 2_000_000;
/// Choices that are timed together: the clock costs as much as one, and a batch is shorter than a turn of the scheduler.
const BATCH: u32 = 100;

fn main() {
    let choices = std::env::args().find_map(|argument| argument.parse().ok());
    let choices = choices.unwrap_or(CHOICES);
    let standing = |priority, weight| Standing { priority, weight };
    let equal: Vec<Standing> = (0..MAX_MEMBERS).map(|_| standing(1, 1)).collect();
    let few = (0..30).map(|member| standing(1, 1 + member % 3)).collect();
    let distinct = (0..30).map(|member| standing(1, 7 + 31 * member)).collect();
    let levels = (0..30).map(|member| standing(member, 1)).collect();
    for (name, members) in [
        ("30 equal weights", equal),
        ("3 weights", few),
        ("30 weights", distinct),
        ("30 priorities, the last usable", levels),
    ] {
        measure(name, &members, choices);
    }
}

fn measure(name: &str, members: &[Standing], choices: u32) {
    let Ok(pool) = Pool::new(members) else {
        println!("{name}: no pool");
        return;
    };
    let last = (members[0].priority..members[29].priority)
        .fold(pool.all(), |left, member| left.without(member as usize));
    let turns = Turns::beginning_at(0);
    let nanoseconds = median(choices / BATCH, || {
        for _ in 0..BATCH {
            let best = pool.best(black_box(last));
            black_box(pool.choose(best, turns.take(best)));
        }
    }) / u128::from(BATCH);
    let list = median(choices / BATCH, || {
        black_box(pool.candidates(pool.all(), turns.take(pool.all())).count());
    });
    let allocations = allocation_counter::measure(|| {
        black_box(pool.choose(last, turns.take(pool.best(last))));
        black_box(pool.candidates(pool.all(), 7).count());
    });
    assert_eq!(allocations.count_total, 0, "{name}");
    println!("{name}: {nanoseconds} ns a choice, {list} ns for all 30 in order, no allocation");
}

/// The middle of so many times, in nanoseconds: what else runs on the machine makes some of them long.
fn median(count: u32, mut run: impl FnMut()) -> u128 {
    let mut time = || {
        let began = Instant::now();
        run();
        began.elapsed().as_nanos()
    };
    let mut times: Vec<u128> = (0..count.max(1)).map(|_| time()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}
