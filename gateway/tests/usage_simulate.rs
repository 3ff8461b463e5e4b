//! `tollgate usage simulate` as a user runs it: what other limits would have refused, by the same arithmetic as `run`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::path::Path;

use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Simulator};
use serde_json::Value;
use support::command::{Finished, run};
use support::gateway::Gateway;
use support::http;

/// A call of so many tokens, `second` seconds after ten o'clock, by a subscription.
fn line(second: u64, subscription: &str, prompt: u64, completion: u64) -> String {
    let total = prompt + completion;
    format!(
        r#"{{"time":"2026-11-22T10:{:02}:{:02}.000Z","request_id":"{second}-{subscription}","subscription":"{subscription}","product":"gold","api":"openai","operation":"chat-completions","model":"gpt-4o","deployment":"","backend":"b","status":200,"stream":false,"prompt_tokens":{prompt},"completion_tokens":{completion},"cached_tokens":0,"reasoning_tokens":0,"total_tokens":{total},"source":"upstream","end":"complete","attempts":1,"cache":"none","duration_ms":0,"ttft_ms":null,"attributes":{{"cost-center":"4711"}},"user":"","gateway":"g"}}"#,
        second / 60,
        second % 60
    )
}

fn simulate(lines: &[String], limits: &str, format: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("usage.jsonl");
    std::fs::write(&log, lines.join("\n") + "\n").unwrap();
    let config = folder.path().join("new.toml");
    std::fs::write(&config, config_of(limits, folder.path())).unwrap();
    let (config, log) = (config.to_str().unwrap(), log.to_str().unwrap());
    run(
        &[
            "usage", "simulate", "--config", config, "--format", format, log,
        ],
        "",
    )
}

/// Its secrets aren't there, and needn't be.
fn config_of(limits: &str, folder: &Path) -> String {
    let prices = folder.join("prices.toml");
    std::fs::write(
        &prices,
        "[[price]]\nmodel = \"gpt-4o\"\nprompt = 2.50\ncompletion = 10.00\n",
    )
    .unwrap();
    format!(
        r#"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
[products.gold]
[subscriptions.team-a]
product = "gold"
keys = [{{ env = "NO_SUCH_KEY" }}, {{ env = "NO_OTHER_KEY" }}]
attributes = {{ cost-center = "4711" }}
[backends.one]
url = "https://contoso.openai.azure.com"
auth = {{ api-key = {{ env = "NO_KEY_EITHER" }} }}
[pools.chat]
members = [{{ backend = "one" }}]
[prices]
file = "{}"
{limits}
"#,
        prices.display()
    )
}

fn found(lines: &[String], limits: &str) -> Value {
    let finished = simulate(lines, limits, "json");
    assert_eq!((finished.status, finished.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Ten tokens a minute, one call of forty: the next is refused for 180 s.
#[test]
fn a_rate_is_decided_as_the_gateway_would() {
    let lines = [
        line(0, "team-a", 30, 10),
        line(60, "team-a", 1, 1),
        line(179, "team-a", 1, 1),
        line(181, "team-a", 1, 1),
        line(60, "team-b", 5, 5),
    ];
    let limit = "[[token-limit]]\nname = \"slow\"\ncounter-key = 'subscription.id'\ntokens-per-minute = 10\n";
    let found = found(&lines, limit);
    assert_eq!((&found["calls"], &found["refused"]), (&5.into(), &2.into()));
    let slow = &found["limits"][0];
    assert_eq!(
        (
            slow["calls"].as_u64(),
            slow["refused"].as_u64(),
            slow["refused_tokens"].as_u64()
        ),
        (Some(5), Some(2), Some(4))
    );
    assert_eq!(slow["first_refused"], "2026-11-22T10:01:00.000Z");
    assert_eq!(slow["reasons"]["rate"], 2);
    assert_eq!(slow["most_refused"][0]["key"], "team-a");
}

#[test]
fn quotas_budgets_conditions_and_observing_limits_are_decided_together() {
    let lines: Vec<String> = (0..10)
        .map(|second| line(second, "team-a", 1000, 100))
        .collect();
    let limits = "[[token-limit]]\nname = \"hour\"\nwhen = 'product.id == \"gold\"'\ncounter-key = 'subscription.id'\ntoken-quota = 5500\ntoken-quota-period = \"hourly\"\n\
                  [[token-limit]]\nname = \"tight\"\ncounter-key = 'request.model'\ntoken-quota = 1100\ntoken-quota-period = \"hourly\"\nmode = \"observe\"\n\
                  [[token-limit]]\nname = \"others\"\nwhen = 'product.id == \"silver\"'\ncounter-key = 'subscription.id'\ntokens-per-minute = 1\n\
                  [[budget]]\nname = \"money\"\ncounter-key = 'subscription.attributes[\"cost-center\"]'\namount = \"0.01 USD\"\nperiod = \"daily\"\n";
    let found = found(&lines, limits);
    let refused: Vec<u64> = found["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| limit["refused"].as_u64().unwrap())
        .collect();
    // A call costs 0.0035 dollars: three fit, before five of the quota do. Once the budget refuses nothing is counted.
    assert_eq!(refused, [0, 2, 0, 7]);
    assert_eq!(found["refused"], 7);
    assert_eq!(found["limits"][2]["calls"], 0);
}

#[test]
fn what_the_log_does_not_hold_is_not_guessed() {
    let mut lines = vec![line(0, "team-a", 1, 1)];
    lines.push(line(1, "team-a", 0, 0).replace("\"complete\"", "\"refused\""));
    lines.push(line(2, "team-a", 9, 9).replace("\"cache\":\"none\"", "\"cache\":\"hit\""));
    lines.push("{\"half\": ".to_owned());
    let limit = "[[token-limit]]\nname = \"by-header\"\ncounter-key = 'request.headers[\"x-team\"]'\ntokens-per-minute = 1\n";
    let finished = simulate(&lines, limit, "table");
    assert_eq!(finished.status, Some(0));
    assert!(
        finished.stderr.ends_with("1 line was left out\n"),
        "{}",
        finished.stderr
    );
    for said in [
        "of 1 calls, 0 would have been refused\n",
        "left out: 1 that were refused then, 1 that a cache answered, 0 that used no tokens\n",
        "by-header  not simulated: it asks for request.headers, which the log doesn't hold\n",
    ] {
        assert!(
            finished.stdout.contains(said),
            "{said}\n{}",
            finished.stdout
        );
    }
}

#[test]
fn wrong_input_is_told() {
    let finished = simulate(
        &[line(0, "a", 1, 1)],
        "[[token-limit]]\nname = \"x\"\n",
        "table",
    );
    assert_eq!((finished.status, finished.stdout.as_str()), (Some(2), ""));
    assert!(
        finished
            .stderr
            .contains("token-limit[0]: missing key \"counter-key\""),
        "{}",
        finished.stderr
    );
    let finished = simulate(&[line(0, "a", 1, 1)], "", "html");
    assert_eq!(
        (finished.status, finished.stderr.as_str()),
        (Some(2), "tollgate: --format: expected table or json\n")
    );
}

/// A gateway under a limit refuses as many of the same calls as the simulation of that limit says.
#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_agrees_with_a_gateway() {
    let simulator = Simulator::start_default().await.unwrap();
    let content = Content {
        tokens: 100,
        prompt_tokens: Some(900),
        ..Content::default()
    };
    simulator.set(Behaviour {
        content,
        ..Behaviour::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let limit = "[[token-limit]]\nname = \"hour\"\ncounter-key = 'subscription.id'\ntoken-quota = 4500\ntoken-quota-period = \"yearly\"\n";
    let config = |log: &str, limit: &str| {
        format!(
            "server = {{ listen = \"@LISTEN@\", admin = \"@ADMIN@\" }}\nusage-log = {{ directory = \"{}\" }}\n\
             apis = {{ o = {{ path = \"/v1\", schema = \"openai\", models = {{ \"*\" = \"p\" }} }} }}\n\
             subscriptions = {{ s = {{ keys = [\"key-s\"] }} }}\npools = {{ p = {{ members = [{{ backend = \"b\" }}] }} }}\n\
             backends = {{ b = {{ url = \"{}/v1\", auth = \"none\" }} }}\n{limit}",
            folder.path().join(log).display(),
            simulator.url()
        )
    };
    let calls = |gateway: &Gateway| {
        let call = || {
            http::post(
                &format!("{}/v1/chat/completions", gateway.url),
                &[("api-key", "key-s")],
                r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
            )
            .status
        };
        (0..12).filter(|_| call() == 403).count() as u64
    };
    let free = Gateway::start(&config("free", ""));
    assert_eq!(calls(&free), 0);
    assert!(free.stop().success());
    let limited = Gateway::start(&config("limited", limit));
    let refused = calls(&limited);
    assert!(limited.stop().success());
    assert_eq!(refused, 7);
    let new = folder.path().join("new.toml");
    std::fs::write(
        &new,
        config("any", limit)
            .replace("@LISTEN@", "127.0.0.1:1")
            .replace("@ADMIN@", "127.0.0.1:2"),
    )
    .unwrap();
    let log = folder.path().join("free");
    let finished = run(
        &[
            "usage",
            "simulate",
            "--format",
            "json",
            "--config",
            new.to_str().unwrap(),
            log.to_str().unwrap(),
        ],
        "",
    );
    let found: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (found["calls"].as_u64(), found["refused"].as_u64()),
        (Some(12), Some(refused))
    );
}
