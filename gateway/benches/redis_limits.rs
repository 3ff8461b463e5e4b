//! What two limits that are counted in Redis add to a request: `cargo bench -p gateway --bench redis_limits`.
//!
//! The same chat of 2 KB over one connection to two gateways before one simulated endpoint: one without limits, one with
//! two that hold the prompt's estimate, in a redis-server of its own on this machine. They take turns. Times are of the
//! calls as their caller sees them; CPU time is of the gateway's process. They are printed and not judged.

#![allow(clippy::print_stdout, reason = "it prints its result")]
#![allow(
    clippy::unwrap_used,
    reason = "what can't be measured ends the benchmark"
)]
#![allow(
    dead_code,
    reason = "the tests' servers and callers can do more than this needs"
)]

#[path = "../tests/limit_store/server.rs"]
mod server;
#[path = "../tests/support/support.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use load_tests::simulator::Simulator;
use server::Server;
use support::before::KEY;
use support::caller::Caller;
use support::gateway::Gateway;

const ROUNDS: usize = 20;
const CALLS: usize = 100;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let simulator = runtime.block_on(Simulator::start_default()).unwrap();
    let server = Server::start();
    let redis = format!("[redis]\nurl = \"{}\"\ntimeout = \"1s\"\n", server.url());
    let without = Gateway::start(&config(&simulator.url(), ""));
    let with = Gateway::start(&config(&simulator.url(), &(redis + LIMITS)));
    with.wait_for_metric("tollgate_redis_up", &[], 1.0);
    let (mut none, mut two) = (Measured::default(), Measured::default());
    // The first round warms up and isn't counted.
    Measured::default().round(&without);
    Measured::default().round(&with);
    for _ in 0..ROUNDS {
        none.round(&without);
        two.round(&with);
    }
    println!("{} calls each, a chat of 2 KB:", ROUNDS * CALLS);
    none.print("without limits");
    two.print("two limits in Redis");
    let mut adds = |of: fn(&mut Measured) -> Duration| {
        let (two, none) = (of(&mut two).as_secs_f64(), of(&mut none).as_secs_f64());
        (two - none) * 1e6
    };
    println!(
        "  they add {:.0} us to the median, {:.0} us of the gateway's CPU time",
        adds(|measured| measured.percentile(50)),
        adds(|measured| measured.cpu_each())
    );
}

const LIMITS: &str = r#"
[[token-limit]]
name = "minute"
counter-key = 'subscription.id'
tokens-per-minute = 1000000000
estimate-prompt-tokens = true
[[token-limit]]
name = "month"
counter-key = '"everybody"'
token-quota = 1000000000000
token-quota-period = "monthly"
estimate-prompt-tokens = true
"#;

fn config(url: &str, more: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
[subscriptions.team-a]
keys = ["{KEY}"]
[backends.one]
url = "{url}/v1"
auth = "none"
[pools.chat]
members = [{{ backend = "one" }}]
{more}
"#
    )
}

/// The calls through one gateway.
#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    cpu: Duration,
}

impl Measured {
    fn round(&mut self, gateway: &Gateway) {
        let text = "The gateway counts what a prompt costs. ".repeat(48);
        let body =
            format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let mut caller = Caller::connect(&gateway.url);
        let before = cpu_of(gateway.pid());
        for _ in 0..CALLS {
            let begun = Instant::now();
            caller.post("/v1/chat/completions", "bench", body.as_bytes());
            let answer = caller.answer().unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            self.times.push(begun.elapsed());
        }
        self.cpu += cpu_of(gateway.pid()) - before;
    }

    fn percentile(&mut self, percent: usize) -> Duration {
        self.times.sort_unstable();
        self.times[(self.times.len() - 1) * percent / 100]
    }

    fn cpu_each(&mut self) -> Duration {
        self.cpu / u32::try_from(self.times.len()).unwrap()
    }

    fn print(&mut self, name: &str) {
        let (middle, late) = (self.percentile(50), self.percentile(99));
        let cpu = self.cpu_each();
        println!("  {name}: median {middle:.0?}, 99th {late:.0?}; CPU time {cpu:.0?} a call");
    }
}

/// The time on a processor of all threads of a process.
fn cpu_of(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let ns = threads.filter_map(|thread| {
        // A thread may have ended meanwhile.
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ns.sum())
}
