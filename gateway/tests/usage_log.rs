//! The usage log of a running gateway: one line a call, sums as the backend bills them, and what is left of it when the
//! process is killed or the directory isn't there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use filters::record::Record;
use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::gateway::Gateway;
use support::{http, wait_until};

const KEY: &str = "key-of-team-a";
const DROPPED: &str = "tollgate_usage_log_dropped_total";

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_reached_a_subscription_has_one_line_and_sums_are_the_bill() {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(Behaviour {
        content: Content {
            tokens: 5,
            prompt_tokens: Some(100),
            cached_tokens: 64,
            reasoning_tokens: 3,
            ..Content::default()
        },
        ..Behaviour::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&simulator, folder.path());
    assert_eq!(gateway.metric(DROPPED, &[]), 0.0);
    assert!(gateway.metrics().contains(DROPPED));
    for _ in 0..7 {
        assert_eq!(chat(&gateway, KEY, "\"user\":\"a\\\"nn\",").status, 200);
    }
    for _ in 0..4 {
        assert_eq!(chat(&gateway, KEY, "\"stream\":true,").status, 200);
    }
    assert_eq!(chat_of(&gateway, KEY, "o3", "").status, 403);
    // Nobody's: no line.
    assert_eq!(chat(&gateway, "wrong", "").status, 401);
    assert_eq!(http::get(&format!("{}/nowhere", gateway.url)).status, 404);
    assert!(gateway.stop().success());

    let text = written(folder.path());
    let lines = records(&text);
    assert_eq!(lines.len(), 12);
    let sum = |of: fn(&Record<'_>) -> u64| lines.iter().map(of).sum::<u64>();
    let bill = simulator.bill();
    assert_eq!(sum(|line| line.usage.prompt), bill.prompt_tokens);
    assert_eq!(sum(|line| line.usage.completion), bill.completion_tokens);
    assert_eq!(sum(|line| line.usage.total), bill.total_tokens);
    assert_eq!(
        (
            sum(|line| line.usage.cached),
            sum(|line| line.usage.reasoning)
        ),
        (11 * 64, 11 * 3)
    );

    let plain = &lines[0];
    assert_eq!(plain.who.subscription, "team-a");
    assert_eq!(plain.who.product, "gold");
    assert_eq!(plain.who.user, "a\"nn");
    assert_eq!(
        plain.who.attributes,
        [("cost-center".into(), "47,11".into())]
    );
    assert_eq!(
        (plain.asked.api.as_ref(), plain.asked.operation.as_ref()),
        ("openai", "chat-completions")
    );
    assert_eq!(
        (plain.asked.model.as_ref(), plain.asked.stream),
        ("gpt-4o", false)
    );
    assert_eq!(
        (
            plain.served.backend.as_ref(),
            plain.served.deployment.as_ref()
        ),
        ("sim", "four-o")
    );
    assert_eq!((plain.served.status, plain.served.attempts), (200, 1));
    assert_eq!(
        (plain.served.source.as_ref(), plain.served.end.as_ref()),
        ("upstream", "complete")
    );
    assert_eq!((plain.served.cache.as_ref(), plain.ttft_ms), ("none", None));
    assert_eq!(
        (plain.request_id.len(), plain.gateway.as_ref()),
        (32, "gate-1")
    );
    let streamed: Vec<_> = lines.iter().filter(|line| line.asked.stream).collect();
    assert_eq!(streamed.len(), 4);
    assert!(streamed.iter().all(|line| line.ttft_ms.is_some()));
    let refused = lines.iter().find(|line| line.served.status == 403).unwrap();
    assert_eq!(
        (refused.served.end.as_ref(), refused.served.source.as_ref()),
        ("refused", "none")
    );
    assert_eq!((refused.usage.total, refused.served.attempts), (0, 0));
    assert_eq!(refused.asked.model, "o3");
    assert!(
        !text.contains(KEY) && !text.contains("Hello there"),
        "{text}"
    );
}

/// Four kills; `TOLLGATE_KILLS=100` makes it a hundred. Most of the time is the second that has to pass before each, so
/// four gateways live and die at once, each on a directory of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_leaves_readable_lines_and_misses_at_most_the_last_seconds() {
    let simulator = Simulator::start_default().await.unwrap();
    let kills = std::env::var("TOLLGATE_KILLS").ok();
    let kills: usize = kills.map_or(LANES, |kills| kills.parse().unwrap());
    let lanes: Vec<Killed> = std::thread::scope(|scope| {
        let simulator = &simulator;
        let lane = |lane| scope.spawn(move || Killed::after(simulator, lane, kills));
        let running: Vec<_> = (0..LANES).map(lane).collect();
        running
            .into_iter()
            .map(|lane| lane.join().unwrap())
            .collect()
    });
    let sum = |of: fn(&Killed) -> usize| lanes.iter().map(of).sum::<usize>();
    let (answered, missing) = (sum(|lane| lane.answered), sum(|lane| lane.missing));
    eprintln!("{kills} kills: {missing} lines of {answered} answered calls are missing");
    let total: u64 = lanes.iter().map(|lane| lane.tokens).sum();
    assert!(total <= simulator.bill().total_tokens);
}

const LANES: usize = 4;

/// What was left of a directory whose gateways were killed one after the other.
#[derive(Default)]
struct Killed {
    answered: usize,
    missing: usize,
    tokens: u64,
}

impl Killed {
    /// Every [`LANES`]th of so many kills.
    fn after(simulator: &Handle, lane: usize, kills: usize) -> Killed {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Lines::default();
        let mut killed = Killed::default();
        for round in (lane..kills).step_by(LANES) {
            killed.once(simulator, folder.path(), &mut lines, round);
        }
        // The next process takes off what the kill may have cut in the middle.
        assert!(start(simulator, folder.path()).stop().success());
        let text = written(folder.path());
        let records = records(&text);
        assert_eq!(ids(&text), lines.seen);
        assert_eq!(records.len(), lines.seen.len(), "a line is there twice");
        killed.tokens = records.iter().map(|record| record.usage.total).sum();
        killed
    }

    fn once(&mut self, simulator: &Handle, folder: &Path, lines: &mut Lines, round: usize) {
        let before = lines.begin(folder);
        let gateway = start(simulator, folder);
        let over = AtomicBool::new(false);
        let answers: Mutex<Vec<Instant>> = Mutex::default();
        let (on_disk, killed) = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| call_until(&over, &gateway.url, &answers));
            }
            wait_until("calls were answered more than a second ago", || {
                (older(&answers, Instant::now()) >= 30).then_some(())
            });
            let on_disk = lines.whole(folder);
            gateway.signal("KILL");
            let killed = Instant::now();
            over.store(true, Ordering::Relaxed);
            (on_disk, killed)
        });
        gateway.ended();
        let left = lines.whole(folder);
        assert!(
            left.is_superset(&on_disk),
            "round {round} lost lines that were on the disk"
        );
        let due = older(&answers, killed);
        assert!(
            left.len() >= due,
            "round {round}: {} lines of {due} answers that are older than a second",
            left.len()
        );
        let answers = answers.lock().unwrap().len();
        self.answered += answers;
        self.missing += answers.saturating_sub(left.len());
        lines.seen.extend(left);
        assert!(lines.seen.len() > before);
    }
}

/// Lines by their calls. A process writes into files of its own, so those of former ones are read once.
#[derive(Default)]
struct Lines {
    seen: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

impl Lines {
    /// Before the next process starts: what is there is seen. How many lines that are.
    fn begin(&mut self, directory: &Path) -> usize {
        self.files = paths(directory).into_iter().collect();
        self.seen.len()
    }

    /// The calls in the files of the process that runs now, or was killed; its last line may lack its end.
    fn whole(&self, directory: &Path) -> BTreeSet<String> {
        let paths = paths(directory).into_iter();
        let own = paths.filter(|path| !self.files.contains(path));
        let texts = own.map(|path| {
            let mut text = std::fs::read(path).unwrap();
            let end = text.iter().rposition(|byte| *byte == b'\n');
            text.truncate(end.map_or(0, |at| at + 1));
            String::from_utf8(text).unwrap()
        });
        ids(&texts.collect::<String>())
    }
}

fn call_until(over: &AtomicBool, url: &str, answers: &Mutex<Vec<Instant>>) {
    let url = format!("{url}/v1/chat/completions");
    while !over.load(Ordering::Relaxed) {
        // It is killed in the middle of some call.
        let headers = [("api-key", KEY)];
        let answer = http::request("POST", &url, &headers, body("gpt-4o", "").as_bytes());
        if answer.is_ok_and(|answer| answer.status == 200) {
            answers.lock().unwrap().push(Instant::now());
        }
    }
}

/// Calls that were answered more than a second before.
fn older(answers: &Mutex<Vec<Instant>>, than: Instant) -> usize {
    let answers = answers.lock().unwrap();
    let second = std::time::Duration::from_secs(1);
    answers
        .iter()
        .filter(|answer| **answer + second < than)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_told_once_and_stops_nothing() {
    let simulator = Simulator::start_default().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("usage");
    std::fs::write(&directory, "a file in its place").unwrap();
    let gateway = start(&simulator, &directory);
    let failing = "the usage log can't be written";
    for _ in 0..5 {
        assert_eq!(chat(&gateway, KEY, "").status, 200);
        gateway.wait_for_log(failing);
    }
    assert_eq!(
        gateway.log().matches(failing).count(),
        1,
        "{}",
        gateway.log()
    );
    std::fs::remove_file(&directory).unwrap();
    gateway.wait_for_log("the usage log is written again");
    assert_eq!(chat(&gateway, KEY, "").status, 200);
    assert_eq!(gateway.metric(DROPPED, &[]), 0.0);
    assert!(gateway.stop().success());
    assert_eq!(records(&written(&directory)).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_stops_nothing_and_costs_no_line_where_room_comes_back() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: only root may mount a disk that is small enough to fill");
        return;
    };
    let simulator = Simulator::start_default().await.unwrap();
    let directory = disk.0.path().join("usage");
    let gateway = start(&simulator, &directory);
    let status = || http::get(&format!("{}/status", gateway.admin_url)).json()["usage_log"].clone();
    assert_eq!(chat(&gateway, KEY, "").status, 200);
    assert_eq!(
        status(),
        serde_json::json!({ "failing": false, "dropped": 0 })
    );
    let ballast = disk.0.path().join("ballast");
    let full = std::fs::File::create(&ballast)
        .and_then(|mut file| std::io::copy(&mut std::io::repeat(b'x'), &mut file));
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let mut calls = 1;
    // The last page that the log has may take some lines yet.
    wait_until("the full disk is told", || {
        assert_eq!(chat(&gateway, KEY, "").status, 200);
        calls += 1;
        let told = gateway.log().contains("the usage log can't be written");
        told.then_some(())
    });
    for _ in 0..20 {
        assert_eq!(chat(&gateway, KEY, "").status, 200);
        calls += 1;
    }
    gateway.wait_for_metric("tollgate_usage_log_failing", &[], 1.0);
    assert_eq!(
        status(),
        serde_json::json!({ "failing": true, "dropped": 0 })
    );
    assert_eq!(gateway.log().matches("the usage log can't be").count(), 1);
    // What is there is whole while the disk is full, too.
    assert!(records(&written(&directory)).len() < calls);
    std::fs::remove_file(&ballast).unwrap();
    gateway.wait_for_log("the usage log is written again");
    gateway.wait_for_metric("tollgate_usage_log_failing", &[], 0.0);
    assert_eq!(chat(&gateway, KEY, "").status, 200);
    calls += 1;
    assert_eq!(gateway.metric(DROPPED, &[]), 0.0);
    assert!(gateway.stop().success());
    let text = written(&directory);
    assert_eq!(records(&text).len(), calls);
    assert_eq!(ids(&text).len(), calls);
}

/// A file system in memory that a test can fill.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
        let mounted = mount.arg(folder.path()).output().ok()?;
        mounted.status.success().then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once from where it is, however long somebody has a file of it open.
        let mut unmount = std::process::Command::new("umount");
        let _ = unmount.arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_never_be_written_is_counted_at_the_end() {
    let simulator = Simulator::start_default().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("file/usage");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let gateway = start(&simulator, &directory);
    assert_eq!(chat(&gateway, KEY, "").status, 200);
    gateway.wait_for_log("the usage log can't be written");
    gateway.signal("TERM");
    gateway.wait_for_log("the usage log ends without its last lines");
    assert!(gateway.ended().success());
}

/// All files, one after the other.
fn written(directory: &Path) -> String {
    let paths = paths(directory).into_iter();
    paths
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

fn paths(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn records(text: &str) -> Vec<Record<'_>> {
    assert!(text.is_empty() || text.ends_with('\n'));
    let mut records = Vec::new();
    for line in text.lines() {
        records.push(Record::read(line.as_bytes()).unwrap_or_else(|bad| panic!("{bad}: {line}")));
    }
    records
}

fn ids(text: &str) -> BTreeSet<String> {
    let records = records(text).into_iter();
    records
        .map(|record| record.request_id.into_owned())
        .collect()
}

fn body(model: &str, asked: &str) -> String {
    format!(
        r#"{{{asked}"model":"{model}","messages":[{{"role":"user","content":"Hello there"}}]}}"#
    )
}

fn chat(gateway: &Gateway, key: &str, asked: &str) -> http::Answer {
    chat_of(gateway, key, "gpt-4o", asked)
}

fn chat_of(gateway: &Gateway, key: &str, model: &str, asked: &str) -> http::Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", key)], &body(model, asked))
}

fn start(simulator: &Handle, directory: &Path) -> Gateway {
    Gateway::start(&format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 1

[gateway]
id = "gate-1"

[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "main" }}

[pools.main]
members = [{{ backend = "sim" }}]

[backends.sim]
url = "{}/v1"
auth = "none"
deployment = "four-o"

[products.gold]
models = ["gpt-4o"]

[subscriptions.team-a]
product = "gold"
keys = ["{KEY}"]
attributes = {{ cost-center = "47,11" }}

[usage-log]
directory = "{}"
"#,
        simulator.url(),
        directory.display()
    ))
}
