//! The semantic cache with its answers in Redis: the same behaviour, shared by replicas; and whatever becomes of Redis,
//! calls are answered as if there were no cache, and the metric says so.
//!
//! A real Redis with a real query engine, which is installed from PyPI.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "semantic_cache/answers.rs"]
mod answers;
#[path = "semantic_cache/cases.rs"]
mod cases;
#[path = "semantic_cache/query_engine.rs"]
mod query_engine;
#[path = "limit_store/server.rs"]
mod server;
#[path = "support/support.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use filters::cache::prompt::{Scope, SystemMessages, read};
use filters::cache::score::{Threshold, Vector};
use filters::route::Shape;
use gateway::cache::kept::{Sought, StoreError};
use gateway::cache::shared::{Shared, Space};
use gateway::cache::store;
use gateway::store::redis::Endpoint;

use cases::{A, B, COFFEE, LOOKUPS, ask, chats, config, result};
use load_tests::simulator::{Behaviour, Handle, Simulator};
use query_engine::Kind;
use server::Server;
use support::command;
use support::gateway::Gateway;

/// A Redis of the test's own.
struct Store(Server);

impl Store {
    fn start() -> Self {
        Store(query_engine::start(Kind::Redis))
    }

    fn section(&self) -> String {
        section(&self.0.url(), "2s")
    }

    async fn opened(&self) -> store::Store {
        let endpoint = Endpoint {
            url: self.0.url(),
            ca_pem: None,
        };
        let shared = Shared::connect(&endpoint, Duration::from_secs(2)).unwrap();
        shared.wait_until_connected().await;
        store::Store::Shared(shared, Arc::new(Space::new("maker", "model")))
    }
}

fn section(url: &str, timeout: &str) -> String {
    format!("[redis]\nurl = \"{url}\"\ntimeout = \"{timeout}\"\n")
}

async fn world() -> (Handle, Server, Gateway) {
    let server = query_engine::start(Kind::Redis);
    let simulator = Simulator::start_default().await.unwrap();
    let text = config(&simulator.url(), "", &section(&server.url(), "1s"));
    (simulator, server, Gateway::start(&text))
}

fn answers(server: &Server) -> Vec<String> {
    let keys = server.ask(&["--scan", "--pattern", "{tollgate}:cache:v1:*"]);
    keys.lines().map(str::to_owned).collect()
}

fn errors(gateway: &Gateway, count: f64) {
    gateway.wait_for_metric(LOOKUPS, &[("result", "error")], count);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_servers_and_both_protocols_find_the_same() {
    let simulator = Simulator::start_default().await.unwrap();
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = query_engine::start(kind);
        for protocol in ["2", "3"] {
            let url = format!("{}?protocol={protocol}", server.url());
            let text = config(&simulator.url(), "", &section(&url, "1s"));
            let gateway = Gateway::start(&text);
            let expected = match protocol {
                "2" => ["miss", "hit", "hit"],
                _ => ["hit", "hit", "hit"],
            };
            for (question, expected) in COFFEE.iter().zip(expected) {
                let answer = ask(&gateway, A, question);
                assert_eq!(result(&answer), expected, "{kind:?} {protocol} {question}");
            }
            assert_eq!(
                result(&ask(&gateway, B, COFFEE[1])),
                if protocol == "2" { "miss" } else { "hit" }
            );
            errors(&gateway, 0.0);
            let clients = server.ask(&["client", "list"]);
            assert!(clients.contains(&format!("resp={protocol}")), "{clients}");
        }
        let index = server.ask(&["ft._list"]);
        assert_eq!(index.lines().count(), 1, "{index}");
        assert!(
            index.starts_with("{tollgate}:cache:v1:text-embedding-3-small-"),
            "{index}"
        );
    }
    assert_eq!(chats(&simulator), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_answers_and_purges() {
    let (simulator, server, one) = world().await;
    let text = config(&simulator.url(), "", &section(&server.url(), "1s"));
    let other = Gateway::start(&text);
    assert_eq!(result(&ask(&one, A, COFFEE[0])), "miss");
    assert_eq!(result(&ask(&other, A, COFFEE[0])), "hit");
    assert_eq!(result(&ask(&other, A, COFFEE[1])), "hit");
    let url = format!("{}/cache/purge?subscription=team-a", other.admin_url);
    let purged = support::http::request("POST", &url, &[], b"").unwrap();
    assert_eq!(purged.text(), "{\"purged\":1}");
    assert_eq!(result(&ask(&one, A, COFFEE[0])), "miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_by_its_time() {
    let (_simulator, server, gateway) = world().await;
    ask(&gateway, A, COFFEE[0]);
    let keys = answers(&server);
    assert_eq!(keys.len(), 1);
    let left: i64 = server.ask(&["pttl", &keys[0]]).parse().unwrap();
    assert!(left > 590_000 && left <= 600_000, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_is_a_miss_and_counted_until_it_is_back() {
    let (simulator, mut server, gateway) = world().await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    server.kill();
    for count in 1..=5 {
        assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
        errors(&gateway, f64::from(count));
    }
    assert_eq!(chats(&simulator), 6);
    server.restart();
    support::wait_until("the answer is kept and found again", || {
        (result(&ask(&gateway, A, COFFEE[0])) == "hit").then_some(())
    });
    assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_a_miss_and_counted() {
    let (simulator, server, gateway) = world().await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    server.pause();
    for count in 1..=4 {
        assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
        errors(&gateway, f64::from(count));
    }
    assert_eq!(chats(&simulator), 5);
    server.go_on();
    support::wait_until("it is asked again", || {
        (result(&ask(&gateway, A, COFFEE[0])) == "hit").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_is_a_miss_and_counted_and_made_again() {
    let (_simulator, server, gateway) = world().await;
    ask(&gateway, A, COFFEE[0]);
    assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "hit");
    assert_eq!(server.ask(&["flushall"]), "OK");
    assert_eq!(server.ask(&["ft._list"]), "");
    assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "miss");
    errors(&gateway, 1.0);
    assert_eq!(result(&ask(&gateway, A, COFFEE[2])), "hit");
    // The index alone: Redis fills the new one from what is there.
    let index = server.ask(&["ft._list"]);
    assert_eq!(server.ask(&["ft.dropindex", &index]), "OK");
    assert_eq!(result(&ask(&gateway, A, COFFEE[3])), "miss");
    errors(&gateway, 2.0);
    support::wait_until("the index is filled", || {
        let info = server.ask(&["ft.info", &index]);
        let mut lines = info.lines().skip_while(|line| *line != "num_docs");
        (lines.nth(1) == Some("2")).then_some(())
    });
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "hit");
    errors(&gateway, 2.0);
}

/// Many ask at once for an index that isn't there yet: one of them makes it, and none of them is an error.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_new_is_a_miss_to_all_who_ask_at_once() {
    const CALLERS: usize = 24;
    let store = Store::start();
    let opened = store.opened().await;
    for dimensions in 2..34 {
        let vector = Vector::new(&vec![1.0; dimensions]).unwrap();
        let asked = (0..CALLERS).map(|_| opened.find_near(sought(vector.clone())));
        let answers = futures_util::future::join_all(asked).await;
        assert!(
            answers.iter().all(|answer| *answer == Ok(None)),
            "{answers:?}"
        );
    }
    let made = store.0.ask(&["ft._list"]);
    assert_eq!(made.lines().count(), 32);
    // One that is gone is an error to those who notice, and made again.
    store.0.ask(&["flushall"]);
    let ask = || opened.find_near(sought(Vector::new(&[1.0, 1.0]).unwrap()));
    assert_eq!(ask().await, Err(StoreError::Unavailable));
    assert_eq!(ask().await, Ok(None));
}

fn sought(vector: Vector) -> Sought {
    let body = br#"{"messages":[{"role":"user","content":"q"}]}"#;
    let scope = Scope {
        policy: "answers",
        api: "openai",
        operation: "chat-completions",
        model: "gpt-4o",
        vary_by: &[],
    };
    let prompt = read(Shape::Chat, body, scope, SystemMessages::Embedded).unwrap();
    Sought {
        partition: prompt.partition,
        vector,
        threshold: Threshold::new(0.05).unwrap(),
        question: "q".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_full_goes_on_giving_what_it_has_and_is_counted() {
    let (simulator, server, gateway) = world().await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    server.ask(&["config", "set", "maxmemory-policy", "noeviction"]);
    server.ask(&["config", "set", "maxmemory", "1"]);
    // An answer that can't be kept is told, and none of those that are there is lost for it.
    for count in 1..=5 {
        let question = format!("Where do whales number {count} sleep?");
        assert_eq!(result(&ask(&gateway, A, &question)), "miss");
        errors(&gateway, f64::from(count));
        assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "hit");
    }
    server.ask(&["config", "set", "maxmemory", "0"]);
    let question = "Where do whales number 1 sleep?";
    assert_eq!(result(&ask(&gateway, A, question)), "miss");
    assert_eq!(result(&ask(&gateway, A, question)), "hit");
    errors(&gateway, 5.0);
    assert_eq!(chats(&simulator), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_redis_threw_out_is_a_miss() {
    let (simulator, server, gateway) = world().await;
    for question in [COFFEE[0], "Where do whales sleep?"] {
        assert_eq!(result(&ask(&gateway, A, question)), "miss");
    }
    server.ask(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    server.ask(&["config", "set", "maxmemory", "1"]);
    // Redis makes room as soon as somebody writes, and has none even then.
    server.ask(&["set", "other", "x"]);
    support::wait_until("Redis has thrown them out", || {
        answers(&server).is_empty().then_some(())
    });
    server.ask(&["config", "set", "maxmemory", "0"]);
    assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "miss");
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "hit");
    errors(&gateway, 0.0);
    assert_eq!(chats(&simulator), 3);
}

/// Another's value under the key of an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_holds_something_else_is_a_miss_and_written_over() {
    let (_simulator, server, gateway) = world().await;
    ask(&gateway, A, COFFEE[0]);
    let key = answers(&server).remove(0);
    server.ask(&["del", &key]);
    server.ask(&["rpush", &key, "something", "else"]);
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    errors(&gateway, 1.0);
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "hit");
}

/// Each call has its answer, whatever is taken out meanwhile; and nothing of another question comes.
#[tokio::test(flavor = "multi_thread")]
async fn purges_while_calls_run_are_in_nobodys_way() {
    let (simulator, _server, gateway) = world().await;
    simulator.set(Behaviour::echo().on_path("chat"));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                let question = format!("Where do whales number {number} sleep?");
                for _ in 0..20 {
                    let answer = ask(gateway, A, &question);
                    assert!(matches!(result(&answer), "hit" | "miss"));
                    assert!(answer.text().contains(&format!("number {number} ")));
                }
            });
        }
        let purges = ["policy=answers", "subscription=team-a", "id=1"];
        for what in purges.into_iter().cycle().take(15) {
            let url = format!("{}/cache/purge?{what}", gateway.admin_url);
            let purged = support::http::request("POST", &url, &[], b"").unwrap();
            assert_eq!(purged.status, 200, "{what}");
        }
    });
    errors(&gateway, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_cut_or_changed_is_a_miss_and_counted_and_taken_out() {
    let (simulator, server, gateway) = world().await;
    let spoils: [&dyn Fn(&str); 5] = [
        // Cut short.
        &|key| {
            server.ask(&["eval", "local e = redis.call('hget', KEYS[1], 'entry') redis.call('hset', KEYS[1], 'entry', string.sub(e, 1, -2))", "1", key]);
        },
        // Another answer.
        &|key| {
            server.ask(&["hset", key, "entry", "{\"choices\":[]}"]);
        },
        // A part is missing.
        &|key| {
            server.ask(&["hdel", key, "id"]);
        },
        &|key| {
            server.ask(&["hset", key, "tokens", "many"]);
        },
        // Another question of the same partition, moved here.
        &|key| {
            let other = answers(&server)
                .into_iter()
                .find(|other| other != key)
                .unwrap();
            server.ask(&[
                "eval",
                "redis.call('hset', KEYS[1], 'entry', redis.call('hget', KEYS[2], 'entry'))",
                "2",
                key,
                &other,
            ]);
        },
    ];
    ask(&gateway, A, "Where do whales sleep?");
    for (count, spoil) in spoils.iter().enumerate() {
        let before = answers(&server);
        assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
        let now = answers(&server);
        let key = now.iter().find(|key| !before.contains(key)).unwrap();
        spoil(key);
        // By an exact repeat, and by nearness.
        assert_eq!(result(&ask(&gateway, A, COFFEE[count % 2])), "miss");
        errors(&gateway, (2 * count + 1) as f64);
        // The poisoned one is gone; an exact repeat has put another in its place.
        assert_eq!(answers(&server).contains(key), count % 2 == 0);
        server.ask(&["flushdb"]);
        ask(&gateway, A, "Where do whales sleep?");
        errors(&gateway, (2 * count + 2) as f64);
    }
    assert!(chats(&simulator) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_partition_is_given_whatever_stands_in_redis() {
    let (_simulator, server, gateway) = world().await;
    ask(&gateway, A, COFFEE[0]);
    let of_a = answers(&server).remove(0);
    ask(&gateway, B, COFFEE[0]);
    let of_b = answers(&server)
        .into_iter()
        .find(|key| *key != of_a)
        .unwrap();
    // The answer of one subscription, put in the place of the other's.
    let copy = "redis.call('hset', KEYS[2], 'entry', redis.call('hget', KEYS[1], 'entry'))";
    server.ask(&["eval", copy, "2", &of_a, &of_b]);
    assert_eq!(result(&ask(&gateway, B, COFFEE[0])), "miss");
    errors(&gateway, 1.0);
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_the_query_engine_is_refused_and_check_says_so() {
    let plain = Server::start();
    let simulator = Simulator::start_default().await.unwrap();
    let text = config(&simulator.url(), "", &section(&plain.url(), "1s"));
    let text = text
        .replace("@LISTEN@", "127.0.0.1:0")
        .replace("@ADMIN@", "127.0.0.1:0");
    let run = command::run(&["run", "--config", "-"], &text);
    assert_eq!(run.status, Some(1), "{run:?}");
    assert!(
        run.stderr.contains("has no query engine; expected Redis 8"),
        "{run:?}"
    );
    let check = command::run(&["check", "--config", "-"], &text);
    assert_eq!(check.status, Some(0), "{check:?}");
    assert!(
        check.stdout.contains("in Redis, for all replicas"),
        "{check:?}"
    );
    let check = command::run(&["check", "--connect", "--config", "-"], &text);
    assert_eq!(check.status, Some(2), "{check:?}");
    assert!(
        check
            .stderr
            .contains("has no query engine; expected Redis 8"),
        "{check:?}"
    );
    // With answers in the process it is as good as any.
    let here = text.replace(
        "[[semantic-cache]]",
        "[[semantic-cache]]\nstore = \"process\"",
    );
    let check = command::run(&["check", "--connect", "--config", "-"], &here);
    assert_eq!(check.status, Some(0), "{check:?}");
    assert!(
        check.stdout.contains("without the query engine"),
        "{check:?}"
    );
    let engine = query_engine::start(Kind::Redis);
    let text = text.replace(&plain.url(), &engine.url());
    let check = command::run(&["check", "--connect", "--config", "-"], &text);
    assert_eq!(check.status, Some(0), "{check:?}");
    assert!(
        check.stdout.contains("Redis 8.2.3 with the query engine"),
        "{check:?}"
    );
    drop(engine);
    let check = command::run(&["check", "--connect", "--config", "-"], &text);
    assert_eq!(check.status, Some(1), "{check:?}");
    assert!(check.stderr.contains("no answer from Redis"), "{check:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_is_refused() {
    let node = Server::node();
    let text = config("http://127.0.0.1:9", "", &section(&node.url(), "1s"));
    let text = text
        .replace("@LISTEN@", "127.0.0.1:0")
        .replace("@ADMIN@", "127.0.0.1:0");
    let check = command::run(&["check", "--connect", "--config", "-"], &text);
    assert_eq!(check.status, Some(2), "{check:?}");
    assert!(
        check.stderr.contains("the keys of one node only"),
        "{check:?}"
    );
}
