//! Traces as a real collector gets them: named and described by the conventions for generative AI, continued from the caller
//! and by the backend, sampled, and without a word of what was said.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "traces/collector.rs"]
mod collector;
#[path = "support/support.rs"]
mod support;

use std::collections::BTreeSet;

use collector::{Collector, Span};
use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::gateway::Gateway;
use support::http;

const KEY: (&str, &str) = ("api-key", "key-of-the-trace-test");
const PATH: &str = "/v1/chat/completions";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[gateway]
id = "traced-1"
[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "main" }
[products.gold]
[subscriptions.team]
product = "gold"
keys = ["key-of-the-trace-test"]
[backends.first]
url = "@FIRST@/v1"
auth = "none"
[backends.second]
url = "@SECOND@"
schema = "azure-openai"
deployment = "gpt-4o-there"
auth = "none"
[pools.main]
members = [{ backend = "first" }, { backend = "second", priority = 2 }]
[[token-limit]]
name = "wide"
counter-key = "subscription.id"
tokens-per-minute = 1000000
[otlp]
endpoint = "@COLLECTOR@"
protocol = "@PROTOCOL@"
sample = @SAMPLE@
"#;

struct Setup {
    collector: Collector,
    first: Handle,
    second: Handle,
    gateway: Gateway,
}

impl Setup {
    async fn new(protocol: &str, sample: &str) -> Setup {
        let collector = Collector::start();
        let first = Simulator::start_default().await.unwrap();
        let second = Simulator::start_default().await.unwrap();
        second.set(Behaviour {
            content: Content {
                tokens: 7,
                prompt_tokens: Some(100),
                cached_tokens: 64,
                reasoning_tokens: 3,
                ..Content::default()
            },
            ..Behaviour::default()
        });
        let endpoint = match protocol {
            "grpc" => &collector.grpc,
            _ => &collector.http,
        };
        let config = CONFIG
            .replace("@COLLECTOR@", endpoint)
            .replace("@FIRST@", &first.url())
            .replace("@SECOND@", &second.url())
            .replace("@PROTOCOL@", protocol)
            .replace("@SAMPLE@", sample);
        let gateway = Gateway::start(&config);
        Setup {
            collector,
            first,
            second,
            gateway,
        }
    }

    fn call(&self, stream: bool, parent: Option<&str>) -> u16 {
        let body = format!(
            r#"{{"model":"gpt-4o","stream":{stream},"messages":[{{"role":"user","content":"a secret question"}}]}}"#
        );
        let mut headers = vec![KEY];
        headers.extend(parent.map(|parent| ("traceparent", parent)));
        http::post(
            &format!("{}{PATH}?x=in-the-query", self.gateway.url),
            &headers,
            &body,
        )
        .status
    }
}

fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let found = spans.iter().find(|span| span.get("Name") == name);
    found.unwrap_or_else(|| panic!("no span {name:?}: {spans:#?}"))
}

async fn a_failover_as_spans(protocol: &str) {
    let setup = Setup::new(protocol, "0.0").await;
    setup.first.set(Behaviour::status(503));
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    assert_eq!(setup.call(true, Some(&parent)), 200);
    let spans = setup
        .collector
        .spans(4, "gen_ai.response.time_to_first_chunk");
    assert_eq!(spans.len(), 4, "{spans:#?}");
    for span in &spans {
        assert_eq!(span.get("Trace ID"), TRACE);
    }
    let request = named(&spans, "POST chat-completions");
    assert_eq!(request.get("Parent ID"), "b7ad6b7169203331");
    for (name, value) in [
        ("Kind", "SPAN_KIND_SERVER"),
        ("http.request.method", "Str(POST)"),
        ("url.path", "Str(/v1/chat/completions)"),
        ("http.response.status_code", "Int(200)"),
        ("tollgate.subscription", "Str(team)"),
        ("tollgate.product", "Str(gold)"),
        ("tollgate.end", "Str(complete)"),
    ] {
        assert_eq!(request.get(name), value, "{name}");
    }
    let limit = named(&spans, "limit");
    assert_eq!(limit.get("Kind"), "SPAN_KIND_INTERNAL");
    let refused = named(&spans, "chat gpt-4o");
    assert_eq!(refused.get("Status code"), "STATUS_CODE_ERROR");
    assert_eq!(refused.get("error.type"), "Str(5xx)");
    assert_eq!(refused.get("gen_ai.provider.name"), "Str(openai)");
    assert_eq!(refused.get("gen_ai.usage.input_tokens"), "");
    let answered = named(&spans, "chat gpt-4o-there");
    for (name, value) in [
        ("Kind", "SPAN_KIND_CLIENT"),
        ("gen_ai.operation.name", "Str(chat)"),
        ("gen_ai.provider.name", "Str(azure.ai.openai)"),
        ("gen_ai.request.model", "Str(gpt-4o-there)"),
        ("gen_ai.usage.input_tokens", "Int(100)"),
        ("gen_ai.usage.output_tokens", "Int(10)"),
        ("gen_ai.usage.cache_read.input_tokens", "Int(64)"),
        ("gen_ai.usage.reasoning.output_tokens", "Int(3)"),
        ("server.address", "Str(127.0.0.1)"),
        ("tollgate.backend", "Str(second)"),
    ] {
        assert_eq!(answered.get(name), value, "{name}");
    }
    assert!(
        answered
            .get("gen_ai.response.model")
            .starts_with("Str(gpt-4o")
    );
    assert!(
        answered
            .get("gen_ai.response.time_to_first_chunk")
            .starts_with("Double(")
    );
    assert!(answered.get("server.port").starts_with("Int("));
    for part in [limit, refused, answered] {
        assert_eq!(part.get("Parent ID"), request.get("ID"));
    }
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.get("ID")).collect();
    assert_eq!(ids.len(), 4);
    // Each backend continues from the attempt at it.
    for (simulator, span) in [(&setup.first, refused), (&setup.second, answered)] {
        let sent = simulator.requests()[0].headers["traceparent"].clone();
        assert_eq!(sent, format!("00-{TRACE}-{}-01", span.get("ID")));
    }
    let text = setup.collector.text();
    assert!(
        text.contains("service.name: Str(tollgate)") && text.contains("Str(traced-1)"),
        "{text}"
    );
    for private in ["secret question", "key-of-the-trace-test", "in-the-query"] {
        assert!(!text.contains(private), "{private}");
    }
    assert_eq!(
        setup.gateway.metric("tollgate_spans_dropped_total", &[]),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_one_trace_over_grpc() {
    a_failover_as_spans("grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_one_trace_over_http() {
    a_failover_as_spans("http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_sampled_is_sent_and_what_isn_t_is_passed_on_as_it_came() {
    let setup = Setup::new("grpc", "0.0").await;
    let unsampled = format!("00-{TRACE}-b7ad6b7169203331-00");
    assert_eq!(setup.call(false, Some(&unsampled)), 200);
    assert_eq!(setup.call(false, None), 200);
    let sent = setup.first.requests();
    assert_eq!(sent[0].headers["traceparent"], unsampled);
    assert!(!sent[1].headers.contains_key("traceparent"));
    let other = "00-11111111111111111111111111111111-b7ad6b7169203331-01";
    assert_eq!(setup.call(false, Some(other)), 200);
    // What is left is sent before the end.
    assert!(setup.gateway.stop().success());
    let spans = setup.collector.spans(3, "tollgate.usage.source");
    assert_eq!(spans.len(), 3, "{spans:#?}");
    for span in &spans {
        assert_eq!(span.get("Trace ID"), "1".repeat(32));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up_and_its_spans_are_counted() {
    let setup = Setup::new("grpc", "1.0").await;
    drop(setup.collector);
    let url = format!("{}{PATH}", setup.gateway.url);
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    for _ in 0..20 {
        assert_eq!(http::post(&url, &[KEY], body).status, 200);
    }
    setup.gateway.wait_for_log("spans can't be sent");
    setup
        .gateway
        .wait_for_metric("tollgate_spans_dropped_total", &[], 60.0);
}
