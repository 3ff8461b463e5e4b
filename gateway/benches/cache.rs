//! What the semantic cache costs: `cargo bench -p gateway --bench cache`.
//!
//! First both stores alone, at 1,000 and at 100,000 entries of 1,536 numbers in one partition, and what an entry takes; then
//! calls through a gateway beside a simulator that answers at once: without a cache, a miss, a hit in other words, a repeat.
//! Redis is the one that `TOLLGATE_BENCH_REDIS` names (`scripts/query-engine` starts one), which is emptied; without
//! it, only the store in the process is measured. Times are printed and not asserted: they are the machine's.

#![allow(clippy::print_stdout, reason = "it prints its result")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/support/support.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use filters::cache::entry::Entry;
use filters::cache::prompt::{Prompt, Scope, SystemMessages, read};
use filters::cache::score::{Threshold, Vector};
use filters::route::Shape;
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

fn main() {
    let redis = std::env::var("TOLLGATE_BENCH_REDIS").ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for entries in [1_000, 100_000] {
        let local = Store::Local(Arc::new(Local::new(entries)));
        runtime.block_on(store("in process", &local, entries, resident_bytes));
        if let Some(url) = &redis {
            let shared = runtime.block_on(connected(url));
            let taken = || used_memory_bytes(url);
            runtime.block_on(store("Redis", &shared, entries, taken));
        }
    }
    runtime.block_on(calls("no cache", "", ""));
    runtime.block_on(calls("in process", POLICY, ""));
    if let Some(url) = &redis {
        let section = format!("[redis]\nurl = \"{url}\"\n");
        runtime.block_on(calls("Redis", POLICY, &section));
    }
}

async fn connected(url: &str) -> Store {
    cli(url, &["flushall"]);
    let endpoint = Endpoint {
        url: url.to_owned(),
        ca_pem: None,
    };
    let shared = Shared::connect(&endpoint, Duration::from_secs(10)).unwrap();
    shared.wait_until_connected().await;
    Store::Shared(shared, Arc::new(Space::new("bench", "bench")))
}

async fn store(name: &str, store: &Store, entries: usize, taken: impl Fn() -> u64) {
    let before = taken();
    let mut seed = 1;
    let began = Instant::now();
    for number in 0..entries {
        keep(store, number, random(&mut seed)).await;
    }
    let filling = began.elapsed() / u32::try_from(entries).unwrap();
    let each = taken().saturating_sub(before) / entries as u64;
    let known = random(&mut 1);
    let found = prompt(0);
    let exact = timed(async |_| assert!(store.find_exact(&found).await.unwrap().is_some())).await;
    let absent = prompt(entries);
    let no_exact =
        timed(async |_| assert!(store.find_exact(&absent).await.unwrap().is_none())).await;
    let near = timed(async |_| {
        let sought = sought(&found, known.clone());
        assert!(store.find_near(sought).await.unwrap().is_some());
    })
    .await;
    let mut other = 77;
    let no_near = timed(async |_| {
        let sought = sought(&absent, random(&mut other));
        assert!(store.find_near(sought).await.unwrap().is_none());
    })
    .await;
    println!(
        "{name}, {entries} entries: repeat found {exact:?}, not {no_exact:?}; near found {near:?}, not {no_near:?}; kept {filling:?}; \
         {each} bytes an entry with an answer of {BODY_BYTES}"
    );
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
    let mut kinds: Vec<(&str, Duration)> = Vec::new();
    let new = timed(async |at| seen = call(&body(at))).await;
    kinds.push(("a new question", new));
    if !policy.is_empty() {
        let other = |at: usize| {
            body(at)
                .replace("Where do", "Tell me where")
                .replace(" sleep?", " sleep")
        };
        let near = timed(async |at| seen = call(&other(at))).await;
        assert_eq!(seen, "hit");
        kinds.push(("one in other words", near));
        let repeat = timed(async |at| seen = call(&body(at))).await;
        assert_eq!(seen, "hit");
        kinds.push(("a repeat", repeat));
    }
    for (kind, each) in kinds {
        println!("through the gateway, {name}: {kind} {each:?}");
    }
}

/// The median time of one of [`TIMES`].
async fn timed(mut work: impl AsyncFnMut(usize)) -> Duration {
    let mut times = Vec::with_capacity(TIMES);
    for at in 0..TIMES {
        let began = Instant::now();
        work(at).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[TIMES / 2]
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
