//! What the decisions of the semantic cache cost: `cargo bench -p filters --bench cache`.
//!
//! A search is exact, over one partition. `TOLLGATE_BENCH_LARGE=1` adds 100,000 vectors of 1,536 dimensions, which
//! take 614 MB. Times are the processor's, printed and not asserted: they are the machine's.

#![allow(clippy::print_stdout, reason = "it prints its result")]
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and the environment"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use filters::cache::exact::Digest;
use filters::cache::guard::compare;
use filters::cache::index::{Index, Item, Limits};
use filters::cache::prompt::{Prompt, Scope, SystemMessages, read};
use filters::cache::score::{Threshold, Vector};
use filters::route::Shape;
use filters::time::Time;

fn main() {
    guard();
    bodies();
    let is_large = std::env::var_os("TOLLGATE_BENCH_LARGE").is_some();
    for (entries, dimensions) in [
        (1_000, 384),
        (1_000, 1_536),
        (100_000, 384),
        (100_000, 1_536),
    ] {
        if entries * dimensions < 100_000_000 || is_large {
            search(entries, dimensions);
        }
    }
}

fn guard() {
    let long = "Please compare the two plans that we discussed and tell me which one costs less over five years. ".repeat(20);
    let other = long.replacen("five", "six", 1);
    for (name, a, b) in [
        (
            "two questions",
            "How do I brew coffee?",
            "What's the best way to make coffee?",
        ),
        ("two prompts of 2 KB", long.as_str(), other.as_str()),
    ] {
        let each = mean(|| {
            black_box(compare(black_box(a), black_box(b)));
        });
        println!("guard, {name}: {each:?}");
    }
}

fn bodies() {
    for bytes in [200, 4_096, 1 << 20] {
        let body = body(&"a word ".repeat(bytes / 7));
        let each = mean(|| {
            black_box(prompt(black_box(&body)));
        });
        println!("reading a body of {} bytes: {each:?}", body.len());
    }
}

fn search(entries: usize, dimensions: usize) {
    let Some(first) = prompt(&body("q")) else {
        return println!("no prompt");
    };
    let mut index = Index::new(Limits {
        entries,
        bytes: usize::MAX,
    });
    let now = Time::from_nanoseconds(0);
    let mut seed = 1_u64;
    let began = Instant::now();
    for number in 0..entries {
        let item = Item {
            partition: first.partition,
            exact: exact(number).unwrap_or(first.exact),
            vector: random(&mut seed, dimensions),
            expires_at: Time::from_nanoseconds(1),
            bytes: 2_000,
            value: number,
        };
        index.insert(now, item);
    }
    let filling = began.elapsed() / u32::try_from(entries).unwrap_or(u32::MAX);
    let (Some(vector), Some(threshold)) = (random(&mut seed, dimensions), Threshold::new(0.05))
    else {
        return println!("no vector");
    };
    let each = mean(|| {
        black_box(index.nearest(now, &first.partition, black_box(&vector), threshold));
    });
    let found = mean(|| {
        black_box(index.find_exact(now, black_box(&first.exact)));
    });
    let taken = index.bytes() / entries - 2_000;
    println!(
        "{entries} x {dimensions}: nearest {each:?}, exact {found:?}, to fill {filling:?} each, {taken} bytes an entry beside its answer"
    );
}

fn exact(number: usize) -> Option<Digest> {
    prompt(&body(&number.to_string())).map(|prompt| prompt.exact)
}

fn prompt(body: &str) -> Option<Prompt> {
    let scope = Scope {
        policy: "p",
        api: "a",
        operation: "o",
        model: "m",
        vary_by: &[],
    };
    read(Shape::Chat, body.as_bytes(), scope, SystemMessages::Ignored).ok()
}

fn body(question: &str) -> String {
    format!(
        r#"{{"model":"gpt-4o","temperature":0.2,"messages":[{{"role":"system","content":"You help."}},{{"role":"user","content":"{question}"}}]}}"#
    )
}

/// An xorshift: the values only have to be spread.
fn random(seed: &mut u64, dimensions: usize) -> Option<Vector> {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..dimensions).map(|_| next()).collect();
    Vector::new(&values)
}

/// Processor time of one: as often as it takes for [`LONG`], since the kernel counts in ticks.
fn mean(mut work: impl FnMut()) -> Duration {
    let mut times = 1_u32;
    loop {
        let began = processor_time();
        for _ in 0..times {
            work();
        }
        let taken = processor_time().saturating_sub(began);
        if taken > LONG || times > 1 << 28 {
            return taken / times;
        }
        times *= 4;
    }
}

const LONG: Duration = Duration::from_millis(250);

/// What this thread has had of a processor. Not the clock: that would count what others do meanwhile.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
