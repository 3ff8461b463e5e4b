//! One limit, several replicas: exact over a Redis that all share, and by its word where Redis is gone.
//!
//! Real processes on a real redis-server. Every figure that is asserted comes from the simulator's own bill.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "these tests show what they measured")]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/support.rs"]
mod support;

#[path = "limit_store/server.rs"]
mod server;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use load_tests::simulator::behaviour::{Content, Pace};
use load_tests::simulator::{Behaviour, Handle, Simulator};
use server::{Cluster, Place, Server};
use support::events;
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::wait_until;

const CALL: &str =
    r#"{"model":"gpt-4o","max_tokens":12,"messages":[{"role":"user","content":"hi"}]}"#;
/// What the tokenizer counts for the call's prompt, and what the simulator bills for it.
const PROMPT: u64 = 8;
const COMPLETION: u32 = 12;
const COST: u64 = PROMPT + COMPLETION as u64;
const KEY: (&str, &str) = ("api-key", "key-a");
const CALLERS: usize = 64;

fn config(url: &str, redis: &str, limit: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 2
{redis}
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
[subscriptions.team-a]
keys = ["key-a"]
[backends.one]
url = "{url}/v1"
auth = "none"
[pools.chat]
members = [{{ backend = "one" }}]
[[token-metric]]
dimensions = [{{ name = "subscription_id" }}]
[[token-limit]]
name = "shared"
counter-key = 'subscription.id'
remaining-quota-tokens-header-name = "x-left"
{limit}
"#
    )
}

fn redis(place: &impl Place) -> String {
    format!("[redis]\nurl = \"{}\"\ntimeout = \"2s\"\n", place.url())
}

async fn simulator() -> Handle {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(Behaviour {
        content: Content {
            tokens: COMPLETION,
            prompt_tokens: Some(PROMPT),
            ..Content::default()
        },
        pace: Pace {
            first_token_ms: 20,
            ..Pace::default()
        },
        ..Behaviour::default()
    });
    simulator
}

fn chat(gateway: &Gateway) -> Answer {
    http::post(
        &format!("{}/v1/chat/completions", gateway.url),
        &[KEY],
        CALL,
    )
}

fn redis_is(gateway: &Gateway, up: f64) {
    gateway.wait_for_metric("tollgate_redis_up", &[], up);
}

/// Calls by all callers at once, over all gateways, as often as they can while `goes_on`; how many were answered 200.
fn storm(gateways: &[Gateway], goes_on: impl Fn() -> bool + Sync) -> u64 {
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let gateway = &gateways[caller % gateways.len()];
            let (answered, goes_on) = (&answered, &goes_on);
            scope.spawn(move || {
                while goes_on() {
                    let answer = chat(gateway);
                    match answer.status {
                        200 => answered.fetch_add(1, Ordering::Relaxed),
                        403 | 429 => break,
                        status => panic!("{status}: {}", answer.text()),
                    };
                }
            });
        }
    });
    answered.into_inner()
}

fn started(count: usize, config: &str) -> Vec<Gateway> {
    (0..count).map(|_| Gateway::start(config)).collect()
}

const RESERVED: &str = "reserve-completion-tokens = true\n";

#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_and_sixty_four_callers_never_pass_a_reserved_quota_and_waste_none() {
    waste_none(&Server::start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_they_on_a_cluster_of_three() {
    waste_none(&Cluster::start()).await;
}

async fn waste_none(place: &impl Place) {
    let simulator = simulator().await;
    let limit = format!("token-quota = 2010\ntoken-quota-period = \"yearly\"\n{RESERVED}");
    let gateways = started(4, &config(&simulator.url(), &redis(place), &limit));
    gateways.iter().for_each(|gateway| redis_is(gateway, 1.0));
    let answered = tokio::task::block_in_place(|| storm(&gateways, || true));
    // Who was refused while others held came too early: what they gave back is still there for one after the other.
    let mut later = 0;
    while chat(&gateways[later % 4]).status == 200 {
        later += 1;
    }
    let bill = simulator.bill();
    println!(
        "{answered} answered at once, {later} after, {} tokens of 2010",
        bill.total_tokens
    );
    assert_eq!(
        bill.total_tokens, 2000,
        "all of it but what no call fits in"
    );
    assert_eq!(answered + later as u64, 2000 / COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_all_replicas_used_of_a_shared_limit() {
    let (server, simulator) = (Server::start(), simulator().await);
    let limit = "token-quota = 1000\ntoken-quota-period = \"yearly\"";
    let text = config(&simulator.url(), &redis(&server), limit);
    let gateways = started(2, &text);
    gateways.iter().for_each(|gateway| redis_is(gateway, 1.0));
    for gateway in [0, 1, 1, 1] {
        assert_eq!(chat(&gateways[gateway]).status, 200);
    }
    // The first replica made one call, and shows what four used.
    let left = 1000 - 4 * COST;
    wait_until("the page shows what all used", || {
        let picture = events::picture(&gateways[0]);
        let standing = &picture["limits"][0]["fullest"][0];
        assert_eq!(standing["key"], "team-a", "{picture}");
        (standing["quota"]["left"] == left).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_never_pass_a_rate_and_its_refill() {
    const RATE: u64 = 6_000;
    let (simulator, server) = (simulator().await, Server::start());
    let limit = format!("tokens-per-minute = {RATE}\n{RESERVED}");
    let gateways = started(4, &config(&simulator.url(), &redis(&server), &limit));
    gateways.iter().for_each(|gateway| redis_is(gateway, 1.0));
    let begun = Instant::now();
    tokio::task::block_in_place(|| storm(&gateways, || true));
    let elapsed = begun.elapsed();
    let most = RATE + RATE * elapsed.as_millis() as u64 / 60_000 + 1;
    let spent = simulator.bill().total_tokens;
    println!("{spent} tokens in {elapsed:?}, {most} at most");
    assert!(spent <= most, "{spent} of {most} tokens in {elapsed:?}");
    assert!(
        spent >= RATE - CALLERS as u64 * COST,
        "{spent}: the callers in flight waste no more than they hold"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_with_eight_threads_never_passes_a_reserved_quota() {
    let simulator = simulator().await;
    let limit = format!("token-quota = 2010\ntoken-quota-period = \"yearly\"\n{RESERVED}");
    let text = config(&simulator.url(), "", &limit).replace("threads = 2", "threads = 8");
    let gateways = started(1, &text);
    tokio::task::block_in_place(|| storm(&gateways, || true));
    while chat(&gateways[0]).status == 200 {}
    assert_eq!(simulator.bill().total_tokens, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_reservation_the_overshoot_is_what_is_in_flight() {
    let (simulator, server) = (simulator().await, Server::start());
    let limit = "token-quota = 2000\ntoken-quota-period = \"yearly\"\n";
    let gateways = started(4, &config(&simulator.url(), &redis(&server), limit));
    gateways.iter().for_each(|gateway| redis_is(gateway, 1.0));
    tokio::task::block_in_place(|| storm(&gateways, || true));
    let spent = simulator.bill().total_tokens;
    let in_flight = CALLERS as u64 * COST;
    println!(
        "{spent} of 2000 tokens: {} more, {in_flight} were in flight",
        spent.saturating_sub(2000)
    );
    assert!((2000..=2000 + in_flight).contains(&spent), "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_each_limit_does_as_it_was_told_and_nothing_is_lost() {
    let (simulator, mut server) = (simulator().await, Server::start());
    let text = |on_error: &str| {
        let limit = format!(
            "token-quota = 10000\ntoken-quota-period = \"yearly\"\non-redis-error = \"{on_error}\"\n"
        );
        config(&simulator.url(), &redis(&server), &limit).replace("\"2s\"", "\"50ms\"")
    };
    let (share, refuses, allows) = (text("local"), text("refuse"), text("allow"));
    // Two replicas of one limit; the other two go by other words.
    let first = Gateway::start(&share);
    let second = Gateway::start(&share);
    let refusing = Gateway::start(&refuses.replace("name = \"shared\"", "name = \"refusing\""));
    let allowing = Gateway::start(&allows.replace("name = \"shared\"", "name = \"allowing\""));
    let all = [&first, &second, &refusing, &allowing];
    all.iter().for_each(|gateway| redis_is(gateway, 1.0));
    assert!(all.iter().all(|gateway| chat(gateway).status == 200));

    server.pause();
    all.iter().for_each(|gateway| redis_is(gateway, 0.0));
    for gateway in [&first, &second, &allowing] {
        assert_eq!(chat(gateway).status, 200);
    }
    let refused = chat(&refusing);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "overloaded")
    );
    assert!(refused.header("retry-after").is_some());
    assert!(first.log().contains("redis: gone"));
    server.go_on();
    all.iter().for_each(|gateway| redis_is(gateway, 1.0));
    // Five calls were answered under the shared name, of which two while it was paused.
    wait_until("what was used meanwhile is added", || {
        let left = chat(&first);
        let left: u64 = left.header("x-left").unwrap().parse().unwrap();
        let under_the_name = (simulator.bill().total_tokens - 3 * COST) / COST;
        (left == 10_000 - under_the_name * COST).then_some(())
    });

    server.kill();
    all.iter().for_each(|gateway| redis_is(gateway, 0.0));
    assert_eq!(chat(&first).status, 200);
    assert_eq!(chat(&refusing).status, 503);
    // It comes back empty, without its scripts.
    server.restart();
    all.iter().for_each(|gateway| redis_is(gateway, 1.0));
    assert!(all.iter().all(|gateway| chat(gateway).status == 200));
    assert!(first.metric("tollgate_redis_errors_total", &[]) >= 1.0);
}

/// The replicas' shares together are the limit, and a call that is larger than a share takes from what comes next.
#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_four_replicas_give_no_more_than_the_limit_and_each_its_share() {
    let (simulator, mut server) = (simulator().await, Server::start());
    let limit = format!("token-quota = 2000\ntoken-quota-period = \"yearly\"\n{RESERVED}");
    let gateways = started(4, &config(&simulator.url(), &redis(&server), &limit));
    let replicas = |gateway: &Gateway| {
        http::get(&format!("{}/status", gateway.admin_url)).json()["redis"]["replicas"] == 4
    };
    wait_until("each knows of the others", || {
        gateways.iter().all(replicas).then_some(())
    });
    server.kill();
    gateways.iter().for_each(|gateway| redis_is(gateway, 0.0));
    tokio::task::block_in_place(|| storm(&gateways, || true));
    // Who was refused while others held came too early.
    for gateway in &gateways {
        while chat(gateway).status == 200 {}
    }
    assert_eq!(simulator.bill().total_tokens, 2000);
    server.restart();
    gateways.iter().for_each(|gateway| redis_is(gateway, 1.0));
    // All of it is known to Redis now, so nobody gets more.
    for gateway in &gateways {
        let refused = chat(gateway);
        assert_eq!(refused.status, 403);
        assert_eq!(refused.header("x-left"), Some("0"));
    }
    assert_eq!(simulator.bill().total_tokens, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_paused_and_restarted_under_load_leaves_no_wrong_answer() {
    stormy(&mut Server::start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_a_cluster_s_node() {
    stormy(&mut Cluster::start()).await;
}

async fn stormy(place: &mut impl Place) {
    let simulator = simulator().await;
    let limit = "token-quota = 1000000000\ntoken-quota-period = \"yearly\"\nestimate-prompt-tokens = true\n";
    let text = config(&simulator.url(), &redis(place), limit).replace("\"2s\"", "\"30ms\"");
    let server = place.holder();
    let gateways = started(2, &text);
    gateways.iter().for_each(|gateway| redis_is(gateway, 1.0));
    let ends = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let load = scope.spawn(|| storm(&gateways, || !ends.load(Ordering::Relaxed)));
        let turn = |up: f64| gateways.iter().for_each(|gateway| redis_is(gateway, up));
        for _ in 0..2 {
            server.pause();
            turn(0.0);
            server.go_on();
            turn(1.0);
            server.ask(&["SCRIPT", "FLUSH"]);
            server.kill();
            turn(0.0);
            server.restart();
            turn(1.0);
        }
        ends.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    // No caller was refused: a storm's caller that is, stops, and no other status is taken by it.
    assert_eq!(answered, simulator.bill().requests);
    let total = |gateway: &Gateway| gateway.metric("tollgate_total_tokens_total", &[]);
    wait_until("all is accounted", || {
        let counted: f64 = gateways.iter().map(total).sum();
        (counted == simulator.bill().total_tokens as f64).then_some(())
    });
    for gateway in &gateways {
        let status = http::get(&format!("{}/status", gateway.admin_url)).json();
        assert_eq!(status["redis"]["up"], true);
        wait_until("Redis was told everything", || {
            let status = http::get(&format!("{}/status", gateway.admin_url)).json();
            (status["redis"]["untold"] == 0).then_some(())
        });
    }
    println!("{answered} calls while Redis was gone four times");
}
