//! A gateway before one pool, `chat`, whose backends are `b0`, `b1` and so on: what tests of failover need.

use load_tests::simulator::{Handle, Options, Simulator};

use super::gateway::free_address;

/// The key of the only subscription.
pub const KEY: &str = "key-of-the-failover-test";

/// The path of the only API's chat completions.
pub const CHAT: &str = "/v1/chat/completions";

/// A backend, its place in the pool, and the lines of its breaker.
pub struct Member<'a> {
    /// Where it is, as `http://AUTHORITY`.
    pub url: &'a str,
    /// `priority = 1, weight = 2` or the like.
    pub place: &'a str,
    /// Lines of `circuit-breaker`; empty: it has none.
    pub breaker: &'a str,
    /// Its `timeouts`, as a TOML table.
    pub timeouts: &'a str,
}

/// The timeouts of a backend that doesn't fail: all that a loaded machine needs.
pub const PATIENT: &str = r#"{ connect = "20s", first-byte = "50s", between-bytes = "50s" }"#;

/// The configuration; `limits` are lines of `[server.limits]`, `pool` of `[pools.chat]`.
pub fn config(members: &[Member<'_>], limits: &str, pool: &str) -> String {
    let mut text = CONFIG.replace("@KEY@", KEY).replace("@LIMITS@", limits);
    let mut entries = String::new();
    for (number, member) in members.iter().enumerate() {
        let (url, place, breaker) = (member.url, member.place, member.breaker);
        text += &format!(
            "[backends.b{number}]\nurl = \"{url}/v1\"\nauth = {{ bearer = \"backend-key\" }}\n"
        );
        text += &format!("timeouts = {}\n", member.timeouts);
        if !breaker.is_empty() {
            text += &format!("[backends.b{number}.circuit-breaker]\n{breaker}");
        }
        entries += &format!("{{ backend = \"b{number}\", {place} }}, ");
    }
    text + &format!("[pools.chat]\nmembers = [{entries}]\n{pool}\n")
}

/// A simulator whose answers bear this region.
pub async fn simulator(region: &str) -> Handle {
    simulator_at(&free_address(), region).await
}

/// Likewise, at this address. One that shall come back where it was must be at a free address of the tests': a port
/// that the kernel chose may be an outgoing connection's meanwhile.
pub async fn simulator_at(address: &str, region: &str) -> Handle {
    let options = Options {
        listen: address.parse().unwrap(),
        region: region.into(),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[server.limits]
@LIMITS@
[apis.openai]
path = "/v1"
schema = "openai"
models = { "gpt-4o" = "chat" }
[subscriptions.team]
keys = ["@KEY@"]
"#;
