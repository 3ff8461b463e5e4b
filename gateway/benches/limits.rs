//! What a decision of the local store costs, and recalling a count: `cargo bench -p gateway --bench limits`.
//!
//! Reserve and settle, by one thread and by eight, on one counter that all share and on one for each. Times are
//! wall time for a decision as its thread sees it, printed and not judged: they are the machine's, and eight
//! threads on fewer cores wait for each other.

#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use filters::limit::bucket::Rate;
use filters::limit::quota::{Period, Quota};
use filters::limit::reservation::Mode;
use filters::limit::{Hold, Limit, Now};
use filters::time::{Time, UnixTime};
use filters::tokens::{Encoding, Memo};
use filters::units::Tokens;
use gateway::memo::Counts;
use gateway::store::local::Local;
use gateway::store::{LimitRequest, OnRedisError};

const DECISIONS: u64 = 200_000;

fn main() {
    let rate = Limit::new(Rate::new(1_000_000_000), None, Hold::Prompt).ok();
    let quota = Limit::new(None, Quota::new(1 << 40, Period::Monthly), Hold::Prompt).ok();
    let both = [rate, quota].into_iter().flatten().collect::<Vec<_>>();
    for (name, limits) in [("1 limit", &both[..1]), ("2 limits", &both[..])] {
        for threads in [1, 8] {
            for (keys, shared) in [("one counter for all", true), ("a counter for each", false)] {
                let each = decisions(limits, threads, shared);
                println!("{name}, {threads} threads, {keys}: {} ns", each.as_nanos());
            }
        }
    }
    recalls();
}

/// Time of reserving and settling once, as one thread sees it.
fn decisions(limits: &[Limit], threads: u64, shared: bool) -> Duration {
    let store = Local::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = &store;
            let key = format!("subscription-{}", if shared { 0 } else { thread });
            scope.spawn(move || run(store, limits, &key));
        }
    });
    began.elapsed() / DECISIONS as u32
}

fn run(store: &Local, limits: &[Limit], key: &str) {
    let requests: Vec<LimitRequest<'_>> = limits
        .iter()
        .zip(["first", "second"])
        .map(|(limit, policy)| LimitRequest {
            policy,
            key,
            limit: *limit,
            amount: Tokens::new(700),
            mode: Mode::Enforce,
            on_error: OnRedisError::Local,
        })
        .collect();
    for decision in 0..DECISIONS {
        let now = Now {
            time: Time::from_nanoseconds(1_000_000_000_000 + decision * 1_000),
            unix: UnixTime::from_seconds(1_760_000_000),
        };
        if let Ok((claim, _)) = store.reserve(black_box(&requests), now) {
            black_box(claim.settle(Tokens::new(650), now));
        }
    }
}

/// Counting texts, and recalling what was counted, in a table that is full.
fn recalls() {
    const TEXTS: usize = 50_000;
    filters::tokens::load();
    let counts = Counts::default();
    for bytes in [64, 128, 500, 4_000] {
        let texts: Vec<String> = (0..TEXTS).map(|number| text(number, bytes)).collect();
        let began = Instant::now();
        for text in &texts {
            let key = counts.key(Encoding::O200k, text);
            counts.note(key, black_box(Encoding::O200k.count(text)));
        }
        let counted = began.elapsed() / TEXTS as u32;
        let began = Instant::now();
        for text in &texts {
            black_box(counts.recall(counts.key(Encoding::O200k, text)));
        }
        let recalled = began.elapsed() / TEXTS as u32;
        println!(
            "a text of {bytes} bytes: counted and noted in {counted:?}, recalled in {recalled:?}"
        );
    }
}

fn text(number: usize, bytes: usize) -> String {
    let words = [
        "the", " caller", " asks", " again", ",", " 17", " Korvan", " and",
    ];
    let mut text = number.to_string();
    let mut state = number;
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        text.push_str(words[state >> 40 & 7]);
    }
    text
}
