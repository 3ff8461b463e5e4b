//! Chaos: backends are killed, restarted, reset, hung and throttled at random while callers go on, streamed and not.
//!
//! One backend is never harmed, so no caller may see any of it but for a stream that had begun: it ends with an error
//! event. Each call has a text of its own which the simulators say back, so that a lost, doubled or foreign answer is
//! seen. At the end nothing may be left: no stream, no held body, no socket, no memory.
//!
//! `TOLLGATE_CHAOS_SECONDS` says for how long (10 by default), `TOLLGATE_CHAOS_SEED` repeats the choices of a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use load_tests::simulator::behaviour::BreakageKind;
use load_tests::simulator::{Behaviour, Handle};
use serde_json::{Value, json};
use support::gateway::{Gateway, free_address};
use support::load::{Called, Line};
use support::pool::{self, CHAT, KEY, Member, PATIENT};
use support::{http, wait_until};

const CALLERS: usize = 24;
/// What a slot that isn't given back runs against: callers who left may hold one for a moment longer.
const LIMITS: &str = "max-concurrent-requests = 96";
/// Calls before the first harm, and after the last.
const CALM_CALLS: usize = 1_500;
/// Calls between two harms: they pay for more retries than there are callers to be tried again.
const CALLS_A_HARM: usize = 150;

/// Backends that come to harm, and one that doesn't.
const HARMED: [&str; 3] = ["one", "two", "three"];
const UNHARMED: &str = "four";

const BREAKER: &str = r#"failure-condition = { count = 2, interval = "5s" }
trip-duration = "1s"
accept-retry-after = true
max-retry-after = "2s"
"#;
const IMPATIENT: &str = r#"{ connect = "1s", first-byte = "1s", between-bytes = "1s" }"#;

/// Numbers from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// What callers saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    calls: AtomicUsize,
    kinds: Mutex<BTreeMap<String, usize>>,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn take(&self, judged: Result<String, String>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match judged {
            Ok(kind) => *self.kinds.lock().unwrap().entry(kind).or_default() += 1,
            Err(wrong) => self.wrong.lock().unwrap().push(wrong),
        }
    }

    fn wait_for_calls(&self, count: usize) {
        let before = self.calls.load(Ordering::Relaxed);
        wait_until("the callers go on", || {
            (self.calls.load(Ordering::Relaxed) >= before + count).then_some(())
        });
    }

    fn check(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(
            wrong.is_empty(),
            "{} wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

/// Calls until it is told to stop: whole, streamed, and now and then leaving in the middle of a stream.
async fn caller(number: usize, mut line: Line, mut chance: Chance, seen: Arc<Seen>) {
    let mut call = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        call += 1;
        let text = format!("call {call} of {number}: a b c d e f g h");
        let streamed = chance.below(2) == 0;
        let body = json!({
            "model": "gpt-4o", "stream": streamed, "messages": [{"role": "user", "content": text}],
        });
        let body = Bytes::from(body.to_string());
        let judged = match (streamed, chance.below(20)) {
            (true, 0) => {
                let left = line.leave_after(body, 1 + chance.index(6)).await;
                left.map(|()| "left".to_owned())
            }
            (true, _) => line
                .call(body)
                .await
                .and_then(|called| stream(&called, &text)),
            (false, _) => line
                .call(body)
                .await
                .and_then(|called| whole(&called, &text)),
        };
        seen.take(judged.map_err(|wrong| format!("{text:?}, streamed: {streamed}: {wrong}")));
    }
}

fn whole(called: &Called, text: &str) -> Result<String, String> {
    let json: Value = serde_json::from_slice(&called.body).unwrap_or_default();
    let said = json.pointer("/choices/0/message/content");
    match (called.status, said.and_then(Value::as_str)) {
        (200, Some(said)) if said == text => Ok(format!("whole from {}", called.region)),
        _ => Err(format!("{called:?}")),
    }
}

/// Well to its end, or begun well and ended by an error event.
fn stream(called: &Called, text: &str) -> Result<String, String> {
    let body = String::from_utf8_lossy(&called.body);
    let events: Vec<&str> = body.split_terminator("\n\n").collect();
    let (mut said, mut finished, mut error) = (String::new(), false, None);
    for event in &events {
        let data = event.strip_prefix("data: ").unwrap_or_default();
        let json: Value = serde_json::from_str(data).unwrap_or_default();
        let delta = json.pointer("/choices/0/delta/content");
        said += delta.and_then(Value::as_str).unwrap_or_default();
        let reason = json.pointer("/choices/0/finish_reason");
        finished |= reason.is_some_and(Value::is_string);
        error = json.pointer("/error/code").cloned();
    }
    let region = &called.region;
    let done = events.last() == Some(&"data: [DONE]");
    let harmed = region != UNHARMED;
    match (called.status, error) {
        (200, None) if said == text && done => Ok(format!("stream from {region}")),
        // All was said, and only what follows the end is missing: that isn't worth an error.
        (200, None) if said == text && finished && harmed => {
            Ok(format!("undone stream from {region}"))
        }
        (200, Some(code)) if code == "upstream_cut" && text.starts_with(&said) && harmed => {
            Ok(format!("broken stream from {region}"))
        }
        _ => Err(format!("{called:?}")),
    }
}

/// A backend that comes to harm.
struct Victim {
    region: &'static str,
    address: String,
    handle: Option<Handle>,
}

impl Victim {
    async fn new(region: &'static str) -> Victim {
        let mut victim = Victim {
            region,
            address: free_address(),
            handle: None,
        };
        victim.restart().await;
        victim
    }

    async fn restart(&mut self) {
        let handle = pool::simulator_at(&self.address, self.region).await;
        handle.set(well());
        self.handle = Some(handle);
    }

    async fn kill(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop().await;
        }
    }

    /// One harm, or its end; what it was.
    async fn harm(&mut self, chance: &mut Chance) -> &'static str {
        let Some(handle) = &self.handle else {
            self.restart().await;
            return "restarted";
        };
        let after = chance.index(8);
        let (what, behaviour) = match chance.below(12) {
            0 | 1 => {
                self.kill().await;
                return "killed";
            }
            2 => ("resets", Behaviour::reset()),
            3 => ("resets inside", breaks(BreakageKind::Reset, after)),
            4 => ("cuts inside", breaks(BreakageKind::Cut, after)),
            5 => ("hangs", Behaviour::hang()),
            6 => ("hangs inside", breaks(BreakageKind::Hang, after)),
            7 => ("throttles", Behaviour::throttled(1)),
            8 => ("fails", Behaviour::status(500)),
            9 => ("is down for a while", Behaviour::status(503)),
            10 => ("is slow", Behaviour::echo().paced(50, 5)),
            _ => ("is well", well()),
        };
        handle.set(behaviour);
        what
    }
}

/// A pace at which streams are in flight when harm comes.
fn well() -> Behaviour {
    Behaviour::echo().paced(0, 1)
}

fn breaks(kind: BreakageKind, after: usize) -> Behaviour {
    Behaviour {
        breakage: Behaviour::breaks(kind, Some(after)).breakage,
        ..well()
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    sockets: usize,
    resident_kib: u64,
}

impl Held {
    fn by(gateway: &Gateway) -> Held {
        let folder = format!("/proc/{}", gateway.pid());
        let open = std::fs::read_dir(format!("{folder}/fd")).unwrap();
        let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let sockets = links.filter(|link| link.to_string_lossy().starts_with("socket:"));
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.unwrap().trim().trim_end_matches(" kB");
        Held {
            sockets: sockets.count(),
            resident_kib: resident.parse().unwrap(),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: no number: {text}")),
    )
}

fn gateway(victims: &[Victim], unharmed: &Handle) -> Gateway {
    let mut urls: Vec<String> = victims
        .iter()
        .map(|victim| format!("http://{}", victim.address))
        .collect();
    urls.push(unharmed.url());
    let member = |(place, url)| Member {
        url,
        place: [
            "priority = 1",
            "priority = 1",
            "priority = 2",
            "priority = 3",
        ][place],
        breaker: if place < HARMED.len() { BREAKER } else { "" },
        timeouts: if place < HARMED.len() {
            IMPATIENT
        } else {
            PATIENT
        },
    };
    let members: Vec<Member<'_>> = urls
        .iter()
        .map(String::as_str)
        .enumerate()
        .map(member)
        .collect();
    Gateway::start(&pool::config(&members, LIMITS, "retry = { count = 3 }"))
}

fn start_callers(gateway: &Gateway, seed: u64) -> (Arc<Seen>, Vec<tokio::task::JoinHandle<()>>) {
    let (seen, epoch) = (Arc::new(Seen::default()), Instant::now());
    let url = format!("{}{CHAT}", gateway.url);
    let tasks = (0..CALLERS).map(|number| {
        let line = Line::new(&url, KEY, epoch);
        let chance = Chance(seed.wrapping_mul(31).wrapping_add(number as u64));
        tokio::spawn(caller(number, line, chance, seen.clone()))
    });
    (seen.clone(), tasks.collect())
}

/// Harms and heals for so long; how often each.
async fn harm(
    victims: &mut [Victim],
    seen: &Seen,
    seed: u64,
    seconds: u64,
) -> BTreeMap<&'static str, usize> {
    let (mut chance, began) = (Chance(seed), Instant::now());
    let mut harms = BTreeMap::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        let victim = chance.index(victims.len());
        *harms
            .entry(victims[victim].harm(&mut chance).await)
            .or_default() += 1;
        seen.wait_for_calls(CALLS_A_HARM);
    }
    harms
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_costs_nobody_an_answer_and_leaves_nothing_behind() {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = number("TOLLGATE_CHAOS_SEED").unwrap_or(since_1970.as_secs());
    let seconds = number("TOLLGATE_CHAOS_SECONDS").unwrap_or(10);
    eprintln!("TOLLGATE_CHAOS_SEED={seed} TOLLGATE_CHAOS_SECONDS={seconds}");
    let mut victims = Vec::new();
    for region in HARMED {
        victims.push(Victim::new(region).await);
    }
    let unharmed = pool::simulator(UNHARMED).await;
    unharmed.set(well());
    let gateway = gateway(&victims, &unharmed);
    let idle = Held::by(&gateway);

    let (seen, callers) = start_callers(&gateway, seed);
    seen.wait_for_calls(CALM_CALLS);
    let warm = Held::by(&gateway);
    seen.check();
    assert_eq!(gateway.metric("tollgate_retries_total", &[]), 0.0);

    let harms = harm(&mut victims, &seen, seed, seconds).await;
    for victim in &mut victims {
        victim.kill().await;
        victim.restart().await;
    }
    for backend in ["b0", "b1"] {
        gateway.wait_for_metric("tollgate_backend_state", &[("backend", backend)], 0.0);
    }
    seen.wait_for_calls(CALM_CALLS);
    seen.stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    eprintln!(
        "harms: {harms:?}\nanswers: {:?}",
        seen.kinds.lock().unwrap()
    );
    seen.check();
    check_accounts(&gateway, seen.calls.load(Ordering::Relaxed));
    for victim in &mut victims {
        victim.kill().await;
    }
    unharmed.stop().await;
    check_held(&gateway, idle, warm);
}

/// Every call is accounted once, and each attempt beyond the first is a retry.
fn check_accounts(gateway: &Gateway, calls: usize) {
    gateway.wait_for_metric("tollgate_streams_open", &[], 0.0);
    gateway.wait_for_metric("tollgate_buffered_bytes", &[], 0.0);
    gateway.wait_for_metric("tollgate_requests_total", &[], calls as f64);
    gateway.wait_for_metric("tollgate_usage_records_total", &[], calls as f64);
    let attempts = gateway.metric("tollgate_backend_attempts_total", &[]);
    let retries = gateway.metric("tollgate_retries_total", &[]);
    eprintln!("{calls} calls, {attempts} attempts, {retries} retries");
    assert_eq!(attempts, calls as f64 + retries);
    let status = http::get(&format!("{}/status", gateway.admin_url)).json();
    assert_eq!(status["in_flight"], 0);
}

/// Pooled connections end with their backends. What then is open was open before the first call.
fn check_held(gateway: &Gateway, idle: Held, warm: Held) {
    let mut held = Held::by(gateway);
    wait_until("the sockets are closed", || {
        held = Held::by(gateway);
        // The admin listener's answer to the last look may still be closing.
        (held.sockets <= idle.sockets + 1).then_some(())
    });
    eprintln!("idle {idle:?}, warm {warm:?}, at the end {held:?}");
    // An allocator keeps some of what a burst took.
    let bound = warm.resident_kib + warm.resident_kib / 4 + (16 << 10);
    assert!(held.resident_kib <= bound, "{held:?} after {warm:?}");
}
