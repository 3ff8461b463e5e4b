//! What replicas tell each other of their backends, over a real redis-server: a hint, and nothing hangs on it.
//!
//! Real processes. Which backend was asked comes from the simulators' own journals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/support.rs"]
mod support;

#[path = "limit_store/server.rs"]
mod server;

use load_tests::simulator::{Behaviour, Handle};
use serde_json::{Value, json};
use server::{Cluster, Server};
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::pool::{self, CHAT, KEY, Member, PATIENT};
use support::wait_until;

const CALL: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const BREAKER: &str = r#"failure-condition = { count = 1, interval = "60s", status-code-ranges = [[429, 429], [500, 599]], error-reasons = ["connect"] }
trip-duration = "60s"
accept-retry-after = true
max-retry-after = "10m"
"#;
const CHANNEL: &str = "{tollgate}:trips";

/// `b0`, `b1` and `b2`, in this order of priority; the last has no breaker.
struct World {
    backends: [Handle; 3],
}

impl World {
    async fn start() -> Self {
        let [b0, b1, b2] = ["b0", "b1", "b2"].map(pool::simulator);
        World {
            backends: [b0.await, b1.await, b2.await],
        }
    }

    fn config(&self, redis: &str) -> String {
        let urls = self.backends.each_ref().map(Handle::url);
        let member = |(number, url): (usize, &'_ String)| {
            let place = ["priority = 1", "priority = 2", "priority = 3"][number];
            let breaker = [BREAKER, BREAKER, ""][number];
            (url.clone(), place, breaker)
        };
        let members: Vec<_> = urls.iter().enumerate().map(member).collect();
        let members: Vec<Member<'_>> = members
            .iter()
            .map(|(url, place, breaker)| Member {
                url,
                place,
                breaker,
                timeouts: PATIENT,
            })
            .collect();
        pool::config(&members, "", "") + &section(redis)
    }

    /// All of them serve, and nobody has asked them yet.
    fn calm(&self) {
        for backend in &self.backends {
            backend.reset_behaviour();
            backend.clear();
        }
    }

    /// How often each was asked since.
    fn asked(&self) -> [usize; 3] {
        self.backends
            .each_ref()
            .map(|backend| backend.requests().len())
    }
}

fn section(url: &str) -> String {
    match url {
        "" => String::new(),
        url => format!("[redis]\nurl = \"{url}\"\ntimeout = \"2s\"\n"),
    }
}

fn call(gateway: &Gateway) -> Answer {
    http::post(&format!("{}{CHAT}", gateway.url), &[("api-key", KEY)], CALL)
}

/// Which backend answers.
fn region(gateway: &Gateway) -> String {
    let answer = call(gateway);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-ms-region").unwrap().to_owned()
}

fn backend(gateway: &Gateway, number: usize) -> Value {
    let status = http::get(&format!("{}/status", gateway.admin_url)).json();
    status["backends"][number].clone()
}

fn is_open(gateway: &Gateway, number: usize) -> bool {
    backend(gateway, number)["state"] == "open"
}

fn hears(gateway: &Gateway, number: usize) {
    wait_until("the trip is heard", || {
        is_open(gateway, number).then_some(())
    });
    assert_eq!(backend(gateway, number)["heard"], true);
}

fn up(gateway: &Gateway, up: bool) {
    gateway.wait_for_metric("tollgate_redis_up", &[], f64::from(u8::from(up)));
}

fn trips(gateway: &Gateway, backend: &str, reason: &str) -> f64 {
    let labels = [("backend", backend), ("reason", reason)];
    gateway.metric("tollgate_backend_trips_total", &labels)
}

/// What Redis' clock shows, in milliseconds.
fn redis_ms(server: &Server) -> i64 {
    let time = server.ask(&["time"]);
    let seconds: i64 = time.lines().next().unwrap().parse().unwrap();
    seconds * 1_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_on_one_replica_keeps_the_others_away_and_those_that_start_later() {
    let (world, server) = (World::start().await, Server::start());
    let text = world.config(&server.url());
    let (one, other) = (Gateway::start(&text), Gateway::start(&text));
    world.backends[0].set(Behaviour::throttled(50).times(1));
    assert_eq!(region(&one), "b1");
    hears(&other, 0);
    assert_eq!(backend(&other, 0)["reason"], "throttled");
    let ends = |gateway| backend(gateway, 0)["closes_at"].as_u64().unwrap();
    assert!(ends(&one).abs_diff(ends(&other)) <= 1);
    assert_eq!(backend(&one, 0)["heard"], false);
    world.calm();
    let later = Gateway::start(&text);
    for gateway in [&one, &other, &later] {
        assert_eq!(region(gateway), "b1");
    }
    assert_eq!(world.asked(), [0, 3, 0]);
    // Each counts it once, and only who saw it counts its reason.
    let counted = |gateway| {
        (
            trips(gateway, "b0", "throttled"),
            trips(gateway, "b0", "heard"),
        )
    };
    assert_eq!(counted(&one), (1.0, 0.0));
    assert_eq!(counted(&other), (0.0, 1.0));
    assert_eq!(counted(&later), (0.0, 1.0));
    assert!(other.log().contains("another replica's trip"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_its_time_is_over_each_replica_probes_once_and_closes() {
    let (world, server) = (World::start().await, Server::start());
    let text = world.config(&server.url());
    let (one, other) = (Gateway::start(&text), Gateway::start(&text));
    let wait = [("retry-after-ms", "4000")];
    world.backends[0].set(Behaviour::answer(429, &wait, Some("{}")).times(1));
    assert_eq!(region(&one), "b1");
    hears(&other, 0);
    world.calm();
    // Asked all the time, until it may.
    let gateways = [&one, &other];
    wait_until("the backend serves both again", || {
        let regions = gateways.map(region);
        (regions == ["b0", "b0"]).then_some(())
    });
    for gateway in gateways {
        // What is recorded of an answer is seen a little after it.
        wait_until("the breaker is closed", || {
            (backend(gateway, 0)["state"] == "closed").then_some(())
        });
    }
    let answered = world.backends[0].requests();
    println!("{} calls reached it, none refused", answered.len());
    assert!(trips(&one, "b0", "throttled") == 1.0 && trips(&other, "b0", "heard") == 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_killed_each_goes_by_itself_and_afterwards_own_evidence_wins() {
    without_redis(Server::kill, Server::restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_hangs_each_goes_by_itself_and_afterwards_own_evidence_wins() {
    without_redis(|server| server.pause(), |server| server.go_on()).await;
}

async fn without_redis(leave: impl Fn(&mut Server), come_back: impl Fn(&mut Server)) {
    let (world, mut server) = (World::start().await, Server::start());
    let text = world.config(&server.url());
    let (one, other) = (Gateway::start(&text), Gateway::start(&text));
    leave(&mut server);
    up(&one, false);
    up(&other, false);
    for throttled in &world.backends[..2] {
        throttled.set(Behaviour::throttled(50).times(1));
    }
    assert_eq!(region(&one), "b2");
    // The other hasn't heard of it, and is served.
    assert_eq!(region(&other), "b0");
    assert_eq!(world.asked(), [2, 1, 1]);
    come_back(&mut server);
    // Of `b1` it knows nothing better.
    hears(&other, 1);
    assert_eq!(backend(&other, 0)["state"], "closed");
    assert_eq!(region(&other), "b0");
    assert!(is_open(&one, 0), "it was served elsewhere, not here");
    // And the other way: what it is told at once it hears at once.
    world.backends[0].set(Behaviour::throttled(50).times(1));
    assert_eq!(region(&other), "b2");
    let later = Gateway::start(&text);
    assert!(is_open(&later, 0) && is_open(&later, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_mean_is_ignored() {
    let (world, server) = (World::start().await, Server::start());
    let gateway = Gateway::start(&world.config(&server.url()));
    let now_ms = redis_ms(&server);
    let trip = |backend: &str, until_ms: i64| {
        json!({
            "version": 1, "replica": "another", "backend": backend, "reason": "throttled",
            "tripped_at_ms": now_ms, "until_ms": until_ms,
        })
    };
    let good = trip("b0", now_ms + 50_000);
    let with = |key: &str, value: Value| {
        let mut wrong = good.clone();
        wrong[key] = value;
        wrong.to_string()
    };
    let wrong = [
        "".to_owned(),
        "throttled".to_owned(),
        "[[[[".to_owned(),
        "{\"version\":1}".to_owned(),
        "x".repeat(100_000),
        with("version", json!(2)),
        with("reason", json!("mood")),
        with("reason", json!("credential")),
        with("backend", json!("b9")),
        with("backend", json!("b2")),
        with("backend", json!(["b0"])),
        with("until_ms", json!(now_ms - 1)),
        with("until_ms", json!(now_ms + 90_000_000)),
        with("until_ms", json!(i64::MAX)),
        with("until_ms", json!("soon")),
        with("tripped_at_ms", json!(i64::MIN)),
    ];
    for message in &wrong {
        server.ask(&["publish", CHANNEL, message]);
        let until = (now_ms + 40_000).to_string();
        server.ask(&["zadd", CHANNEL, &until, message]);
    }
    // Longer than any trip of its own could be: as long as that.
    server.ask(&[
        "publish",
        CHANNEL,
        &trip("b1", now_ms + 80_000_000).to_string(),
    ]);
    hears(&gateway, 1);
    let status = http::get(&format!("{}/status", gateway.admin_url)).json();
    let left =
        status["backends"][1]["closes_at"].as_u64().unwrap() - status["time"].as_u64().unwrap();
    assert!(left <= 601, "{left}");
    assert_eq!(backend(&gateway, 0)["state"], "closed");
    assert_eq!(trips(&gateway, "b0", "heard"), 0.0);
    // What is kept is believed like what is said.
    server.ask(&[
        "zadd",
        CHANNEL,
        &(now_ms + 50_000).to_string(),
        &good.to_string(),
    ]);
    hears(&gateway, 0);
    assert_eq!(region(&gateway), "b2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_follows_the_new_redis_and_leaves_the_old_one() {
    let (world, first, second) = (World::start().await, Server::start(), Server::start());
    let one = Gateway::start(&world.config(&first.url()));
    let other = Gateway::start(&world.config(""));
    world.backends[0].set(Behaviour::throttled(50).times(1));
    assert_eq!(region(&one), "b1");
    for gateway in [&one, &other] {
        gateway.rewrite(&world.config(&second.url()));
        gateway.signal("HUP");
        gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    }
    // What is still open is told there too.
    hears(&other, 0);
    world.backends[1].set(Behaviour::throttled(50).times(1));
    assert_eq!(region(&other), "b2");
    hears(&one, 1);
    wait_until("nobody is connected to the old one but who asks", || {
        let clients = first.ask(&["client", "list"]);
        (clients.lines().count() == 1).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_our_keys_and_channel_will_do_and_without_the_channel_what_is_kept_is_read() {
    for channel in ["&{tollgate}:*", "resetchannels"] {
        let (world, server) = (World::start().await, Server::start());
        let user = ["acl", "setuser", "toll", "on", ">pass", "resetchannels"];
        let user = [&user[..], &["~{tollgate}:*", channel, "+@all"]].concat();
        assert_eq!(server.ask(&user), "OK");
        let url = server.url().replace("//", "//toll:pass@");
        let text = world.config(&url);
        let (one, other) = (Gateway::start(&text), Gateway::start(&text));
        world.backends[0].set(Behaviour::throttled(50).times(1));
        assert_eq!(region(&one), "b1");
        hears(&other, 0);
        let is_told = !one.log().contains("trips aren't shared");
        assert_eq!(is_told, channel != "resetchannels");
        up(&one, true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_trips_over_a_cluster() {
    let (world, cluster) = (World::start().await, Cluster::start());
    let text = world.config(&cluster.url());
    let gateways = [0; 3].map(|_| Gateway::start(&text));
    world.backends[0].set(Behaviour::status(500).times(1));
    assert_eq!(region(&gateways[0]), "b1");
    hears(&gateways[1], 0);
    hears(&gateways[2], 0);
    assert_eq!(backend(&gateways[2], 0)["reason"], "status");
}
