//! The page of the admin listener in a real browser: a limit runs out, a breaker opens and closes, a reload fails, and
//! whoever looks sees it and why.
//!
//! With `TOLLGATE_SCREENSHOTS=FOLDER` the first test also makes the pictures of the manual there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::path::PathBuf;

use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use serde_json::json;
use support::browser::{Browser, Scheme, Size};
use support::events::{Events, picture};
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::wait_until;

const SEARCH: &str = "key-of-team-search";
const CHAT: &str = "key-of-team-chat";
const LAB: &str = "key-of-team-lab";
/// No limit is for its product.
const BATCH: &str = "key-of-nightly-batch";
const FORMER: &str = "key-of-a-former-team";
const PRICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/prices.example.toml");
/// What must be seen nowhere.
const PROMPT: &str = "a question that nobody else may read";

const DESK: Size = Size(1120, 1000);
const PHONE: Size = Size(390, 1150);

/// Two backends that cost 100 tokens a call, and one that embeds.
struct World {
    east: Handle,
    _west: Handle,
    gateway: Gateway,
    config: String,
}

async fn world() -> World {
    let east = Simulator::start_default().await.unwrap();
    let west = Simulator::start_default().await.unwrap();
    east.set(answers());
    west.set(answers());
    let config = config(&east.url(), &west.url());
    World {
        gateway: Gateway::start(&config),
        east,
        _west: west,
        config,
    }
}

fn answers() -> Behaviour {
    Behaviour {
        content: Content {
            prompt_tokens: Some(40),
            tokens: 60,
            ..Content::default()
        },
        ..Behaviour::default()
    }
}

fn config(east: &str, west: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 1
[gateway]
id = "gate-1"
location = "westeurope"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "gpt-4o" = "chat", "gpt-4o-mini" = "chat", "faq" = "chat" }}
[products.gold]
models = ["gpt-4o", "faq"]
[products.batch]
[products.basic]
models = ["gpt-4o-mini"]
[subscriptions.team-search]
product = "gold"
keys = ["{SEARCH}"]
[subscriptions.team-chat]
product = "gold"
keys = ["{CHAT}"]
[subscriptions.team-lab]
product = "basic"
keys = ["{LAB}"]
[subscriptions.nightly-batch]
product = "batch"
keys = ["{BATCH}"]
[subscriptions.former-team]
state = "suspended"
keys = ["{FORMER}"]
[pools.chat]
members = [{{ backend = "ptu-east", priority = 1 }}, {{ backend = "paygo-west", priority = 2 }}]
[backends.ptu-east]
url = "{east}/v1"
auth = {{ bearer = "credential-of-east" }}
[backends.ptu-east.circuit-breaker]
failure-condition = {{ count = 2, interval = "60s", status-code-ranges = [[429, 429], [500, 599]] }}
trip-duration = "4s"
[backends.paygo-west]
url = "{west}/v1"
auth = {{ bearer = "credential-of-west" }}
[backends.embeddings]
url = "{west}/v1"
auth = {{ bearer = "credential-of-embeddings" }}
deployment = "text-embedding-3-small"
[[token-limit]]
name = "gold-per-minute"
when = 'product.id == "gold"'
counter-key = 'subscription.id'
tokens-per-minute = 2000
[[token-limit]]
name = "basic-per-month"
when = 'product.id == "basic"'
counter-key = 'subscription.id'
token-quota = 600
token-quota-period = "monthly"
[[budget]]
name = "dollars-per-month"
counter-key = 'subscription.id'
amount = "2 USD"
period = "monthly"
[prices]
file = "{PRICES}"
[[semantic-cache]]
name = "answers"
when = 'request.model == "faq"'
embeddings = {{ backend = "embeddings" }}
"#
    )
}

fn ask(gateway: &Gateway, key: &str, model: &str) -> Answer {
    let body = json!({"model": model, "messages": [{"role": "user", "content": PROMPT}]});
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", key)], &body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_sees_what_is_refused_and_why_and_what_is_open_and_until_when() {
    let World {
        east,
        gateway,
        config,
        ..
    } = &world().await;
    let browser = Browser::start();
    browser.show(DESK, Scheme::Light);
    browser.open(&gateway.admin_url);
    browser.wait_for_text("#connection", "live");
    browser.wait_for_text("#refusals", "None since the start.");
    browser.wait_for_text("#gateway", "gate-1, westeurope");

    // Calls that are served show as tokens of who made them.
    assert_eq!(ask(gateway, CHAT, "gpt-4o").status, 200);
    browser.wait_for_text("#limits", " left of 2,000 a minute");
    let subscriptions = browser.text("#subscriptions");
    assert!(subscriptions.contains("team-chat"), "{subscriptions}");

    // A limit runs out: who, which limit, and until when.
    wait_until("team-search is refused", || {
        (ask(gateway, SEARCH, "gpt-4o").status == 429).then_some(())
    });
    let refusals = browser.wait_for_text("#refusals", "Tokens per minute used up");
    for part in [
        "429",
        "team-search",
        "gpt-4o",
        "gold-per-minute",
        "again in",
    ] {
        assert!(refusals.contains(part), "{part} isn't in {refusals}");
    }
    browser.wait_for_text("#limits", "over, opens in");

    // So does a quota, and what was never allowed says so.
    while ask(gateway, LAB, "gpt-4o-mini").status == 200 {}
    browser.wait_for_text("#refusals", "Token quota used up");
    browser.wait_for_text("#limits", "used up, renewed in");
    let refused = [
        (LAB, "gpt-4o", "Model not in the product"),
        (FORMER, "gpt-4o", "Subscription suspended"),
        ("nobody's", "gpt-4o", "Unknown subscription key"),
    ];
    for (key, model, why) in refused {
        assert!(ask(gateway, key, model).status >= 400);
        browser.wait_for_text("#refusals", why);
    }
    let refusals = browser.text("#refusals");
    assert!(
        refused.iter().all(|(_, _, why)| refusals.contains(why)),
        "{refusals}"
    );

    // What a cache answers.
    assert_eq!(ask(gateway, CHAT, "faq").status, 200);
    wait_until("the answer is kept", || {
        let answer = ask(gateway, CHAT, "faq");
        (answer.header("x-tollgate-cache") == Some("hit")).then_some(())
    });
    browser.wait_for_text("#caches", "Hits");

    // A breaker opens, says why and until when; the other backend serves.
    east.set(Behaviour::throttled(1));
    wait_until("the breaker opens", || {
        assert_eq!(ask(gateway, BATCH, "gpt-4o").status, 200);
        let text = browser.text("#backends");
        text.contains("open (throttled), closes in").then_some(())
    });
    browser.wait_for_text("#figures", "1 of 3 backends not closed");
    browser.wait_for_text("#limits", "left of $2.00 a month");
    pictures(&browser, gateway);

    // It closes by itself.
    east.set(answers());
    wait_until("the breaker closes", || {
        let _ = ask(gateway, BATCH, "gpt-4o");
        (!browser.text("#backends").contains("open")).then_some(())
    });

    // A configuration that isn't taken is told, until one is.
    gateway.rewrite("[nonsense]\n");
    gateway.signal("HUP");
    browser.wait_for_text("#banners", "The configuration wasn't reloaded");
    gateway.rewrite(config);
    gateway.signal("HUP");
    wait_until("the banner is gone", || {
        browser.text("#banners").is_empty().then_some(())
    });

    fits_a_phone(&browser);
    nothing_leaks(&browser, gateway);
}

fn fits_a_phone(browser: &Browser) {
    let background = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.script(background);
    browser.show(PHONE, Scheme::Dark);
    assert_ne!(light, browser.script(background));
    let beyond = browser.script("return document.documentElement.scrollWidth - innerWidth");
    assert!(beyond.as_i64().unwrap() <= 0, "{beyond} pixels too wide");
}

/// Nothing was asked of another host, the browser complains of nothing, and nothing secret is shown.
fn nothing_leaks(browser: &Browser, gateway: &Gateway) {
    let requests = browser.requests();
    assert!(
        requests.iter().any(|url| url.ends_with("/events")),
        "{requests:?}"
    );
    let elsewhere = |url: &&String| !url.starts_with(&gateway.admin_url);
    assert_eq!(requests.iter().find(elsewhere), None);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let shown = browser.script("return document.documentElement.outerHTML");
    let sent = picture(gateway);
    for text in [shown.as_str().unwrap(), sent.to_string().as_str()] {
        for secret in ["key-of", "credential", "nobody", PROMPT, "simulated answer"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_when_it_has_lost_its_gateway() {
    let World { gateway, .. } = world().await;
    let browser = Browser::start();
    browser.open(&gateway.admin_url);
    browser.wait_for_text("#connection", "live");
    drop(gateway);
    browser.wait_for_text("#connection", "no connection since");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_pages_are_kept_up_to_date_and_a_closed_one_makes_room() {
    let World { gateway, .. } = world().await;
    let open: Vec<Events> = (0..32).map(|_| Events::open(&gateway)).collect();
    let events = format!("{}/events", gateway.admin_url);
    let refused = http::get(&events);
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("too many pages"));
    // The listener goes on.
    assert_eq!(
        http::get(&format!("{}/livez", gateway.admin_url)).status,
        200
    );
    drop(open);
    wait_until("there is room again", || {
        Events::try_open(&gateway).map(|_| ())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_by_what_an_operator_needs_and_those_alike_are_one() {
    let World { gateway, .. } = world().await;
    for model in ["made-up-1", "made-up-2", "made-up-3"] {
        assert_eq!(ask(&gateway, CHAT, model).status, 404);
    }
    wait_until("three are one", || {
        let picture = picture(&gateway);
        let refusals = picture["refusals"].as_array().unwrap();
        (refusals.first()?["count"] == 3).then(|| {
            assert_eq!(refusals.len(), 1, "{picture}");
            assert_eq!(refusals[0]["subscription"], "team-chat");
            assert_eq!(refusals[0]["model"], "made-up-3");
            assert_eq!(refusals[0]["status"], 404);
            assert_eq!(refusals[0]["code"], "DeploymentNotFound");
            assert_eq!(picture["refused"], 3);
        })
    });
}

/// The pictures of the manual, if they are asked for.
fn pictures(browser: &Browser, gateway: &Gateway) {
    let Some(folder) = std::env::var_os("TOLLGATE_SCREENSHOTS").map(PathBuf::from) else {
        return;
    };
    traffic(gateway, browser);
    let shown = [
        ("page-light.png", DESK, Scheme::Light),
        ("page-dark.png", DESK, Scheme::Dark),
        ("page-phone.png", PHONE, Scheme::Light),
    ];
    for (name, size, scheme) in shown {
        browser.show(size, scheme);
        if width_of(size) > 600 {
            let height = browser.script("return document.documentElement.scrollHeight");
            let height = u32::try_from(height.as_u64().unwrap()).unwrap();
            browser.show(Size(width_of(size), height), scheme);
        }
        std::fs::write(folder.join(name), browser.picture()).unwrap();
    }
    browser.show(DESK, Scheme::Light);
}

fn width_of(Size(width, _): Size) -> u32 {
    width
}

/// Some seconds of calls, so that there are lines to see, until a breaker is open again.
fn traffic(gateway: &Gateway, browser: &Browser) {
    let mut calls = 0_u32;
    wait_until("there was traffic", || {
        for key in [CHAT, SEARCH, BATCH, LAB] {
            let model = if key == LAB { "gpt-4o-mini" } else { "gpt-4o" };
            let _ = ask(
                gateway,
                key,
                if calls.is_multiple_of(3) {
                    "faq"
                } else {
                    model
                },
            );
            calls += 1;
        }
        std::thread::sleep(std::time::Duration::from_millis(u64::from(
            calls * 37 % 190,
        )));
        (calls > 900 && browser.text("#backends").contains("closes in")).then_some(())
    });
}
