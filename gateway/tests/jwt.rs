//! Callers that show a token: which are taken, whom they stand for, what is told of the others, and how keys come and go.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::backend::Backend;
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::issuer::Issuer;

const KEY: &str = "key-of-team-a";
/// A key that looks like a token, which nobody forbids.
const ODD_KEY: &str = "eyJub3QiOiJhIn0.eyJ0b2tlbiI6MX0.c2lnbmVk";
const CALL: &str =
    r#"{"model":"gpt-4o","user":"of-the-body","messages":[{"role":"user","content":"hi"}]}"#;

struct World {
    issuer: Issuer,
    backend: Backend,
    gateway: Gateway,
}

impl World {
    /// A gateway that takes tokens; `jwt` holds further keys of `[jwt]`.
    fn start(jwt: &str) -> World {
        World::with(Issuer::start(), jwt)
    }

    fn with(issuer: Issuer, jwt: &str) -> World {
        let answer = r#"{"model":"m","choices":[{"index":0,"message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
        let backend = Backend::fixed(200, &[("content-type", "application/json")], answer);
        let gateway = Gateway::start(&config(&issuer, &backend, jwt));
        World {
            issuer,
            backend,
            gateway,
        }
    }

    fn call(&self, headers: &[(&str, &str)]) -> Answer {
        let url = format!("{}/v1/chat/completions", self.gateway.url);
        http::post(&url, headers, CALL)
    }

    fn show(&self, token: &str) -> Answer {
        self.call(&[("authorization", &format!("Bearer {token}"))])
    }

    #[track_caller]
    fn refused(&self, token: &str, why: &str) {
        let answer = self.show(token);
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(answer.code(), "invalid_token");
        assert!(answer.text().contains(why), "{}", answer.text());
        let challenge = format!(
            "Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"{why}\""
        );
        assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()));
    }

    fn fetches(&self, result: &str) -> f64 {
        let labels = [("result", result)];
        self.gateway.metric("tollgate_jwks_fetches_total", &labels)
    }
}

#[test]
fn a_token_stands_for_a_subscription_and_never_goes_upstream() {
    let world = World::start(BY_TOKEN);
    let token = world.issuer.token(json!({ "oid": "user-1" }));
    assert_eq!(world.show(&token).status, 200);
    for algorithm in ["ES256", "EdDSA", "PS384"] {
        assert_eq!(world.show(&world.issuer.token_by(algorithm)).status, 200);
    }
    // The same token again, and with `bearer` in another case.
    let other_case = format!("bEARER  {token}");
    assert_eq!(world.call(&[("authorization", &other_case)]).status, 200);
    for received in world.backend.received() {
        assert_eq!(
            received.header("authorization"),
            Some("Bearer of-the-backend")
        );
        assert!(!format!("{received:?}").contains(&token[..40]));
    }
    // Claims in a dimension, and who the user is.
    let counted = |labels: &[(&str, &str)]| {
        let name = "tollgate_total_tokens_total";
        world.gateway.wait_for_metric(name, labels, 4.0);
    };
    counted(&[
        ("subscription_id", "team-a"),
        ("user_id", "user-1"),
        ("app", "team-a"),
    ]);
    assert_eq!(world.fetches("ok"), 1.0);
    let jwt = &http::get(&format!("{}/status", world.gateway.admin_url)).json()["jwt"];
    assert_eq!(jwt["issuer"], world.issuer.url.as_str());
    assert_eq!(jwt["keys"], 4);
    assert_eq!(jwt["failure"], Value::Null);
    assert!(!world.gateway.log().contains(&token[..40]));
}

#[test]
fn keys_work_beside_tokens_as_they_did() {
    let world = World::start(BY_TOKEN);
    assert_eq!(world.call(&[("api-key", KEY)]).status, 200);
    assert_eq!(world.show(KEY).status, 200);
    assert_eq!(
        world.show(ODD_KEY).status,
        200,
        "a key that looks like a token"
    );
    let unknown = world.show("no-key-of-anybody");
    assert_eq!(unknown.code(), "invalid_subscription_key");
    let none = world.call(&[]);
    assert_eq!(
        (none.status, none.code().as_str()),
        (401, "missing_subscription_key")
    );
    // A key beside a token decides whose call it is; a token that is shown must be good all the same.
    let token = world.issuer.token(json!({ "appid": "team-b" }));
    let bearer = format!("Bearer {token}");
    let both = [("api-key", KEY), ("authorization", bearer.as_str())];
    assert_eq!(world.call(&both).status, 200);
    let labels = [("subscription_id", "team-a"), ("app", "team-b")];
    world
        .gateway
        .wait_for_metric("tollgate_total_tokens_total", &labels, 2.0);
    let changed = format!("Bearer {}", world.issuer.forged("changed"));
    let both = [("api-key", KEY), ("authorization", changed.as_str())];
    assert_eq!(world.call(&both).code(), "invalid_token");
    let wrong = [("api-key", "wrong"), ("authorization", bearer.as_str())];
    assert_eq!(world.call(&wrong).code(), "invalid_subscription_key");
    // No API is there, so nobody looks at the token.
    let url = format!("{}/nowhere", world.gateway.url);
    let answer = http::post(&url, &[("authorization", &changed)], "{}");
    assert_eq!(answer.status, 404);
}

#[test]
fn what_is_wrong_with_a_token_is_told() {
    let world = World::start(&format!(
        "{BY_TOKEN}required-claims = {{ roles = [\"llm.call\"], tid = \"t\" }}\n"
    ));
    let good = json!({ "roles": ["llm.call", "x"], "tid": "t" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        world.issuer.token(claims)
    };
    assert_eq!(world.show(&world.issuer.token(good.clone())).status, 200);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for (name, value, why) in [
        ("exp", json!(now - 61), "it has expired"),
        ("nbf", json!(now + 600), "it isn't valid yet"),
        (
            "exp",
            Value::Null,
            "it isn't a signed JSON Web Token that ends at some time",
        ),
        (
            "aud",
            json!("api://other"),
            "it is meant for another audience",
        ),
        ("aud", Value::Null, "it is meant for another audience"),
        (
            "iss",
            json!("https://other.example"),
            "its issuer is another",
        ),
        (
            "roles",
            json!(["llm.list"]),
            "a claim that is required isn't there",
        ),
        ("tid", Value::Null, "a claim that is required isn't there"),
        (
            "appid",
            json!("nobody"),
            "it stands for no active subscription",
        ),
        ("appid", Value::Null, "it stands for no active subscription"),
        (
            "appid",
            json!("retired"),
            "it stands for no active subscription",
        ),
    ] {
        world.refused(&with(name, value), why);
    }
    let algorithm = "its algorithm isn't one that is taken for its key";
    for (how, why) in [
        ("none", algorithm),
        ("secret", algorithm),
        ("changed", "its signature is wrong"),
        ("stranger", "its key isn't known"),
    ] {
        world.refused(&world.issuer.forged(how), why);
    }
    world.refused(
        "eyJ9.x.y",
        "it isn't a signed JSON Web Token that ends at some time",
    );
    assert_eq!(world.backend.received().len(), 1);
    let labels = [("reason", "invalid_token")];
    world
        .gateway
        .wait_for_metric("tollgate_refusals_total", &labels, 16.0);
}

#[test]
fn an_unknown_key_is_asked_for_once_and_a_rotated_one_is_found() {
    let world = World::start(BY_TOKEN);
    let before = world.issuer.token(json!({}));
    assert_eq!(world.show(&before).status, 200);
    world.issuer.rotate();
    // Many at once: one fetch, and all of them are served.
    let after = world.issuer.token(json!({}));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| world.show(&after).status))
            .collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), 200);
        }
    });
    assert_eq!(world.fetches("ok"), 2.0);
    // What was found good by a key that is gone isn't good any more; and the issuer isn't asked for every such token.
    for _ in 0..5 {
        world.refused(&before, "its key isn't known");
        world.refused(&world.issuer.forged("stranger"), "its key isn't known");
    }
    assert_eq!(world.fetches("ok"), 2.0);
}

#[test]
fn keys_outlive_an_outage_of_the_issuer() {
    let world = World::start(BY_TOKEN);
    let (one, other) = (
        world.issuer.token(json!({})),
        world.issuer.token(json!({ "n": 1 })),
    );
    assert_eq!(world.show(&one).status, 200);
    world.issuer.down();
    world.refused(&world.issuer.forged("stranger"), "its key isn't known");
    world.gateway.wait_for_log("those at hand stay");
    assert_eq!(world.show(&one).status, 200);
    assert_eq!(
        world.show(&other).status,
        200,
        "one that wasn't seen before"
    );
    // A reload keeps the keys too.
    let limited = config(
        &world.issuer,
        &world.backend,
        &format!("{BY_TOKEN}required-claims = {{ n = \"1\" }}\n"),
    );
    world.gateway.rewrite(&limited);
    world.gateway.signal("HUP");
    world
        .gateway
        .wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    assert_eq!(world.show(&other).status, 200);
    world.refused(&one, "a claim that is required isn't there");
}

#[test]
fn without_keys_nobody_can_tell_and_that_is_not_the_callers_fault() {
    let issuer = Issuer::start();
    let token = issuer.token(json!({}));
    issuer.down();
    let world = World::with(issuer, BY_TOKEN);
    let answer = world.show(&token);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "issuer_unavailable")
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(world.call(&[("api-key", KEY)]).status, 200);
    let failure = || {
        http::get(&format!("{}/status", world.gateway.admin_url)).json()["jwt"]["failure"].clone()
    };
    assert!(
        failure()["why"]
            .as_str()
            .unwrap()
            .contains("couldn't be asked for")
    );
    world.issuer.up();
    support::wait_until("the keys are there", || {
        (world.show(&token).status == 200).then_some(())
    });
    assert_eq!(failure(), Value::Null);
}

#[test]
fn beside_a_key_both_are_asked_for() {
    let world = World::start("");
    let token = format!(
        "Bearer {}",
        world.issuer.token(json!({ "appid": "anything" }))
    );
    let bearer = ("authorization", token.as_str());
    assert_eq!(world.call(&[("api-key", KEY), bearer]).status, 200);
    let url = format!(
        "{}/v1/chat/completions?subscription-key={KEY}",
        world.gateway.url
    );
    assert_eq!(http::post(&url, &[bearer], CALL).status, 200);
    let without = world.call(&[("api-key", KEY)]);
    assert_eq!(
        (without.status, without.code().as_str()),
        (401, "missing_token")
    );
    assert_eq!(
        without.header("www-authenticate"),
        Some("Bearer realm=\"tollgate\"")
    );
    assert_eq!(world.call(&[bearer]).code(), "missing_subscription_key");
    assert_eq!(
        world.call(&[("api-key", "wrong"), bearer]).code(),
        "invalid_subscription_key"
    );
    let changed = format!("Bearer {}", world.issuer.forged("changed"));
    let both = [("api-key", KEY), ("authorization", changed.as_str())];
    assert_eq!(world.call(&both).code(), "invalid_token");
}

#[test]
fn an_api_without_subscriptions_takes_whoever_comes() {
    let world = World::start(BY_TOKEN);
    let url = format!("{}/open/chat/completions", world.gateway.url);
    let shown = |token: &str| {
        let bearer = format!("Bearer {token}");
        http::post(&url, &[("authorization", &bearer)], CALL).status
    };
    assert_eq!(http::post(&url, &[], CALL).status, 200);
    assert_eq!(shown(&world.issuer.token(json!({}))), 200);
    assert_eq!(shown(&world.issuer.forged("changed")), 200);
    let whose = |id: &str, calls: f64| {
        let labels = [("subscription_id", id), ("api_id", "open")];
        let tokens = calls * 2.0;
        world
            .gateway
            .wait_for_metric("tollgate_total_tokens_total", &labels, tokens);
    };
    whose("team-a", 1.0);
    whose("", 2.0);
}

#[test]
fn a_subscription_that_is_suspended_loses_its_tokens_at_the_reload() {
    let world = World::start(BY_TOKEN);
    let token = world.issuer.token(json!({}));
    assert_eq!(world.show(&token).status, 200);
    let suspended = config(&world.issuer, &world.backend, BY_TOKEN).replace(
        "[subscriptions.team-a]",
        "[subscriptions.team-a]\nstate = \"suspended\"",
    );
    world.gateway.rewrite(&suspended);
    world.gateway.signal("HUP");
    world
        .gateway
        .wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    world.refused(&token, "it stands for no active subscription");
}

#[test]
fn keys_come_from_a_file_or_another_url_too() {
    let issuer = Issuer::start();
    let keys = http::get(&format!("{}/jwks", issuer.url)).text();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, keys).unwrap();
    let world = World::with(issuer, &format!("{BY_TOKEN}jwks = {file:?}\n"));
    assert_eq!(world.show(&world.issuer.token(json!({}))).status, 200);
    world.refused(&world.issuer.forged("stranger"), "its key isn't known");
    assert_eq!(world.fetches("ok") + world.fetches("failed"), 0.0);
    let url = format!("{BY_TOKEN}jwks = \"{}/jwks?p=1\"\n", world.issuer.url);
    world
        .gateway
        .rewrite(&config(&world.issuer, &world.backend, &url));
    world.gateway.signal("HUP");
    world
        .gateway
        .wait_for_metric("tollgate_jwks_fetches_total", &[("result", "ok")], 1.0);
    assert_eq!(world.show(&world.issuer.token(json!({}))).status, 200);
}

/// One gateway calls another, by a token that it got for its client secret, and that the other one checks.
#[test]
fn a_token_of_ones_own_is_good_at_another_gateway() {
    let inner = World::start(BY_TOKEN);
    let outer = OUTER.replace("@URL@", &inner.gateway.url);
    let variables = [
        ("AZURE_AUTHORITY_HOST", inner.issuer.url.as_str()),
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "team-b"),
        ("AZURE_CLIENT_SECRET", "planted-secret"),
    ];
    let outer = Gateway::start_with(&outer, &variables);
    let url = format!("{}/v1/chat/completions", outer.url);
    let answer = http::post(&url, &[("api-key", "key-of-the-outer")], CALL);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let labels = [("subscription_id", "team-b"), ("app", "team-b")];
    inner
        .gateway
        .wait_for_metric("tollgate_total_tokens_total", &labels, 2.0);
}

fn config(issuer: &Issuer, backend: &Backend, jwt: &str) -> String {
    CONFIG
        .replace("@ISSUER@", &issuer.url)
        .replace("@URL@", &backend.url)
        .replace("@JWT@", jwt)
        .replace("@KEY@", KEY)
        .replace("@ODD_KEY@", ODD_KEY)
}

const BY_TOKEN: &str = "subscription = 'jwt.appid'\n";
const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"

[jwt]
issuer = "@ISSUER@"
audience = ["api://tollgate", "api://else"]
@JWT@

[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "all" }

[apis.open]
path = "/open"
schema = "openai"
models = { "*" = "all" }
subscription-required = false

[subscriptions.team-a]
keys = ["@KEY@", "@ODD_KEY@"]

[subscriptions.team-b]
keys = []

[subscriptions.retired]
keys = []
state = "suspended"

[backends.only]
url = "@URL@/v1"
auth = { bearer = "of-the-backend" }

[pools.all]
members = [{ backend = "only" }]

[[token-metric]]
dimensions = [
  { name = "subscription_id" },
  { name = "user_id" },
  { name = "api_id" },
  { name = "app", value = '"appid" in jwt ? jwt.appid : "none"' },
]
"#;
const OUTER: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"

[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "all" }

[subscriptions.outer]
keys = ["key-of-the-outer"]

[backends.inner]
url = "@URL@/v1"
auth = { managed-identity = { resource = "api://tollgate" } }

[pools.all]
members = [{ backend = "inner" }]
"#;
