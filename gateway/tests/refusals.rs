//! Every answer that the gateway makes itself: its status, code, headers and shape, and what goes before what.
//!
//! `refusals/backends.rs` has those that a backend is the cause of.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "refusals/backends.rs"]
mod backends;
#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Read, Write};

use support::backend::Backend;
use support::gateway::Gateway;
use support::http::{self, Answer};

const BACKEND_NAME: &str = "backend-of-nobodys-business";
const BACKEND_KEY: &str = "planted-backend-key";
const KEY: &str = "key-of-gold";
const SMALL_KEY: &str = "key-of-small";
const SUSPENDED_KEY: &str = "key-of-suspended";
const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}"#;
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

#[test]
fn a_path_without_an_api_or_operation_is_not_found() {
    let (gateway, backend) = answering();
    for path in [
        "/",
        "/nowhere",
        "/v1",
        "/v1x/chat/completions",
        "/v1/Chat/Completions",
        "/v1/../v1/models",
    ] {
        let answer = post(&gateway, path, &[("api-key", KEY)], CHAT);
        refused(&answer, 404, "not_found", "invalid_request_error");
    }
    // No model, and no default pool to go to.
    let files = http::request(
        "GET",
        &format!("{}/v1/files", gateway.url),
        &[("api-key", KEY)],
        b"",
    );
    refused(&files.unwrap(), 404, "not_found", "invalid_request_error");
    assert!(backend.received().is_empty());
}

#[test]
fn a_call_without_a_valid_key_is_unauthorized() {
    let (gateway, backend) = answering();
    let call = |headers: &[(&str, &str)]| post(&gateway, "/v1/chat/completions", headers, CHAT);
    let missing = "missing_subscription_key";
    let invalid = "invalid_subscription_key";
    refused(&call(&[]), 401, missing, "authentication_error");
    for headers in [
        [("api-key", "wrong")],
        [("api-key", SUSPENDED_KEY)],
        [("authorization", "Bearer wrong")],
        [("ocp-apim-subscription-key", "wrong")],
    ] {
        refused(&call(&headers), 401, invalid, "authentication_error");
    }
    // No key at all, as far as the contract's places go.
    let basic = call(&[("authorization", "Basic dGVzdDp0ZXN0")]);
    refused(&basic, 401, missing, "authentication_error");
    let suspended = call(&[("api-key", SUSPENDED_KEY)]);
    let unknown = call(&[("api-key", "wrong")]);
    assert_eq!(
        suspended.body, unknown.body,
        "a stranger learns which keys were once good"
    );
    assert!(backend.received().is_empty());
}

#[test]
fn the_first_key_found_decides() {
    let (gateway, _backend) = answering();
    let status = |query: &str, headers: &[(&str, &str)]| {
        let path = format!("/v1/chat/completions{query}");
        post(&gateway, &path, headers, CHAT).status
    };
    let bearer = format!("Bearer {KEY}");
    let lower = format!("bearer {KEY}");
    let upper = format!("BEARER {KEY}");
    let by_name = format!("?subscription-key={KEY}");
    let by_other_name = format!("?x=1&api-key={KEY}");
    assert_eq!(status("", &[("api-key", KEY)]), 200);
    assert_eq!(status("", &[("Ocp-Apim-Subscription-Key", KEY)]), 200);
    assert_eq!(status("", &[("Authorization", &bearer)]), 200);
    assert_eq!(status("", &[("authorization", &lower)]), 200);
    assert_eq!(status("", &[("authorization", &upper)]), 200);
    assert_eq!(status(&by_name, &[]), 200);
    assert_eq!(status(&by_other_name, &[]), 200);

    let wrong = [("api-key", "wrong"), ("authorization", bearer.as_str())];
    assert_eq!(status("", &wrong), 401);
    let right = [("authorization", "Bearer wrong"), ("api-key", KEY)];
    assert_eq!(status("", &right), 200);
    assert_eq!(status(&by_name, &[("authorization", "Bearer wrong")]), 401);
    let both = format!("?api-key={KEY}&subscription-key=wrong");
    assert_eq!(status(&both, &[]), 401);
}

#[test]
fn a_product_bounds_apis_and_models() {
    let (gateway, _backend) = answering();
    let call = |path: &str, key: &str, model: &str| {
        let body = CHAT.replace("gpt-4o", model);
        post(&gateway, path, &[("api-key", key)], &body)
    };
    let chat = "/v1/chat/completions";
    assert_eq!(call(chat, SMALL_KEY, "gpt-4o").status, 200);
    assert_eq!(call(chat, SMALL_KEY, "gpt-4o-mini").status, 200);
    assert_eq!(call(chat, KEY, "gpt-5").status, 200);
    let refusal = call(chat, SMALL_KEY, "gpt-5");
    refused(&refusal, 403, "model_not_allowed", "permission_error");
    let streamed = CHAT.replace("gpt-4o\"", "gpt-5\",\"stream\":true");
    let refusal = post(&gateway, chat, &[("api-key", SMALL_KEY)], &streamed);
    refused(&refusal, 403, "model_not_allowed", "permission_error");
    let deployment = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    assert_eq!(call(deployment, KEY, "gpt-4o").status, 200);
    let outside = call(deployment, SMALL_KEY, "gpt-4o");
    refused(
        &outside,
        401,
        "invalid_subscription_key",
        "authentication_error",
    );
}

#[test]
fn an_unknown_model_is_no_deployment() {
    let (gateway, backend) = answering();
    let keys = [("api-key", KEY)];
    let body = CHAT.replace("gpt-4o", "llama");
    for (path, body) in [
        ("/v1/chat/completions", body.as_str()),
        ("/openai/v1/chat/completions", body.as_str()),
        (
            "/openai/deployments/llama/chat/completions?api-version=2024-10-21",
            CHAT,
        ),
    ] {
        let answer = post(&gateway, path, &keys, body);
        refused(&answer, 404, "DeploymentNotFound", "invalid_request_error");
        assert!(answer.text().contains("llama"), "{}", answer.text());
    }
    assert!(backend.received().is_empty());
}

#[test]
fn a_body_that_the_operation_cannot_use_is_refused() {
    let (gateway, backend) = answering();
    let keys = [("api-key", KEY)];
    let wrong = [
        ("chat/completions", "not JSON"),
        ("chat/completions", ""),
        ("chat/completions", "[]"),
        ("chat/completions", r#"{"model":"gpt-4o""#),
        ("chat/completions", r#"{"model":"gpt-4o"}"#),
        ("chat/completions", r#"{"model":"gpt-4o","messages":[]}"#),
        (
            "chat/completions",
            r#"{"model":"gpt-4o","messages":"hello"}"#,
        ),
        (
            "chat/completions",
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            "chat/completions",
            r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            "chat/completions",
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"model":"gpt-5"}"#,
        ),
        (
            "chat/completions",
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"mod\u0065l":"gpt-5"}"#,
        ),
        ("embeddings", r#"{"input":"x"}"#),
        ("embeddings", r#"{"model":"gpt-4o"}"#),
        ("responses", r#"{"input":"x"}"#),
        ("completions", r#"{"prompt":"x"}"#),
    ];
    for (operation, body) in wrong {
        let answer = post(&gateway, &format!("/v1/{operation}"), &keys, body);
        assert_eq!(answer.status, 400, "{operation} {body}: {}", answer.text());
        refused(
            &answer,
            400,
            "invalid_request_body",
            "invalid_request_error",
        );
    }
    assert!(backend.received().is_empty());
}

#[test]
fn what_is_checked_first_is_refused_first() {
    let (gateway, _backend) = answering();
    // Path before key, key before operation, key before body, body before model.
    let answer = post(&gateway, "/nowhere", &[], "not JSON");
    refused(&answer, 404, "not_found", "invalid_request_error");
    let answer = post(
        &gateway,
        "/v1/Chat/Completions",
        &[("api-key", "wrong")],
        CHAT,
    );
    refused(
        &answer,
        401,
        "invalid_subscription_key",
        "authentication_error",
    );
    let answer = post(&gateway, "/v1/chat/completions", &[], "not JSON");
    refused(
        &answer,
        401,
        "missing_subscription_key",
        "authentication_error",
    );
    let no_messages = r#"{"model":"llama"}"#;
    let answer = post(
        &gateway,
        "/v1/chat/completions",
        &[("api-key", KEY)],
        no_messages,
    );
    refused(
        &answer,
        400,
        "invalid_request_body",
        "invalid_request_error",
    );
}

#[test]
fn a_stranger_is_refused_before_the_body_is_asked_for() {
    let (gateway, _backend) = answering();
    let (authority, _) = http::split(&gateway.url);
    let mut stream = http::connect(authority).unwrap();
    stream
        .write_all(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\napi-key: wrong\r\n\
              expect: 100-continue\r\ncontent-length: 1000000\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(stream);
    let (status, _) = http::read_head(&mut reader).unwrap();
    assert_eq!(status, 401, "no 100 Continue may come before it");
}

#[test]
fn a_refused_head_request_gets_no_body() {
    let (gateway, _backend) = answering();
    let (authority, _) = http::split(&gateway.url);
    let mut stream = http::connect(authority).unwrap();
    stream
        .write_all(b"HEAD /nowhere HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "a body came: {text}");
}

fn streaming() -> String {
    CHAT.replacen('{', "{\"stream\":true,", 1)
}

/// The exact shape of the contract, and nothing in it that isn't the caller's business.
fn refused(answer: &Answer, status: u16, code: &str, kind: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-request-id").is_some());
    let json = answer.json();
    let message = json["error"]["message"].as_str().unwrap_or_default();
    assert!(message.len() > 10, "{json}");
    let expected = serde_json::json!({
        "error": { "code": code, "message": message, "type": kind, "param": null }
    });
    assert_eq!(json, expected);
    for secret in [
        BACKEND_NAME,
        BACKEND_KEY,
        KEY,
        SMALL_KEY,
        SUSPENDED_KEY,
        "127.0.0.1",
    ] {
        assert!(
            !answer.text().contains(secret),
            "{secret} in {}",
            answer.text()
        );
    }
    if code != "overloaded" {
        assert_eq!(answer.header("retry-after"), None);
    }
}

fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    http::post(&format!("{}{path}", gateway.url), headers, body)
}

fn answering() -> (Gateway, Backend) {
    let json = [("content-type", "application/json")];
    let backend = Backend::fixed(200, &json, ANSWER);
    (gateway(&backend.url, ""), backend)
}

fn gateway(backend_url: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 1

[server.limits]
max-concurrent-requests = 2

[apis.azure]
path = "/openai"
schema = "azure-openai"
models = {{ "gpt-*" = "main" }}

[apis.v1]
path = "/v1"
schema = "openai"
models = {{ "gpt-*" = "main" }}

[pools.main]
members = [{{ backend = "{BACKEND_NAME}" }}]

[backends.{BACKEND_NAME}]
url = "{backend_url}"
schema = "openai"
auth = {{ api-key = "{BACKEND_KEY}" }}
{more}

[products.small]
apis = ["v1"]
models = ["gpt-4o*"]

[subscriptions.gold]
keys = ["{KEY}"]

[subscriptions.small]
product = "small"
keys = ["{SMALL_KEY}"]

[subscriptions.suspended]
state = "suspended"
keys = ["{SUSPENDED_KEY}"]
"#
    ))
}
