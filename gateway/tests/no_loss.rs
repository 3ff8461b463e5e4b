//! What an operator does to a gateway under load costs no caller anything: a hundred reloads, good and bad in turn, another
//! binary, and a rolling restart of three processes. Not one call fails or is cut, and at the end every counter agrees with
//! the backend's bill.
//!
//! `TOLLGATE_LOSS_REQUESTS` says how many requests there are; the default is what two busy cores do in half a minute.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/support.rs"]
mod support;

#[path = "limit_store/server.rs"]
mod server;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use filters::record::Record;
use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use server::Server;
use support::gateway::Gateway;
use support::load::Line;
use support::{http, wait_until};

const KEY: &str = "key-of-the-loss-test";
const PATH: &str = "/v1/chat/completions";
const CALL: &[u8] = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &[u8] =
    br#"{"model":"gpt-4o-slow","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const STREAMS: usize = 200;
const CALLERS: usize = 16;
const RELOADS: usize = 100;
const QUOTA: u64 = 1_000_000_000;
/// Events of a stream: the role, eight tokens, the end, the usage, `[DONE]`.
const TOKENS: u32 = 8;

/// Two backends: one answers at once, the other streams as the test says.
struct Backends {
    quick: Handle,
    slow: Handle,
}

impl Backends {
    async fn start(slow: Behaviour) -> Backends {
        let backends = Backends {
            quick: Simulator::start_default().await.unwrap(),
            slow: Simulator::start_default().await.unwrap(),
        };
        let content = Content {
            tokens: TOKENS,
            prompt_tokens: Some(5),
            ..Content::default()
        };
        backends.quick.set(Behaviour {
            content: content.clone(),
            ..Behaviour::default()
        });
        backends.slow.set(Behaviour { content, ..slow });
        backends
    }

    /// What both charge for.
    fn billed_tokens(&self) -> u64 {
        self.quick.bill().total_tokens + self.slow.bill().total_tokens
    }
}

fn config(backends: &Backends, redis: &Server, variant: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 2
upgrade-socket = "@FOLDER@/upgrade.sock"
shutdown-delay = "1s"
drain-timeout = "10m"
[server.limits]
max-concurrent-requests = {variant}
[redis]
url = "{}"
timeout = "10s"
[usage-log]
directory = "@FOLDER@/usage"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "gpt-4o" = "quick", "gpt-4o-slow" = "slow" }}
[subscriptions.team]
keys = ["{KEY}"]
[backends.quick]
url = "{}/v1"
auth = "none"
timeouts = {{ connect = "50s", first-byte = "300s", between-bytes = "300s" }}
[backends.slow]
url = "{}/v1"
auth = "none"
timeouts = {{ connect = "50s", first-byte = "300s", between-bytes = "300s" }}
[pools.quick]
members = [{{ backend = "quick" }}]
[pools.slow]
members = [{{ backend = "slow" }}]
[[token-limit]]
name = "yearly"
counter-key = 'subscription.id'
token-quota = {QUOTA}
token-quota-period = "yearly"
remaining-quota-tokens-header-name = "x-left"
"#,
        redis.url(),
        backends.quick.url(),
        backends.slow.url()
    )
}

/// How many requests there are in all.
fn requests() -> usize {
    let wanted = std::env::var("TOLLGATE_LOSS_REQUESTS").ok();
    wanted.map_or(2_000, |text| text.parse().unwrap())
}

/// Callers, each with a connection of its own to every gateway, and what went wrong.
#[derive(Default)]
struct Load {
    begun: AtomicUsize,
    done: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// Counts one call of a series, until there are enough.
    fn next(&self, limit: usize) -> Option<usize> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        (number < limit).then_some(number)
    }

    fn take(&self, called: Result<support::load::Called, String>, what: &str) {
        match called {
            Ok(called) if called.status != 200 => {
                self.wrong
                    .lock()
                    .unwrap()
                    .push(format!("{what}: {called:?}"));
            }
            Ok(called) if what == "stream" && !called.body.ends_with(b"data: [DONE]\n\n") => {
                let text = String::from_utf8_lossy(&called.body);
                self.wrong.lock().unwrap().push(format!("cut: {text}"));
            }
            Ok(_) => {}
            Err(error) => self.wrong.lock().unwrap().push(format!("{what}: {error}")),
        }
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn assert_nothing_wrong(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(
            wrong.is_empty(),
            "{} wrong, the first: {}",
            wrong.len(),
            wrong[0]
        );
    }
}

/// Which gateways may be called, as a load balancer sees it: by `/readyz`.
struct Balancer {
    urls: Vec<(String, String)>,
    ready: Vec<AtomicBool>,
    over: AtomicBool,
}

impl Balancer {
    fn before(gateways: &[Gateway]) -> Arc<Balancer> {
        let urls = gateways
            .iter()
            .map(|one| (one.url.clone(), one.admin_url.clone()));
        let balancer = Arc::new(Balancer {
            urls: urls.collect(),
            ready: gateways.iter().map(|_| AtomicBool::new(true)).collect(),
            over: AtomicBool::new(false),
        });
        let asking = balancer.clone();
        std::thread::spawn(move || {
            while !asking.over.load(Ordering::Relaxed) {
                for (number, (_, admin)) in asking.urls.iter().enumerate() {
                    let answer = http::try_get(&format!("{admin}/readyz"));
                    let is_ready = answer.is_ok_and(|answer| answer.status == 200);
                    asking.ready[number].store(is_ready, Ordering::Relaxed);
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        balancer
    }

    /// Round robin over those that are ready.
    fn choose(&self, turn: usize) -> usize {
        let count = self.ready.len();
        let ready = |number: &usize| self.ready[*number].load(Ordering::Relaxed);
        let mut order = (0..count).map(|step| (turn + step) % count);
        order.find(ready).expect("one is always ready")
    }

    fn lines(&self) -> Vec<Line> {
        let urls = self.urls.iter().map(|(url, _)| format!("{url}{PATH}"));
        urls.map(|url| Line::new(&url, KEY, Instant::now()))
            .collect()
    }
}

/// Callers that share so many calls among themselves.
fn call(
    balancer: &Arc<Balancer>,
    load: &Arc<Load>,
    callers: usize,
    limit: usize,
) -> Vec<tokio::task::JoinHandle<()>> {
    let callers = (0..callers).map(|_| {
        let (balancer, load, mut lines) = (balancer.clone(), load.clone(), balancer.lines());
        tokio::spawn(async move {
            while let Some(number) = load.next(limit) {
                let line = &mut lines[balancer.choose(number)];
                load.take(line.call(Bytes::from_static(CALL)).await, "call");
            }
        })
    });
    callers.collect()
}

/// Opens all streams; they end when the simulator's gate opens.
fn open(balancer: &Arc<Balancer>, load: &Arc<Load>) -> Vec<tokio::task::JoinHandle<()>> {
    let streams = (0..STREAMS).map(|number| {
        let (balancer, load, mut lines) = (balancer.clone(), load.clone(), balancer.lines());
        tokio::spawn(async move {
            let line = &mut lines[balancer.choose(number)];
            load.take(
                line.call_patiently(Bytes::from_static(STREAM)).await,
                "stream",
            );
        })
    });
    streams.collect()
}

async fn all(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        task.await.unwrap();
    }
}

/// Lines and tokens of the usage logs in these folders.
fn logged(folders: &[&Path]) -> (usize, u64) {
    let mut sums = (0, 0);
    for folder in folders {
        for file in std::fs::read_dir(folder.join("usage")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for line in text.lines() {
                let record = Record::read(line.as_bytes()).unwrap();
                assert_eq!(record.served.end, "complete", "{line}");
                sums = (sums.0 + 1, sums.1 + record.usage.total);
            }
        }
    }
    sums
}

/// Waits until the quota has given what the backends charge for, as the answer to one more call tells: calls are settled a
/// moment after their answers. How many calls that took.
fn settled(gateway: &Gateway, backends: &Backends) -> usize {
    let url = format!("{}{PATH}", gateway.url);
    let text = std::str::from_utf8(CALL).unwrap();
    let mut looks = 0;
    wait_until("the quota and the bill agree", || {
        let answer = http::post(&url, &[("api-key", KEY)], text);
        assert_eq!(answer.status, 200, "{}", answer.text());
        looks += 1;
        let left: u64 = answer.header("x-left").unwrap().parse().unwrap();
        (QUOTA - left == backends.billed_tokens()).then_some(())
    });
    looks
}

fn reload(gateway: &Gateway, text: &str, result: &str, count: usize) {
    gateway.rewrite(text);
    gateway.signal("HUP");
    gateway.wait_for_metric(
        "tollgate_config_reloads_total",
        &[("result", result)],
        count as f64,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_and_another_binary_cost_no_caller_anything() {
    let gated = Behaviour::default().with_gate();
    let (backends, redis) = (Backends::start(gated).await, Server::start());
    let former = Gateway::start(&config(&backends, &redis, "1000"));
    former.wait_for_log("waits for another process");
    let balancer = Balancer::before(std::slice::from_ref(&former));
    let (streams, calls) = (Arc::new(Load::default()), Arc::new(Load::default()));
    let open = open(&balancer, &streams);
    let is_open = |gateway: &Gateway| gateway.metric("tollgate_streams_open", &[]);
    // The first event of each comes; the gate holds the rest.
    wait_until("every stream is open", || {
        (is_open(&former) == STREAMS as f64).then_some(())
    });
    let calling = call(&balancer, &calls, CALLERS, requests());
    let done = |count: usize| {
        wait_until("calls go on", || {
            (calls.done.load(Ordering::Relaxed) >= count).then_some(())
        })
    };
    for number in 1..=RELOADS / 2 {
        reload(
            &former,
            &config(&backends, &redis, &format!("{}", 1_000 + number)),
            "ok",
            number,
        );
        reload(&former, &config(&backends, &redis, "0"), "failed", number);
    }
    former.rewrite(&config(&backends, &redis, "2000"));
    done(requests() / 4);
    let next = former.upgrade();
    done(requests() / 2);
    assert_eq!(
        streams.done.load(Ordering::Relaxed),
        0,
        "all of them are still open"
    );
    backends.slow.gate().open();
    all(open).await;
    let folder = former.shared_folder();
    assert!(former.ended().success());
    all(calling).await;
    streams.assert_nothing_wrong();
    calls.assert_nothing_wrong();
    let looks = settled(&next, &backends);
    balancer.over.store(true, Ordering::Relaxed);
    assert!(next.stop().success());
    let (lines, tokens) = logged(&[folder.path()]);
    assert_eq!(lines, requests() + STREAMS + looks);
    assert_eq!(tokens, backends.billed_tokens());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_three_processes_costs_no_caller_anything() {
    // Streams last some seconds, and are opened again and again.
    let paced = Behaviour::default().paced(0, 400);
    let (backends, redis) = (Backends::start(paced).await, Server::start());
    let text = config(&backends, &redis, "1000");
    let mut gateways: Vec<Gateway> = (0..3).map(|_| Gateway::start(&text)).collect();
    let balancer = Balancer::before(&gateways);
    let (streams, calls) = (Arc::new(Load::default()), Arc::new(Load::default()));
    let streaming: Vec<_> = (0..STREAMS)
        .map(|_| {
            let (balancer, load, mut lines) = (balancer.clone(), streams.clone(), balancer.lines());
            tokio::spawn(async move {
                while let Some(number) = load.next(usize::MAX)
                    && !balancer.over.load(Ordering::Relaxed)
                {
                    let line = &mut lines[balancer.choose(number)];
                    load.take(line.call(Bytes::from_static(STREAM)).await, "stream");
                }
            })
        })
        .collect();
    let calling = call(&balancer, &calls, CALLERS, requests() / 4);
    for number in 0..gateways.len() {
        let mark = streams.done.load(Ordering::Relaxed);
        wait_until("streams come and go", || {
            (streams.done.load(Ordering::Relaxed) > mark + STREAMS / 4).then_some(())
        });
        let gateway = gateways.remove(number);
        gateways.insert(number, gateway.restart());
    }
    all(calling).await;
    balancer.over.store(true, Ordering::Relaxed);
    all(streaming).await;
    streams.assert_nothing_wrong();
    calls.assert_nothing_wrong();
    let looks = settled(&gateways[0], &backends);
    let folders: Vec<_> = gateways.iter().map(Gateway::shared_folder).collect();
    for gateway in gateways {
        assert!(gateway.stop().success());
    }
    let folders: Vec<&Path> = folders.iter().map(|folder| folder.path()).collect();
    let (lines, tokens) = logged(&folders);
    assert_eq!(
        lines,
        requests() / 4 + streams.done.load(Ordering::Relaxed) + looks
    );
    assert_eq!(tokens, backends.billed_tokens());
}
