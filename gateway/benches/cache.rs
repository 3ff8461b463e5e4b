//! What the semantic cache costs: `cargo bench -p gateway --bench cache`.
//!
//! First both stores alone, at 1,000 and at 100,000 entries of 1,536 numbers in one partition (`TOLLGATE_BENCH_ENTRIES` is
//! another number), and what an entry takes; then
//! calls through a gateway beside a simulator that answers at once: without a cache, a miss, a hit in other words, a repeat.
//! Redis is the one that `TOLLGATE_BENCH_REDIS` names (`scripts/query-engine` starts one), which is emptied, unless it holds as
//! many entries already: filling it takes minutes, and another run needn't do it again. Without
//! it, only the store in the process is measured. `TOLLGATE_BENCH_MODEL` names a folder that `scripts/local-embeddings` made:
//! with the feature `local-embeddings` it is said what an embedding takes.
//!
//! Each is printed as the median time and as processor time, a call; what Redis used is printed beside it. Nothing is
//! asserted: they are the machine's.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints its result, and what is wrong with its variables"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/support/support.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use filters::cache::entry::Entry;
use filters::cache::prompt::{Prompt, Scope, SystemMessages, read};
use filters::cache::score::{Threshold, Vector};
use filters::route::Shape;
use futures_util::stream::{self, StreamExt as _};
use gateway::cache::kept::{Kept, Owner, Sought};
use gateway::cache::local::Local;
use gateway::cache::shared::{Shared, Space};
use gateway::cache::store::{Kind, Store};
use gateway::store::redis::Endpoint;
use load_tests::simulator::Simulator;
use support::gateway::Gateway;
use support::http;

const DIMENSIONS: usize = 1_536;
const BODY_BYTES: usize = 1_000;
const TIMES: usize = 200;
/// Entries under way to a store while it is filled.
const AT_A_TIME: usize = 8;

/// How many entries are kept, at each run of the stores.
fn sizes() -> Vec<usize> {
    let Some(text) = std::env::var_os("TOLLGATE_BENCH_ENTRIES") else {
        return vec![1_000, 100_000];
    };
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(size @ 1..) => vec![size],
        Some(0) | None => {
            eprintln!(
                "TOLLGATE_BENCH_ENTRIES: found {text:?}, expected a whole number from 1 on, such as 100000"
            );
            std::process::exit(2);
        }
    }
}

fn main() {
    let redis = std::env::var("TOLLGATE_BENCH_REDIS").ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for entries in sizes() {
        let local = Store::Local(Arc::new(Local::new(entries)));
        let meters = Meters {
            bytes: &resident_bytes,
            beside: &|| Duration::ZERO,
        };
        runtime.block_on(store("in process", &local, entries, meters));
        if let Some(url) = &redis {
            let shared = runtime.block_on(connected(url, entries));
            let meters = Meters {
                bytes: &|| used_memory_bytes(url),
                beside: &|| redis_processor_time(url),
            };
            runtime.block_on(store("Redis", &shared, entries, meters));
        }
    }
    #[cfg(feature = "local-embeddings")]
    if let Some(folder) = std::env::var_os("TOLLGATE_BENCH_MODEL") {
        runtime.block_on(model(folder.into()));
    }
    runtime.block_on(calls("no cache", "", ""));
    runtime.block_on(calls("in process", POLICY, ""));
    if let Some(url) = &redis {
        let section = format!("[redis]\nurl = \"{url}\"\n");
        runtime.block_on(calls("Redis", POLICY, &section));
    }
}

async fn connected(url: &str, entries: usize) -> Store {
    if cli(url, &["dbsize"]).trim() != entries.to_string() {
        cli(url, &["flushall"]);
    }
    let endpoint = Endpoint {
        url: url.to_owned(),
        ca_pem: None,
    };
    let shared = Shared::connect(&endpoint, Duration::from_secs(10)).unwrap();
    shared.wait_until_connected().await;
    Store::Shared(shared, Arc::new(Space::new("bench", "bench")))
}

/// What a store takes: its memory, and the processor time of what isn't this process.
#[derive(Clone, Copy)]
struct Meters<'a> {
    bytes: &'a dyn Fn() -> u64,
    beside: &'a dyn Fn() -> Duration,
}

async fn store(name: &str, store: &Store, entries: usize, meters: Meters<'_>) {
    let is_filled = store
        .find_exact(&prompt(entries - 1))
        .await
        .unwrap()
        .is_some();
    // The first look-up makes Redis' index; what is kept before that is indexed afterwards, in its own time.
    let _ = store.find_near(sought(&prompt(0), random(&mut 1))).await;
    let before = (meters.bytes)();
    let began = Instant::now();
    if !is_filled {
        fill(name, store, entries).await;
    }
    let filling = began.elapsed() / u32::try_from(entries).unwrap();
    let each = (meters.bytes)().saturating_sub(before) / entries as u64;
    let name = format!("{name}, {entries} entries");
    match is_filled {
        true => println!("{name}: filled by a run before"),
        false => println!(
            "{name}: kept in {filling:?}; {each} bytes an entry with an answer of {BODY_BYTES}"
        ),
    }
    let processor = || (processor_time(std::process::id()), (meters.beside)());
    let say = |what: &str, cost: Cost| println!("{name}: {what}: {cost}");
    let mut seed = 1;
    let known: Vec<Vector> = (0..TIMES.min(entries)).map(|_| random(&mut seed)).collect();
    let found = prompt(0);
    let absent = prompt(entries);
    let cost = timed(&processor, async |_| {
        assert!(store.find_exact(&found).await.unwrap().is_some());
    });
    say("a repeat that is there", cost.await);
    let cost = timed(&processor, async |_| {
        assert!(store.find_exact(&absent).await.unwrap().is_none());
    });
    say("a repeat that isn't", cost.await);
    // Redis' index is an approximate one.
    let mut count = 0;
    let cost = timed(&processor, async |at| {
        let sought = sought(&prompt(at), known[at].clone());
        count += usize::from(store.find_near(sought).await.unwrap().is_some());
    });
    let cost = cost.await;
    say(
        &format!("a near one that is there, found {count} times of {TIMES}"),
        cost,
    );
    let mut other = 77;
    let cost = timed(&processor, async |_| {
        let sought = sought(&absent, random(&mut other));
        assert!(store.find_near(sought).await.unwrap().is_none());
    });
    say("a near one that isn't", cost.await);
}

/// Some at a time, so that a store beside this process never waits for it. Says how far it is: Redis takes its time.
async fn fill(name: &str, store: &Store, entries: usize) {
    let mut seed = 1;
    let vectors = std::iter::repeat_with(|| random(&mut seed));
    let entries = stream::iter((0..entries).zip(vectors));
    let mut kept = entries
        .map(async |(number, vector)| keep(store, number, vector).await)
        .buffer_unordered(AT_A_TIME)
        .enumerate();
    while let Some((count, ())) = kept.next().await {
        if (count + 1) % 10_000 == 0 {
            eprintln!("{name}: {} kept", count + 1);
        }
    }
}

async fn keep(store: &Store, number: usize, vector: Vector) {
    let prompt = prompt(number);
    let kept = Kept {
        id: number as u128,
        tokens: 1,
        entry: Entry {
            shape: Shape::Chat,
            question: prompt.question.clone().unwrap(),
            body: vec![b'x'; BODY_BYTES].into(),
        },
    };
    let kind = Kind {
        prompt: &prompt,
        vector: Some(vector),
        owner: Owner {
            policy: "bench".into(),
            subscription: "bench".to_owned(),
        },
        duration: Duration::from_secs(3_600),
    };
    store.keep(kept, kind).await.unwrap();
}

fn sought(prompt: &Prompt, vector: Vector) -> Sought {
    Sought {
        partition: prompt.partition,
        vector,
        threshold: Threshold::new(0.05).unwrap(),
        question: prompt.question.clone().unwrap(),
    }
}

fn prompt(number: usize) -> Prompt {
    let scope = Scope {
        policy: "bench",
        api: "a",
        operation: "o",
        model: "m",
        vary_by: &[],
    };
    let body = body(number);
    read(
        Shape::Chat,
        body.as_bytes(),
        scope,
        SystemMessages::Embedded,
    )
    .unwrap()
}

fn body(number: usize) -> String {
    format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"Where do whales number {number} sleep?"}}]}}"#
    )
}

/// Calls through a gateway: what each kind takes, the median.
async fn calls(name: &str, policy: &str, section: &str) {
    let simulator = Simulator::start_default().await.unwrap();
    let text = CONFIG.replace("@URL@", &simulator.url()) + policy + section;
    let gateway = Gateway::start(&text);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let call = |body: &str| {
        let answer = http::post(&url, &[("api-key", "key-a")], body);
        assert_eq!(answer.status, 200);
        answer
            .header("x-tollgate-cache")
            .unwrap_or("none")
            .to_owned()
    };
    let mut seen = String::new();
    let mut kinds: Vec<(&str, Cost)> = Vec::new();
    let processor = || (processor_time(gateway.pid()), Duration::ZERO);
    let new = timed(&processor, async |at| seen = call(&body(at))).await;
    kinds.push(("a new question", new));
    if !policy.is_empty() {
        let other = |at: usize| {
            body(at)
                .replace("Where do", "Tell me where")
                .replace(" sleep?", " sleep")
        };
        let near = timed(&processor, async |at| seen = call(&other(at))).await;
        assert_eq!(seen, "hit");
        kinds.push(("one in other words", near));
        let repeat = timed(&processor, async |at| seen = call(&body(at))).await;
        assert_eq!(seen, "hit");
        kinds.push(("a repeat", repeat));
    }
    for (kind, each) in kinds {
        println!("through the gateway, {name}: {kind}: {each}");
    }
}

/// What the model in this process takes, and an embedding of a short, a middling and a long text.
#[cfg(feature = "local-embeddings")]
async fn model(path: std::path::PathBuf) {
    use gateway::config::plan::cache::LocalModel;
    use gateway::embed::local;
    use sha2::{Digest as _, Sha256};

    let before = resident_bytes();
    let weights = std::fs::read(path.join("model.safetensors")).unwrap();
    let sha256 = Sha256::digest(&weights).into();
    drop(weights);
    let model = local::Local::load(&LocalModel { path, sha256 }).unwrap();
    let taken = resident_bytes().saturating_sub(before) >> 20;
    println!("the model in the process: {taken} MiB");
    let processor = || (processor_time(std::process::id()), Duration::ZERO);
    for words in [6, 24, 200] {
        let text = "how do whales sleep at night ".repeat(words / 6);
        let cost = timed(&processor, async |_| {
            assert!(model.embed(&text).await.is_ok());
        });
        println!("an embedding of {words} words: {}", cost.await);
    }
}

/// What one of [`TIMES`] takes.
struct Cost {
    median: Duration,
    processor: Duration,
    /// Of the store beside this process.
    beside: Duration,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cost {
            median,
            processor,
            beside,
        } = self;
        write!(formatter, "{median:?}, of a processor {processor:?}")?;
        match beside.is_zero() {
            true => Ok(()),
            false => write!(formatter, ", and {beside:?} of Redis"),
        }
    }
}

async fn timed(
    processor: &impl Fn() -> (Duration, Duration),
    mut work: impl AsyncFnMut(usize),
) -> Cost {
    let mut times = Vec::with_capacity(TIMES);
    let before = processor();
    for at in 0..TIMES {
        let began = Instant::now();
        work(at).await;
        times.push(began.elapsed());
    }
    let (own, beside) = processor();
    let each = |now: Duration, before| now.saturating_sub(before) / u32::try_from(TIMES).unwrap();
    times.sort_unstable();
    Cost {
        median: times[TIMES / 2],
        processor: each(own, before.0),
        beside: each(beside, before.1),
    }
}

/// What all threads of a process have had of a processor. The kernel counts in ticks of some milliseconds.
fn processor_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let times = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

fn redis_processor_time(url: &str) -> Duration {
    let info = cli(url, &["info", "cpu"]);
    let seconds = info.lines().filter_map(|line| {
        let own = ["used_cpu_sys:", "used_cpu_user:"];
        let value = own.iter().find_map(|name| line.strip_prefix(name))?;
        value.trim().parse::<f64>().ok()
    });
    Duration::from_secs_f64(seconds.sum())
}

/// An xorshift: the values only have to be spread.
fn random(seed: &mut u64) -> Vector {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..DIMENSIONS).map(|_| next()).collect();
    Vector::new(&values).unwrap()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn used_memory_bytes(url: &str) -> u64 {
    let info = cli(url, &["info", "memory"]);
    let mut lines = info.lines();
    let used = lines.find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok()).unwrap_or(0)
}

fn cli(url: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new("redis-cli")
        .args(["-u", url])
        .args(arguments)
        .output()
        .expect("redis-cli runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "chat" }
[subscriptions.team-a]
keys = ["key-a"]
[backends.one]
url = "@URL@/v1"
auth = "none"
[backends.embeddings]
url = "@URL@/v1"
auth = "none"
[pools.chat]
members = [{ backend = "one" }]
"#;
const POLICY: &str = r#"
[[semantic-cache]]
name = "answers"
embeddings = { backend = "embeddings" }
"#;
