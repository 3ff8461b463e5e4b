//! What a caller of one schema sends, and what a backend of another gets: path, query, credential and body, for every
//! pair. The simulator's journal is the witness; that it answers 200 shows that it understood the path.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "schemas/operations.rs"]
mod operations;
#[path = "support/support.rs"]
mod support;
#[path = "schemas/world.rs"]
mod world;

use world::{SCHEMAS, World, credential, text};

/// Odd on purpose: spaces, escapes, an exponent, a field that nobody knows.
const REST: &str = "\"messages\" : [ {\"role\":\"user\",\"content\":\"h\\u00e9llo  \u{1f980}\"} ],\n\t\"max_tokens\": 3 , \"x_unknown\":1.50e2 }";
const QUERY: &str = "b=%41+1&subscription-key=nobody&a=2&a=1&flag&api%2Dkey=nobody";
const QUERY_KEPT: &str = "b=%41+1&a=2&a=1&flag";
const DEFAULT_VERSION: &str = "2024-10-21";

#[tokio::test(flavor = "multi_thread")]
async fn chat_reaches_a_backend_of_every_schema_from_a_caller_of_every_schema() {
    let world = World::start().await;
    for stream in [false, true] {
        for caller in SCHEMAS {
            for backend in SCHEMAS {
                for model in ["same", "renamed"] {
                    chat(&world, caller, backend, model, stream);
                }
            }
        }
    }
}

fn chat(world: &World, caller: &str, backend: &str, model: &str, stream: bool) {
    let case = format!("{caller} to {backend}, {model}, stream {stream}");
    let asked = match stream {
        true => "\"stream\":true, \"stream_options\":{\"include_usage\":true},",
        false => "",
    };
    let named = format!("{{ \"model\" : \"{model}\" ,{asked}{REST}");
    let nameless = format!("{{ {asked}{REST}");
    let (path, version) = match caller {
        "azure-openai" => (
            format!("deployments/{model}/chat/completions"),
            "2025-01-01-preview",
        ),
        "openai" => ("chat/completions".to_owned(), ""),
        _ => ("chat/completions".to_owned(), "2024-05-01-preview"),
    };
    let body = match caller {
        "azure-openai" => &nameless,
        _ => &named,
    };
    let query = match version {
        "" => QUERY.to_owned(),
        version => format!("api-version={version}&{QUERY}"),
    };
    let answer = world.post(&format!("/{caller}/{backend}/{path}?{query}"), body);
    assert_eq!(answer.status, 200, "{case}: {}", answer.text());
    let sent = world.last();

    let name = deployment(model);
    let (path, version) = match backend {
        "azure-openai" => (
            format!("/openai/deployments/{name}/chat/completions"),
            if caller == backend {
                version
            } else {
                DEFAULT_VERSION
            },
        ),
        "openai" => ("/v1/chat/completions".to_owned(), ""),
        _ => (
            "/models/chat/completions".to_owned(),
            if caller == backend {
                version
            } else {
                DEFAULT_VERSION
            },
        ),
    };
    assert_eq!(sent.path, path, "{case}");
    let query = match version {
        "" => QUERY_KEPT.to_owned(),
        version => format!("api-version={version}&{QUERY_KEPT}"),
    };
    assert_eq!(sent.query, query, "{case}");
    let expected = match (caller, backend) {
        // The path names it: the body is left alone.
        (_, "azure-openai") => body.clone(),
        // The body named nothing: the name is put first.
        ("azure-openai", _) => format!("{{\"model\":\"{name}\",{}", &nameless[1..]),
        (_, _) => named.replace(&format!("\"{model}\""), &format!("\"{name}\"")),
    };
    assert_eq!(text(&sent), expected, "{case}");
    credential(&sent, backend, &case);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_reach_a_backend_of_every_schema_from_a_caller_of_every_schema() {
    let world = World::start().await;
    for caller in SCHEMAS {
        for backend in SCHEMAS {
            let case = format!("{caller} to {backend}");
            let path = match caller {
                "azure-openai" => "deployments/renamed/embeddings",
                _ => "embeddings",
            };
            let body = r#"{"input" : ["a","b"], "model":"renamed"}"#;
            let answer = world.post(&format!("/{caller}/{backend}/{path}"), body);
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            let sent = world.last();
            let (path, query, model) = match backend {
                "azure-openai" => (
                    "/openai/deployments/other-name/embeddings",
                    "api-version=2024-10-21",
                    "renamed",
                ),
                "openai" => ("/v1/embeddings", "", "other-name"),
                _ => ("/models/embeddings", "api-version=2024-10-21", "other-name"),
            };
            assert_eq!(
                (sent.path.as_str(), sent.query.as_str()),
                (path, query),
                "{case}"
            );
            assert_eq!(text(&sent), body.replace("renamed", model), "{case}");
            credential(&sent, backend, &case);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_responses_reach_the_schemas_that_have_them() {
    let world = World::start().await;
    let completion = r#"{"model":"renamed", "prompt":"Hi","max_tokens":2}"#;
    let response = r#"{"model":"renamed", "input":"Hi"}"#;
    let azure = "/azure-openai/azure-openai";
    let to_openai = "/azure-openai/openai";
    let from_openai = "/openai/azure-openai";
    let both = "/openai/openai";
    let table = [
        (
            azure,
            "deployments/renamed/completions?api-version=2025-01-01",
            completion,
            "/openai/deployments/other-name/completions",
            "api-version=2025-01-01",
            "renamed",
        ),
        (
            azure,
            "v1/completions",
            completion,
            "/openai/v1/completions",
            "",
            "other-name",
        ),
        (
            azure,
            "v1/chat/completions?api-version=preview",
            CHAT,
            "/openai/v1/chat/completions",
            "api-version=preview",
            "other-name",
        ),
        (
            azure,
            "v1/responses",
            response,
            "/openai/v1/responses",
            "",
            "other-name",
        ),
        (
            azure,
            "responses?api-version=2025-04-01-preview",
            response,
            "/openai/responses",
            "api-version=2025-04-01-preview",
            "other-name",
        ),
        (
            azure,
            "responses",
            response,
            "/openai/responses",
            "api-version=2024-10-21",
            "other-name",
        ),
        (
            to_openai,
            "deployments/renamed/completions",
            completion,
            "/v1/completions",
            "",
            "other-name",
        ),
        (
            to_openai,
            "v1/responses?api-version=preview",
            response,
            "/v1/responses",
            "",
            "other-name",
        ),
        (
            to_openai,
            "responses?api-version=2025-04-01-preview&x=1",
            response,
            "/v1/responses",
            "x=1",
            "other-name",
        ),
        (
            from_openai,
            "completions",
            completion,
            "/openai/deployments/other-name/completions",
            "api-version=2024-10-21",
            "renamed",
        ),
        (
            from_openai,
            "responses",
            response,
            "/openai/v1/responses",
            "",
            "other-name",
        ),
        (
            both,
            "completions",
            completion,
            "/v1/completions",
            "",
            "other-name",
        ),
        (
            both,
            "responses",
            response,
            "/v1/responses",
            "",
            "other-name",
        ),
    ];
    for (api, operation, body, path, query, model) in table {
        let answer = world.post(&format!("{api}/{operation}"), body);
        assert_eq!(answer.status, 200, "{api}/{operation}: {}", answer.text());
        let sent = world.last();
        assert_eq!(
            (sent.path.as_str(), sent.query.as_str()),
            (path, query),
            "{api}/{operation}"
        );
        assert_eq!(
            text(&sent),
            body.replace("renamed", model),
            "{api}/{operation}"
        );
    }
}

const CHAT: &str = r#"{"messages":[{"role":"user","content":"Hi"}], "model":"renamed"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_backends_own_api_version_wins() {
    let world = World::start().await;
    let post = |path: &str| {
        let answer = world.post(path, CHAT);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        world.last().query
    };
    let own = "api-version=2024-12-01-preview";
    assert_eq!(
        post("/versioned/deployments/renamed/chat/completions?api-version=2024-02-01"),
        own
    );
    assert_eq!(post("/versioned/deployments/renamed/chat/completions"), own);
    // The v1 form knows no dated versions.
    assert_eq!(post("/versioned/v1/chat/completions"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_decides_where_the_body_names_another_model() {
    // Azure's SDK names the model in both places.
    let world = World::start().await;
    let body = CHAT.replace("renamed", "same");
    let azure = world.post(
        "/azure-openai/azure-openai/deployments/renamed/chat/completions",
        &body,
    );
    assert_eq!(azure.status, 200, "{}", azure.text());
    assert_eq!(
        world.last().path,
        "/openai/deployments/other-name/chat/completions"
    );
    assert_eq!(text(&world.last()), body);
    let openai = world.post(
        "/azure-openai/openai/deployments/renamed/chat/completions",
        &body,
    );
    assert_eq!(openai.status, 200, "{}", openai.text());
    assert_eq!(text(&world.last()), body.replace("same", "other-name"));
}

fn deployment(model: &str) -> &str {
    match model {
        "renamed" => "other-name",
        same => same,
    }
}
